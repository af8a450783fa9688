"""Every check, in the order of the report. A new one is a file beside this one and a line here."""

from __future__ import annotations

from gpuctl.verify.base import Check
from gpuctl.verify.checks import (
    clu_01_nodes,
    clu_02_version,
    clu_03_etcd,
    clu_06_snapshot,
    clu_07_api,
    clu_08_system_pods,
    clu_09_pod_network,
    clu_12_dns,
    clu_18_certificates,
    inf_01_vms,
    inf_02_cards,
    inf_04_drift,
    inf_05_access,
    inf_06_size,
    inf_07_clock,
    sec_01_private_files,
    sec_02_anonymous,
    sec_04_secrets_at_rest,
)

ALL: tuple[Check, ...] = (
    inf_01_vms.CHECK,
    inf_02_cards.CHECK,
    inf_04_drift.CHECK,
    inf_05_access.CHECK,
    inf_06_size.CHECK,
    inf_07_clock.CHECK,
    clu_01_nodes.CHECK,
    clu_02_version.CHECK,
    clu_03_etcd.CHECK,
    clu_06_snapshot.CHECK,
    clu_07_api.CHECK,
    clu_08_system_pods.CHECK,
    clu_09_pod_network.CHECK,
    clu_12_dns.CHECK,
    clu_18_certificates.CHECK,
    sec_01_private_files.CHECK,
    sec_02_anonymous.CHECK,
    sec_04_secrets_at_rest.CHECK,
)
