"""Every check, judged from facts: a healthy cluster passes all, each kind of damage fails or leaves unknown its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from gpuctl.phases.gpu.observe import Card, Offer
from gpuctl.phases.gpu.observe import Host as CardHost
from gpuctl.phases.manage.fleet import COUNTS, Seen
from gpuctl.render import storage
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.load import load
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import PciMapping, Vm
from gpuctl.verify.base import GROUPS, SLOW, Measurement
from gpuctl.verify.checks import ALL, STRESS
from gpuctl.verify.facts import (
    Clock,
    Cluster,
    Compute,
    Endpoint,
    EtcdMember,
    Facts,
    GitOps,
    Gpus,
    Host,
    Hub,
    Hypervisor,
    Interface,
    Management,
    Notebook,
    Snapshot,
    Storage,
    Volume,
)
from gpuctl.verify.facts import Path as Way
from gpuctl.verify.run import Choice, judge
from gpuctl.verify.stress import COPY_TESTS, Run, Stress, tools

NOW = 1_800_000_000.0
GONE = GpuctlError("wk-gpu1 cannot be reached")
NOTEBOOKS = """
jupyterhub:
  hostname: hub.example
  auth: {kind: dummy, i_know_that_anybody_can_log_in: true, allow_all: true}
  scratch: {size: 50GiB}
"""
GITOPS = """
management:
  rancher: {hostname: rancher.example}
  gitops: {repo: "https://git.example/clusters.git", path: clusters/homelab, bundles: [tests, policies]}
"""


def spec() -> Resolved:
    """The example with notebooks, NFS, Rancher and a repository."""
    text = (Path(__file__).parents[3] / "examples/homelab.yaml").read_text(encoding="utf-8").partition("management:")[0]
    with TemporaryDirectory() as folder:
        file = Path(folder, "cluster.yaml")
        file.write_text(text + NOTEBOOKS + GITOPS, encoding="utf-8")
        resolved = load(file).resolved
    assert resolved
    return resolved


SPEC = spec()
SERVERS = [node.name for node in SPEC.servers]


def node_object(name: str, *, ready: str = "True", version: str = "v1.35.4+k3s1") -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": ready, "message": "kubelet stopped posting"}],
            "nodeInfo": {"kubeletVersion": version},
        },
    }


def pod(name: str, *, ready: str = "True", restarts: int = 0, age: float = 3600) -> dict[str, Any]:
    started = datetime.fromtimestamp(NOW - age, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    container = {"restartCount": restarts, "state": {"running": {"startedAt": started}}}
    conditions = [{"type": "Ready", "status": ready}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
    return {"metadata": {"name": name}, "status": status}


def healthy() -> Facts:
    members = {name: f"{number:x}" for number, name in enumerate(SERVERS, start=10)}
    hosts: dict[str, Host | GpuctlError] = {}
    mappings, configs = {}, {}
    for number, node in enumerate(SPEC.nodes):
        etcd = None
        if node.is_server:
            others = tuple(sorted(set(members.values()) - {members[node.name]}))
            etcd = EtcdMember(members[node.name], True, node.name == "cp2", True, others, 4711)
        snapshot = Snapshot("first-cp1-1", 3600, True, 7, 0) if node.name == "cp1" else None
        certificates = {"/var/lib/rancher/k3s/agent/client-kubelet.crt": 300 * 86400.0}
        modes = {"/etc/rancher/node/password": 0o600}
        memory = int(node.memory * 0.985)
        hosts[node.name] = Host(Clock(0.01, 0.05, 0.3), node.cpus, memory, certificates, modes, etcd, snapshot)
        configs[node.vm_id] = {"name": node.name}
        for slot in range(node.gpus.count if node.gpus else 0):
            name = f"homelab-{node.name}-gpu{slot}"
            mappings[name] = PciMapping(name, "", (f"0000:{number}{slot}:00.0",), ())
            configs[node.vm_id][f"hostpci{slot}"] = f"mapping={name},pcie=1"
    vms = {node.vm_id: Vm(node.vm_id, node.name, "pve", "running", ()) for node in SPEC.nodes}
    return Facts(
        NOW,
        modes={"kubeconfig": 0o600},
        proxmox=Hypervisor(vms, configs, mappings, dict.fromkeys(vms, 0.1)),
        terraform=(),
        hosts=hosts,
        kubernetes=Cluster(
            tuple(node_object(node.name) for node in SPEC.nodes),
            (pod("coredns-1"), {"metadata": {"name": "job"}, "status": {"phase": "Succeeded"}}),
            (),
            {"gpu-operator/gpu-operator": "deployed"},
            {name: Endpoint((0.01,) * 100, 100, "") for name in [*SERVERS, "VIP"]},
            {"/api": 401},
            deprecated=dict.fromkeys(SERVERS, (("v1 endpoints", ""),)),
        ),
        intruders={node.name: 0 for node in SPEC.agents},
        gpus=healthy_gpus(),
        paths={node.name: way(node.name) for node in SPEC.nodes},
        starts={node.name: (0.9,) for node in SPEC.nodes},
        stress={node.name: stress(node.name) for node in SPEC.agents},
        hub=healthy_hub(),
        notebooks=healthy_notebooks(),
        gitops=healthy_gitops(),
        services={node.name: {"the API's ClusterIP": 5, "the ingress": 5} for node in SPEC.nodes},
        storage=healthy_storage(),
        volumes={name: Volume(4.0, "5eed", "5eed", "cp1", "cp2") for name in CLASSES},
        management=Management(200, 0.2, "", 3, "", False),
    )


HEAD = "1234567890abcdef"


def bundle(name: str, state: str = "Ready", message: str = "", seen: int = 3) -> dict[str, Any]:
    labels = {"fleet.cattle.io/repo-name": "gpuctl", "fleet.cattle.io/commit": HEAD}
    conditions = [{"type": "Ready", "status": str(state == "Ready"), "message": message}]
    status = {"display": {"state": state}, "conditions": conditions, "observedGeneration": seen}
    return {"metadata": {"name": name, "labels": labels, "generation": 3}, "status": status}


CLASSES = ("fast-scratch", "local-disk", "nfs-client")


def storage_class(name: str, **changed: Any) -> dict[str, Any]:
    wanted = next(one for one in storage.classes(SPEC).values["classes"] if one["name"] == name)
    fields = {field: wanted[field] for field in ("provisioner", "reclaimPolicy", "volumeBindingMode")}
    default = str(changed.pop("default", wanted["default"])).lower()
    annotations = {"storageclass.kubernetes.io/is-default-class": default}
    return {"metadata": {"name": name, "annotations": annotations}, **fields, **changed}


def healthy_storage(*others: dict[str, Any], **changed: Any) -> Storage:
    """``changed``: of nfs-client; ``others`` beside the spec's."""
    wanted = (storage_class(name, **(changed if name == "nfs-client" else {})) for name in CLASSES)
    return Storage((*wanted, *others))


def with_classes(*others: dict[str, Any], **changed: Any) -> Facts:
    return replace(healthy(), storage=healthy_storage(*others, **changed))


def with_volume(name: str, found: GpuctlError | None = None, **changed: Any) -> Facts:
    volume = healthy().tried[name]
    assert isinstance(volume, Volume)
    return replace(healthy(), volumes={**healthy().tried, name: found or replace(volume, **changed)})


def with_services(name: str, found: Mapping[str, int] | GpuctlError) -> Facts:
    return replace(healthy(), services={**healthy().served, name: found})


def with_rancher(**changed: Any) -> Facts:
    return replace(healthy(), management=replace(healthy().managed, **changed))


def gitrepo(*, conditions: Mapping[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """``conditions`` that differ from healthy: their message, "" for True."""
    said = {"Ready": "", "GitPolling": "", "Accepted": "", **(conditions or {})}
    listed = [
        {"type": kind, "status": str(not text), "message": text} for kind, text in said.items() if kind != "Stalled"
    ]
    if "Stalled" in said:
        listed.append({"type": "Stalled", "status": "True", "message": said["Stalled"]})
    healthy_status = {"commit": HEAD, "observedGeneration": 2, "readyClusters": 1, "desiredReadyClusters": 1}
    summary = {"ready": 2, "desiredReady": 2}
    whole = {"conditions": listed, "summary": summary, **healthy_status, **status}
    return {"metadata": {"name": "gpuctl", "generation": 2}, "spec": {}, "status": whole}


def healthy_gitops() -> GitOps:
    names = [f"gpuctl-clusters-homelab-{name}" for name in ("tests", "policies")]
    return GitOps(HEAD, Seen(True, gitrepo(), {name: bundle(name) for name in names}), ())


def with_gitrepo(*, controllers: tuple[str, ...] = (), **changed: Any) -> Facts:
    seen = replace(healthy_gitops().seen, repo=gitrepo(**changed))
    return replace(healthy(), gitops=replace(healthy_gitops(), seen=seen, controllers=controllers))


def with_bundle(**changed: Any) -> Facts:
    name = "gpuctl-clusters-homelab-tests"
    seen = healthy_gitops().seen
    changed = replace(seen, bundles={**seen.bundles, name: bundle(name, **changed)})
    return replace(healthy(), gitops=replace(healthy_gitops(), seen=changed))


def with_fleet(**changed: Any) -> Facts:
    return replace(healthy(), gitops=replace(healthy_gitops(), **changed))


def way(name: str, *, speed: float | None = None, **changed: Any) -> Way:
    """From this node's pod to all others; bandwidth to one of them."""
    passed = {node.name: 1450 for node in SPEC.nodes if node.name != name}
    peer, lost = next(iter(passed)), dict.fromkeys(passed, 0)
    found = Way(1450, Interface("eth0", 1500, speed), 100, 100, lost, passed, {peer: 8e9}, {peer: 11e9})
    return replace(found, **changed)


def with_way(name: str, found: Way | GpuctlError) -> Facts:
    return replace(healthy(), paths={**healthy().ways, name: found})


def with_starts(name: str, found: tuple[float, ...] | GpuctlError) -> Facts:
    return replace(healthy(), starts={**healthy().started, name: found})


def with_deprecated(name: str, found: tuple[tuple[str, str], ...] | GpuctlError) -> Facts:
    return with_cluster(deprecated={**healthy().cluster.deprecated, name: found})


def stress(name: str, **changed: Any) -> Stress:
    """wk-gpu1's two cards are bridged, those of the others are not."""
    bridged = name == "wk-gpu1"
    run = Run((0, 1), True, tools.Reduction(198.0 if bridged else 20.0, 0))
    tests = ("software", "memory_bandwidth", "targeted_stress", "diagnostic")
    found = Stress(
        {(0, 1): "NV12" if bridged else "PHB"},
        dict.fromkeys(COPY_TESTS, (24.5, 24.6)),
        {f"GPU-{name}-{number}": tools.Link(4, 16) for number in range(2)},
        (run,),
        tuple(tools.Diagnosis(test, str(gpu), "pass", "") for test in tests for gpu in range(2)),
        tools.Throttling(700.0, {f"GPU-{name}-0": 2, f"GPU-{name}-1": 0}),
        {"wk-gpu2": tools.Reduction(1.3, 0)},
        20.5,
    )
    return replace(found, **changed)


def with_stress(name: str, **changed: Any) -> Facts:
    return replace(healthy(), stress={**healthy().stressed, name: stress(name, **changed)})


def without_stress(name: str) -> Facts:
    held = GpuctlError("its cards are held by jupyter/alice")
    return replace(healthy(), stress={**healthy().stressed, name: held})


def with_diagnosis(test: str, status: str) -> Facts:
    """Of one test on the second card of wk-gpu2."""
    diagnoses = stress("wk-gpu2").diagnoses
    assert not isinstance(diagnoses, GpuctlError)
    worse = tools.Diagnosis(test, "1", status, "too slow")
    changed = tuple(worse if (d.test, d.gpu) == (test, "1") else d for d in diagnoses)
    return with_stress("wk-gpu2", diagnoses=changed)


def user_pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "jupyter-alice"}, "spec": {"containers": [{"name": "notebook"}], **spec}}


def healthy_hub() -> Hub:
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    return Hub("", "5.4.2", 0.1, "4.4.0", "5.4.2", labels, (user_pod(volumes=[{"name": "home"}]),))


def healthy_notebooks() -> dict[str, Notebook]:
    targets = ("hub", "Kubernetes API", "cloud metadata")
    plain = Compute(0, "", 0, True)
    first = Notebook(
        "wk-gpu1", 4.0, compute=plain, kept=True, scratch=9e8, disk=1e9, targets=targets, reached=("hub",), released=3.0
    )
    cards = {"gpu-1": 1, "gpu-2": 2}
    return {
        "cpu": first,
        **{
            name: Notebook("wk-gpu1", 8.0, compute=Compute(count, "PyTorch 2.9.0", count, True), released=4.0)
            for name, count in cards.items()
        },
    }


def with_hub(**changed: Any) -> Facts:
    return replace(healthy(), hub=replace(healthy_hub(), **changed))


def with_notebook(profile: str, **changed: Any) -> Facts:
    notebooks = healthy_notebooks()
    return replace(healthy(), notebooks={**notebooks, profile: replace(notebooks[profile], **changed)})


def held(profile: str) -> Facts:
    """It never started, since others have the cards."""
    waiting = Notebook(held="cards are held by jupyterhub/jupyter-alice")
    return replace(healthy(), notebooks={**healthy_notebooks(), profile: waiting})


def broken(profile: str) -> Facts:
    failed = Notebook(error="the notebook does not start: ImagePullBackOff")
    return replace(healthy(), notebooks={**healthy_notebooks(), profile: failed})


def card(uuid: str) -> Card:
    rows = {"correctable": "0", "uncorrectable": "0", "pending": "No", "failure": "No"}
    return Card(uuid, "00000000:01:00.0", "NVIDIA A100 80GB PCIe", "580.105.08", "Enabled", "0", rows)


def healthy_gpus() -> Gpus:
    hosts: dict[str, CardHost | GpuctlError] = {}
    offers, exporters = {}, {}
    barriers = ("cuda-ready", "driver-ready", "plugin-ready", "toolkit-ready")
    for node in SPEC.agents:
        uuids = (f"GPU-{node.name}-0", f"GPU-{node.name}-1")
        cards = tuple(card(uuid) for uuid in uuids)
        hosts[node.name] = CardHost("boot", ("0000:01:00.0", "0000:02:00.0"), cards, True, True, barriers, "")
        labels = {"nvidia.com/gpu.product": "NVIDIA-A100-80GB-PCIe", "nvidia.com/gpu.count": "2"}
        proof = {"boot": "boot", "driver": "580.105.08", "cards": list(uuids)}
        offers[node.name] = Offer({"nvidia.com/gpu": 2}, (), labels, proof)
        exporters[node.name] = {uuid: {"DCGM_FI_DEV_XID_ERRORS": 0.0} for uuid in uuids}
    return Gpus(hosts, offers, "ready", "v26.3.3", exporters)


def with_gpus(**changed: Any) -> Facts:
    return replace(healthy(), gpus=replace(healthy_gpus(), **changed))


def with_card_host(**changed: Any) -> Facts:
    """wk-gpu1 differs."""
    gpus = healthy_gpus()
    host = gpus.hosts["wk-gpu1"]
    assert isinstance(host, CardHost)
    return with_gpus(hosts={**gpus.hosts, "wk-gpu1": replace(host, **changed)})


def with_card(**changed: Any) -> Facts:
    return with_card_host(cards=(card("GPU-wk-gpu1-0"), replace(card("GPU-wk-gpu1-1"), **changed)))


def with_offer(**changed: Any) -> Facts:
    offers = healthy_gpus().offers
    return with_gpus(offers={**offers, "wk-gpu1": replace(offers["wk-gpu1"], **changed)})


def with_exporter(said: Any) -> Facts:
    return with_gpus(exporters={**healthy_gpus().exporters, "wk-gpu1": said})


def without_card_host() -> Facts:
    return with_gpus(hosts={**healthy_gpus().hosts, "wk-gpu1": GONE})


HALF_PROVEN = {"boot": "boot", "driver": "580.105.08", "cards": ["GPU-wk-gpu1-0"]}
ROWS = card("").rows


EVERY = (*ALL, *STRESS)


def verdict(id: str, facts: Facts) -> Measurement:
    return judge(next(check for check in EVERY if check.id == id), SPEC, facts)


def with_host(name: str, **changed: Any) -> Facts:
    facts = healthy()
    hosts = facts.hosts
    assert isinstance(hosts, Mapping)
    host = hosts[name]
    assert isinstance(host, Host)
    return replace(facts, hosts={**hosts, name: replace(host, **changed)})


def with_etcd(name: str, **changed: Any) -> Facts:
    member = healthy().reached[name].etcd
    assert member
    return with_host(name, etcd=replace(member, **changed))


def with_snapshot(**changed: Any) -> Facts:
    snapshot = healthy().reached["cp1"].snapshot
    assert snapshot
    return with_host("cp1", snapshot=replace(snapshot, **changed))


def without_host(name: str) -> Facts:
    facts = healthy()
    assert isinstance(facts.hosts, Mapping)
    return replace(facts, hosts={**facts.hosts, name: GONE})


def with_server(**changed: Any) -> Facts:
    return replace(healthy(), proxmox=replace(healthy().hypervisor, **changed))


def with_cluster(**changed: Any) -> Facts:
    return replace(healthy(), kubernetes=replace(healthy().cluster, **changed))


def with_intruder(name: str, cards: int | GpuctlError) -> Facts:
    return replace(healthy(), intruders={**healthy().intruded, name: cards})


def other_nodes(**first: Any) -> tuple[dict[str, Any], ...]:
    return tuple(node_object(node.name, **(first if node.name == "cp1" else {})) for node in SPEC.nodes)


VM = SPEC.node("wk-gpu1").vm_id
OTHER = {9999: {"hostpci0": "0000:30:00,pcie=1"}}
DAMAGE: list[tuple[str, str, Callable[[], Facts], str]] = [
    ("INF-01", "fail", lambda: with_server(vms={}), "wk-gpu4: VM 9024 does not exist"),
    (
        "INF-01",
        "fail",
        lambda: with_server(vms={**healthy().hypervisor.vms, VM: Vm(VM, "wk-gpu1", "pve", "stopped", ())}),
        "wk-gpu1: VM 9021 is stopped",
    ),
    (
        "INF-02",
        "fail",
        lambda: with_server(configs={**healthy().hypervisor.configs, VM: {}}),
        "wk-gpu1: 0 cards instead of 2",
    ),
    (
        "INF-02",
        "fail",
        lambda: with_server(configs={**healthy().hypervisor.configs, **OTHER}),
        "card 0000:30:00.0: given to VMs 9021, 9999",
    ),
    ("INF-04", "fail", lambda: replace(healthy(), terraform=("vm/cp1: update",)), "vm/cp1: update"),
    ("INF-04", "unknown", lambda: replace(healthy(), terraform=GONE), "cannot be reached"),
    ("INF-05", "fail", lambda: without_host("wk-gpu1"), "wk-gpu1: no SSH"),
    (
        "INF-05",
        "fail",
        lambda: with_server(agents={**healthy().hypervisor.agents, VM: None}),
        "guest agent does not answer",
    ),
    ("INF-05", "fail", lambda: with_host("cp1", clock=Clock(0, 0, 5.5)), "cp1: SSH took 5.5 s"),
    ("INF-06", "fail", lambda: with_host("cp1", cpus=3), "cp1: 3 CPUs instead of 4"),
    ("INF-06", "fail", lambda: with_host("cp1", memory=15 << 30), "cp1: memory is -6.2%"),
    ("INF-06", "unknown", lambda: without_host("wk-gpu1"), "wk-gpu1 cannot be reached"),
    ("INF-07", "fail", lambda: with_host("cp1", clock=Clock(-0.7, 0.1, 0.3)), "cp1: -0.70 s"),
    ("INF-07", "unknown", lambda: with_host("cp1", clock=Clock(0.1, 0.6, 0.3)), "too slowly"),
    ("CLU-01", "fail", lambda: with_cluster(nodes=other_nodes(ready="False")), "cp1: not Ready: kubelet stopped"),
    ("CLU-01", "fail", lambda: with_cluster(nodes=()), "cp1: not in the cluster"),
    ("CLU-01", "fail", lambda: with_cluster(nodes=(*other_nodes(), node_object("x"))), "x: not in the spec"),
    ("CLU-02", "fail", lambda: with_cluster(nodes=other_nodes(version="v1.35.3+k3s1")), "cp1: v1.35.3+k3s1"),
    ("CLU-02", "fail", lambda: with_cluster(nodes=()), "no nodes"),
    ("CLU-03", "fail", lambda: with_host("cp1", etcd=None), "cp1: no etcd member answers"),
    ("CLU-03", "fail", lambda: with_etcd("cp1", healthy=False), "cp1: unhealthy"),
    ("CLU-03", "fail", lambda: with_etcd("cp1", peers=("b",)), "cp1: knows 2 members"),
    ("CLU-03", "fail", lambda: with_etcd("cp1", id="f", peers=("b", "e")), "belongs to another etcd cluster"),
    ("CLU-03", "fail", lambda: with_etcd("cp1", leader=True), "leader: 2 of them"),
    ("CLU-03", "fail", lambda: with_etcd("cp2", leader=False), "leader: 0 of them"),
    ("CLU-03", "unknown", lambda: without_host("cp3"), "cp3"),
    ("CLU-06", "fail", lambda: with_host("cp1", snapshot=None), "no server has one"),
    ("CLU-06", "fail", lambda: with_snapshot(age=90000), "is 25 h old"),
    ("CLU-06", "fail", lambda: with_snapshot(intact=False), "damaged"),
    ("CLU-06", "unknown", lambda: with_snapshot(intact=None), "no checksum"),
    (
        "CLU-07",
        "fail",
        lambda: with_cluster(endpoints={**healthy().cluster.endpoints, "VIP": Endpoint((), 100, "refused")}),
        "VIP: refused",
    ),
    (
        "CLU-07",
        "fail",
        lambda: with_cluster(endpoints={"cp1": Endpoint((0.01,) * 98 + (1.5, 2.0), 100, "")}),
        "cp1: p99 1.50 s",
    ),
    ("CLU-08", "fail", lambda: with_cluster(system_pods=()), "kube-system is empty"),
    ("CLU-08", "fail", lambda: with_cluster(system_pods=(pod("a", ready="False"),)), "a: Running"),
    ("CLU-08", "fail", lambda: with_cluster(system_pods=(pod("a", restarts=1, age=30),)), "within the last minute"),
    (
        "CLU-09",
        "fail",
        lambda: with_way("cp1", way("cp1", lost={n.name: 34 for n in SPEC.nodes if n.name != "cp1"})),
        "34 % lost to cp2",
    ),
    ("CLU-09", "unknown", lambda: with_way("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    (
        "CLU-10",
        "fail",
        lambda: with_way("cp1", way("cp1", pods={"cp2": 1e9})),
        "cp1 to cp2: 1.00 Gbit/s, 9% of the hosts",
    ),
    ("CLU-10", "fail", lambda: with_way("cp1", way("cp1", speed=25e9)), "cp1 to cp2: 8.00 Gbit/s, 32% of the card"),
    (
        "CLU-10",
        "fail",
        lambda: with_way("cp1", way("cp1", pods={"cp2": GONE})),
        "cp1 to cp2: wk-gpu1 cannot be reached",
    ),
    ("CLU-10", "unknown", lambda: with_way("cp1", way("cp1", hosts={"cp2": GONE})), "cp1: between the hosts: wk-gpu1"),
    ("CLU-10", "unknown", lambda: with_way("cp1", way("cp1", pods={}, hosts={})), "cp1: no other node's pod"),
    ("CLU-10", "unknown", lambda: with_way("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    (
        "CLU-11",
        "fail",
        lambda: with_way("cp1", way("cp1", passed={"cp2": 1353, "cp3": 0})),
        "cp1: 1353 of 1450 bytes reach cp2, nothing reaches cp3",
    ),
    ("CLU-11", "unknown", lambda: with_way("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    ("CLU-12", "fail", lambda: with_way("cp1", way("cp1", resolved=99)), "cp1: 99 of 100"),
    ("CLU-12", "unknown", lambda: with_way("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    ("CLU-17", "fail", lambda: with_starts("cp1", (6.9, 7.2)), "cp1: 6.9 s at best"),
    ("CLU-17", "unknown", lambda: with_starts("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    ("CLU-17", "unknown", lambda: with_starts("wk-gpu1", ()), "wk-gpu1: no pod was started"),
    (
        "CLU-18",
        "fail",
        lambda: with_cluster(requests=({"metadata": {"name": "csr-1"}, "status": {}},)),
        "csr-1: waits for approval",
    ),
    ("CLU-18", "fail", lambda: with_host("cp1", certificates={"/a.crt": 86400.0}), "cp1:/a.crt: 1 d left"),
    ("CLU-18", "fail", lambda: with_host("cp1", certificates={}), "cp1: has no K3s certificates"),
    ("CLU-19", "fail", lambda: with_deprecated("cp1", (("a.io/v1beta1 things", "1.36"),)), "gone in Kubernetes 1.36"),
    ("CLU-19", "fail", lambda: with_deprecated("cp1", (("a.io/v1beta1 things", ""),)), "deprecated by its maker"),
    ("CLU-19", "unknown", lambda: with_deprecated("cp3", GONE), "cannot be reached"),
    (
        "GPU-01",
        "fail",
        lambda: with_card_host(pci=("0000:01:00.0",)),
        "wk-gpu1: PCI: the host has 1 cards instead of 2",
    ),
    ("GPU-01", "fail", lambda: with_card_host(error="no driver", cards=()), "wk-gpu1: driver: no driver"),
    ("GPU-01", "fail", lambda: with_card_host(cards=(card("a"),)), "nvidia-smi lists 1 of 2 cards"),
    ("GPU-01", "fail", lambda: with_card_host(toolkit=False), "wk-gpu1: toolkit"),
    ("GPU-01", "fail", lambda: with_card_host(runtime=False), "wk-gpu1: runtime"),
    ("GPU-01", "fail", lambda: with_offer(allocatable={"nvidia.com/gpu": 1}), "device plugin: the node offers"),
    ("GPU-01", "fail", lambda: with_gpus(offers={}), "wk-gpu1: node: it is not in the cluster"),
    ("GPU-01", "unknown", without_card_host, "wk-gpu1 cannot be reached"),
    ("GPU-02", "fail", lambda: with_card_host(barriers=("driver-ready",)), "wk-gpu1: no toolkit-ready, cuda-ready"),
    ("GPU-02", "fail", lambda: with_gpus(policy="notReady"), "ClusterPolicy: notReady"),
    ("GPU-02", "unknown", without_card_host, "wk-gpu1 cannot be reached"),
    ("GPU-03", "fail", lambda: with_gpus(operator="v25.3.4"), "v25.3.4 instead of v26.3.3"),
    ("GPU-03", "fail", lambda: with_gpus(operator=""), "GPU Operator: not installed"),
    ("GPU-03", "fail", lambda: with_card_host(cards=(replace(card("a"), driver="570.1"),)), "wk-gpu1: driver 570.1"),
    ("GPU-04", "fail", lambda: with_offer(proof={}), "CUDA has not run on GPU-wk-gpu1-0, GPU-wk-gpu1-1"),
    ("GPU-04", "fail", lambda: with_card_host(boot="another"), "CUDA has not run on"),
    ("GPU-04", "fail", lambda: with_card(driver="1", uuid="GPU-new"), "CUDA has not run on GPU-new"),
    ("GPU-04", "unknown", lambda: with_offer(proof=HALF_PROVEN, held=(("jupyter/alice", 1),)), "held by jupyter/alice"),
    ("GPU-04", "unknown", without_card_host, "wk-gpu1 cannot be reached"),
    ("GPU-07", "fail", lambda: with_intruder("wk-gpu1", 2), "sees 2 cards"),
    ("GPU-07", "unknown", lambda: with_intruder("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    ("GPU-16", "fail", lambda: with_card(ecc_uncorrectable="3"), "3 uncorrectable SRAM errors"),
    ("GPU-16", "fail", lambda: with_card(rows={**ROWS, "pending": "Yes"}), "a row remap is pending"),
    ("GPU-16", "fail", lambda: with_card(rows={**ROWS, "failure": "Yes"}), "a row remap is failure"),
    ("GPU-16", "fail", lambda: with_card(rows={**ROWS, "correctable": "513"}), "513 remapped rows"),
    ("GPU-16", "unknown", lambda: with_card(ecc_uncorrectable="[N/A]"), "no numbers for wk-gpu1"),
    ("GPU-17", "fail", lambda: with_exporter({"GPU-a": {"DCGM_FI_DEV_XID_ERRORS": 79.0}}), "wk-gpu1 GPU-a: Xid 79"),
    ("GPU-17", "unknown", lambda: with_exporter(GONE), "cannot be reached"),
    ("GPU-17", "unknown", lambda: with_exporter({"GPU-a": {}}), "has no DCGM_FI_DEV_XID_ERRORS"),
    ("GPU-19", "fail", lambda: with_card(persistence="Disabled"), "GPU-wk-gpu1-1: Disabled"),
    ("GPU-21", "fail", lambda: with_exporter({}), "no metrics of GPU-wk-gpu1-0, GPU-wk-gpu1-1"),
    ("GPU-21", "fail", lambda: with_exporter(GONE), "cannot be reached"),
    ("GPU-21", "fail", lambda: with_gpus(exporters={}), "wk-gpu1: no exporter runs there"),
    ("GPU-22", "fail", lambda: with_offer(labels={}), "no product label instead of NVIDIA-A100-80GB-PCIe"),
    (
        "GPU-22",
        "fail",
        lambda: with_offer(labels={"nvidia.com/gpu.product": "NVIDIA-A100-80GB-PCIe", "nvidia.com/gpu.count": "1"}),
        "1 cards by label instead of 2",
    ),
    (
        "GPU-08",
        "fail",
        lambda: with_stress("wk-gpu2", copies=dict.fromkeys(COPY_TESTS, (24.0, 12.5))),
        "card 1 12.5 GB/s",
    ),
    ("GPU-08", "unknown", lambda: with_stress("wk-gpu2", copies={COPY_TESTS[0]: (24.0,)}), "did not run every test"),
    ("GPU-08", "unknown", lambda: with_stress("wk-gpu2", copies=GpuctlError("no tool")), "wk-gpu2: no tool"),
    ("GPU-09", "fail", lambda: with_stress("wk-gpu2", links={"GPU-a": tools.Link(1, 16)}), "GPU-a: generation 1"),
    ("GPU-09", "unknown", lambda: without_stress("wk-gpu2"), "held by jupyter/alice"),
    ("GPU-10", "fail", lambda: with_diagnosis("memory_bandwidth", "fail"), "wk-gpu2 GPU 1 memory_bandwidth: too slow"),
    ("GPU-10", "unknown", lambda: with_diagnosis("memory_bandwidth", "skip"), "memory_bandwidth: skip"),
    ("GPU-10", "unknown", lambda: without_stress("wk-gpu2"), "held by jupyter/alice"),
    ("GPU-11", "fail", lambda: with_diagnosis("targeted_stress", "fail"), "GPU 1 targeted_stress: too slow"),
    ("GPU-11", "unknown", lambda: with_stress("wk-gpu2", diagnoses=()), "DCGM ran none of these tests"),
    (
        "GPU-12",
        "fail",
        lambda: with_stress("wk-gpu1", runs=(Run((0, 1), True, tools.Reduction(40.0, 0)),)),
        "wk-gpu1 cards 0 and 1: 40.0 GB/s",
    ),
    ("GPU-12", "unknown", lambda: with_stress("wk-gpu1", runs=(Run((0, 1), False, None),)), "did not end"),
    ("GPU-12", "unknown", lambda: with_stress("wk-gpu1", pairs=GpuctlError("no matrix")), "no matrix"),
    ("GPU-12", "skipped", lambda: with_stress("wk-gpu1", pairs={(0, 1): "PHB"}), "no two cards are bridged"),
    ("GPU-13", "fail", lambda: with_stress("wk-gpu2", baseline=40.0), "wk-gpu2: 20.0 GB/s, 40.0 at first"),
    ("GPU-13", "unknown", lambda: with_stress("wk-gpu2", baseline=None), "its first measurement (20.0 GB/s)"),
    ("GPU-13", "unknown", lambda: without_stress("wk-gpu2"), "held by jupyter/alice"),
    (
        "GPU-14",
        "fail",
        lambda: with_stress("wk-gpu1", between={"wk-gpu2": tools.Reduction(0.4, 0)}),
        "0.40 GB/s of 1.00",
    ),
    ("GPU-14", "fail", lambda: with_stress("wk-gpu1", between={"wk-gpu2": tools.Reduction(2, 9)}), "9 wrong results"),
    ("GPU-14", "unknown", lambda: with_way("wk-gpu1", GONE), "wk-gpu1 cannot be reached"),
    ("GPU-15", "fail", lambda: with_stress("wk-gpu2", runs=(Run((0, 1), False, None),)), "cards 0, 1: did not end"),
    (
        "GPU-15",
        "fail",
        lambda: with_stress("wk-gpu2", runs=(Run((0, 1), True, tools.Reduction(1.0, 7)),)),
        "cards 0, 1: 7 wrong results",
    ),
    ("GPU-15", "unknown", lambda: without_stress("wk-gpu2"), "held by jupyter/alice"),
    (
        "GPU-18",
        "fail",
        lambda: with_stress("wk-gpu2", throttling=tools.Throttling(600.0, {"GPU-a": 6})),
        "GPU-a: 0.6 a minute",
    ),
    (
        "GPU-18",
        "unknown",
        lambda: with_stress("wk-gpu2", throttling=tools.Throttling(20.0, {})),
        "watched for 20 s only",
    ),
    ("GPU-20", "fail", lambda: with_diagnosis("software", "fail"), "wk-gpu2 GPU 1 software: too slow"),
    ("GPU-20", "unknown", lambda: without_stress("wk-gpu2"), "held by jupyter/alice"),
    ("MGT-05", "fail", lambda: with_cluster(releases={"a/b": "pending-upgrade"}), "a/b: pending-upgrade"),
    ("APP-01", "fail", lambda: with_hub(error="hub.example does not answer"), "hub.example does not answer"),
    ("APP-01", "fail", lambda: with_hub(took=6.0), "answers after 6.0 s"),
    ("APP-01", "fail", lambda: with_hub(chart="4.3.0"), "chart: 4.3.0 instead of 4.4.0"),
    ("APP-01", "fail", lambda: with_hub(version="5.3.0"), "JupyterHub 5.3.0 runs, the chart brings 5.4.2"),
    ("APP-02", "fail", lambda: broken("cpu"), "cpu: the notebook does not start: ImagePullBackOff"),
    ("APP-02", "fail", lambda: with_notebook("gpu-2", ready=301.0), "gpu-2: after 301 s"),
    ("APP-02", "unknown", lambda: held("gpu-2"), "gpu-2: cards are held by jupyterhub/jupyter-alice"),
    ("APP-03", "fail", lambda: with_notebook("gpu-2", compute=Compute(1, "", 0, True)), "gpu-2: sees 1 of 2"),
    ("APP-03", "fail", lambda: with_notebook("gpu-2", compute=Compute(2, "PyTorch 2", 1, True)), "uses 1 of 2"),
    ("APP-03", "fail", lambda: with_notebook("gpu-1", compute=Compute(1, "PyTorch 2", 1, False)), "wrong matrix"),
    ("APP-03", "unknown", lambda: held("gpu-2"), "gpu-2: cards are held by"),
    ("APP-03", "unknown", lambda: broken("gpu-1"), "gpu-1: the notebook does not start"),
    ("APP-04", "fail", lambda: with_notebook("cpu", kept=False), "gone or changed after a restart"),
    ("APP-04", "unknown", lambda: broken("cpu"), "cpu: the notebook does not start"),
    ("APP-05", "fail", lambda: with_notebook("cpu", scratch=7e8), "wk-gpu1: only 70%"),
    ("APP-05", "unknown", lambda: broken("cpu"), "cpu: the notebook does not start"),
    ("APP-06", "fail", lambda: with_notebook("cpu", reached=("hub", "Kubernetes API")), "cpu: reaches Kubernetes API"),
    ("APP-06", "unknown", lambda: with_notebook("cpu", reached=()), "does not reach the hub either"),
    ("APP-06", "unknown", lambda: broken("cpu"), "cpu: the notebook does not start"),
    ("APP-07", "fail", lambda: with_notebook("gpu-1", released=61.0), "gpu-1: after 61 s"),
    ("APP-07", "unknown", lambda: held("gpu-1"), "cards are held by"),
    ("SEC-01", "fail", lambda: replace(healthy(), modes={"kubeconfig": 0o640}), "kubeconfig: mode 0640"),
    ("SEC-01", "fail", lambda: with_host("cp1", modes={"/t": 0o644}), "cp1:/t: mode 0644"),
    ("SEC-01", "unknown", lambda: without_host("wk-gpu1"), "cannot be reached"),
    ("MGT-03", "fail", lambda: with_gitrepo(commit="0000"), "at commit 0000 instead of 1234567890"),
    (
        "MGT-03",
        "fail",
        lambda: with_gitrepo(commit="0000", controllers=("Deployment cattle-fleet-system/gitjob: 0 of 1 pods ready",)),
        "gitjob: 0 of 1 pods ready",
    ),
    ("MGT-03", "fail", lambda: with_gitrepo(conditions={"Stalled": "auth required"}), "is stalled: auth required"),
    ("MGT-03", "fail", lambda: with_gitrepo(conditions={"GitPolling": "no route"}), "GitPolling: no route"),
    ("MGT-03", "fail", lambda: with_gitrepo(conditions={"Accepted": "not allowed"}), "Accepted: not allowed"),
    ("MGT-03", "fail", lambda: with_gitrepo(gitJobStatus="Failed"), "the gitjob is Failed"),
    ("MGT-03", "fail", lambda: with_gitrepo(observedGeneration=1), "newest spec is not seen"),
    ("MGT-03", "fail", lambda: with_fleet(seen=Seen(True, None, {})), "it is not there"),
    ("MGT-03", "fail", lambda: with_fleet(seen=Seen(False, None, {})), "has no Fleet"),
    ("MGT-03", "unknown", lambda: with_fleet(head=GpuctlError("the Git server does not answer")), "does not answer"),
    *(("MGT-04", "fail", partial(with_gitrepo, summary={count: 1}), f"1 {count}") for count in COUNTS),
    ("MGT-04", "fail", lambda: with_gitrepo(readyClusters=0), "0 of 1 clusters ready"),
    ("MGT-04", "fail", lambda: with_gitrepo(desiredReadyClusters=0, readyClusters=0), "0 of 0 clusters ready"),
    ("MGT-04", "fail", lambda: with_gitrepo(conditions={"Ready": "boom"}), "not Ready: boom"),
    (
        "MGT-04",
        "fail",
        lambda: with_bundle(state="ErrApplied", message="no matches for kind"),
        "bundle gpuctl-clusters-homelab-tests: ErrApplied: no matches for kind",
    ),
    ("MGT-04", "fail", lambda: with_bundle(seen=2), "bundle gpuctl-clusters-homelab-tests: Ready: its newest spec"),
    ("MGT-04", "fail", lambda: with_fleet(seen=replace(healthy_gitops().seen, bundles={})), "not in the repository"),
    ("MGT-04", "fail", lambda: with_fleet(seen=Seen(True, None, {})), "no bundles"),
    ("SEC-02", "fail", lambda: with_cluster(anonymous={"/api": 200}), "/api: answers 200"),
    ("SEC-04", "fail", lambda: with_snapshot(plain=1), "1 readable Secrets"),
    ("SEC-04", "unknown", lambda: with_snapshot(encrypted=0), "hold no Secret"),
    ("SEC-05", "fail", lambda: with_hub(namespace={}), "Pod Security enforces nothing"),
    ("SEC-05", "fail", lambda: with_hub(pods=(user_pod(volumes=[{"hostPath": {}}]),)), "jupyter-alice: hostPath"),
    ("SEC-05", "fail", lambda: with_hub(pods=(user_pod(hostNetwork=True),)), "jupyter-alice: hostNetwork"),
    (
        "SEC-05",
        "fail",
        lambda: with_hub(pods=(user_pod(containers=[{"name": "notebook", "securityContext": {"privileged": True}}]),)),
        "notebook is privileged",
    ),
    (
        "CLU-13",
        "fail",
        lambda: with_services("wk-gpu2", {"the API's ClusterIP": 5, "the ingress": 2}),
        "wk-gpu2: the ingress 10.0.0.101: 2 of 5",
    ),
    (
        "CLU-13",
        "fail",
        lambda: with_services("cp1", {"the API's ClusterIP": 0, "the ingress": 5}),
        "cp1: the API's ClusterIP 10.43.0.1: 0 of 5",
    ),
    ("CLU-13", "unknown", lambda: with_services("wk-gpu1", GONE), "wk-gpu1: wk-gpu1 cannot be reached"),
    ("CLU-14", "fail", lambda: replace(healthy(), storage=Storage(())), "nfs-client: missing"),
    (
        "CLU-14",
        "fail",
        lambda: with_classes(
            {"metadata": {"name": "local-path"}, "provisioner": "rancher.io/local-path", "reclaimPolicy": "Delete"}
        ),
        "local-path: not of the spec (provisioner rancher.io/local-path)",
    ),
    ("CLU-14", "fail", lambda: with_classes(default=False), "default class: none instead of nfs-client"),
    (
        "CLU-14",
        "fail",
        lambda: with_classes(reclaimPolicy="Retain"),
        "nfs-client: reclaimPolicy Retain instead of Delete",
    ),
    ("CLU-15", "fail", lambda: with_volume("local-disk", read="dead"), "local-disk: written 5eed, read dead"),
    ("CLU-15", "fail", lambda: with_volume("fast-scratch", seconds=90.0), "fast-scratch: 90 s"),
    (
        "CLU-15",
        "fail",
        lambda: with_volume("nfs-client", GpuctlError("not usable within 120 s", cause="ProvisioningFailed: no route")),
        "nfs-client: not usable within 120 s (ProvisioningFailed: no route)",
    ),
    ("CLU-16", "fail", lambda: with_volume("nfs-client", read="dead"), "cp2 reads something else"),
    ("CLU-16", "unknown", lambda: with_volume("nfs-client", GpuctlError("no mount")), "no mount"),
    ("CLU-16", "unknown", lambda: with_volume("nfs-client", reader="cp1"), "only cp1 runs pods"),
    (
        "MGT-01",
        "fail",
        lambda: with_rancher(status=0, error="the certificate of rancher.example is not the one expected"),
        "not the one expected",
    ),
    ("MGT-01", "fail", lambda: with_rancher(status=503), "https://rancher.example answers 503"),
    ("MGT-01", "fail", lambda: with_rancher(seconds=7.5), "too slow"),
    ("MGT-02", "fail", lambda: with_rancher(replicas=2), "Rancher: 2 of 3 replicas are ready"),
    ("MGT-02", "fail", lambda: with_rancher(replicas=None), "there is no Deployment"),
    ("MGT-02", "fail", lambda: with_rancher(local="etcd is gone"), "cluster local: etcd is gone"),
    ("SEC-03", "fail", lambda: with_rancher(first_password=True), "admin still logs in with the bootstrap password"),
    ("SEC-03", "unknown", lambda: with_rancher(first_password=GONE), "cannot be reached"),
]


@pytest.mark.parametrize("id", [check.id for check in EVERY])
def test_a_healthy_cluster_passes(id: str) -> None:
    measurement = verdict(id, healthy())
    assert measurement.outcome == "pass", measurement
    assert measurement.measured
    assert measurement.limit


@pytest.mark.parametrize(("id", "outcome", "facts", "says"), DAMAGE)
def test_damage_is_named(id: str, outcome: str, facts: Callable[[], Facts], says: str) -> None:
    measurement = verdict(id, facts())
    assert measurement.outcome == outcome
    assert says in measurement.reason


@pytest.mark.parametrize("check", EVERY, ids=lambda check: str(check.id))
def test_every_check_has_a_damage_that_it_names_and_a_silent_source_is_unknown(check: Any) -> None:
    assert check.id in {id for id, outcome, _, _ in DAMAGE if outcome == "fail"}
    for need in check.needs:
        silent: dict[str, Any] = {need: GpuctlError("no answer", next="look")}
        measurement = judge(check, SPEC, replace(healthy(), **silent))
        assert (measurement.outcome, measurement.reason, measurement.next) == ("unknown", "no answer", "look")


def test_what_has_an_unheard_of_shape_is_unknown() -> None:
    assert verdict("CLU-01", with_cluster(nodes=({"metadata": {}},))).outcome == "unknown"


def test_a_worker_that_is_gone_leaves_etcd_proven() -> None:
    assert verdict("CLU-03", without_host("wk-gpu1")).outcome == "pass"


@pytest.mark.parametrize("id", ["INF-02", *(check.id for check in EVERY if check.group == "gpu")])
def test_a_spec_without_gpus_skips_the_cards(id: str) -> None:
    bare = replace(SPEC, nodes=tuple(replace(node, gpus=None) for node in SPEC.nodes))
    check = next(check for check in EVERY if check.id == id)
    assert judge(check, bare, healthy()).outcome == "skipped"


@pytest.mark.parametrize(("mebibytes", "outcome"), [(3919, "pass"), (3700, "fail"), (4300, "fail")])
def test_what_the_kernel_keeps_of_a_small_machine_is_no_fault(mebibytes: int, outcome: str) -> None:
    small = replace(SPEC, nodes=tuple(replace(node, memory=4 << 30) for node in SPEC.nodes))
    facts = healthy()
    hosts = {name: replace(host, memory=mebibytes << 20) for name, host in facts.reached.items()}
    check = next(check for check in EVERY if check.id == "INF-06")
    assert judge(check, small, replace(facts, hosts=hosts)).outcome == outcome


def test_ids_are_unique_and_in_order_of_the_groups() -> None:
    assert len({check.id for check in EVERY}) == len(EVERY)
    for checks in (ALL, STRESS):
        groups = [GROUPS.index(check.group) for check in checks]
        assert groups == sorted(groups)


def test_quick_leaves_out_just_what_starts_pods_and_says_so() -> None:
    left_out = {check.id: why for check, why in Choice(quick=True).checks().items() if why}
    assert set(left_out.values()) == {"left out by --quick"}
    assert left_out.keys() == {check.id for check in ALL if SLOW & set(check.needs)}
    assert "CLU-01" not in left_out


def test_ids_and_groups_choose_and_skip() -> None:
    chosen = Choice(only=("clu-01", "SECURITY"), skip=("sec-02",)).checks()
    assert [check.id for check, why in chosen.items() if not why] == ["CLU-01", "SEC-01", "SEC-03", "SEC-04", "SEC-05"]
    assert [(check.id, why) for check, why in chosen.items() if why] == [("SEC-02", "left out by --skip")]
    with pytest.raises(GpuctlError, match="no check or group 'nope'"):
        Choice(only=("nope",)).checks()


def test_one_slow_pod_is_told_but_no_verdict() -> None:
    found = verdict("CLU-17", with_starts("cp1", (7.2, 0.9)))
    assert (found.outcome, found.measured) == ("pass", "7.2 s at worst, 7 of 8 pods in time")


def test_stress_is_opt_in() -> None:
    assert not {check for check in Choice().checks() if check in STRESS}
    assert {check for check in Choice(gpu_stress=True).checks() if check in STRESS} == set(STRESS)
    assert {why for check, why in Choice(gpu_stress=True, quick=True).checks().items() if check in STRESS} == {
        "left out by --quick"
    }
    with pytest.raises(GpuctlError, match="on request only"):
        Choice(only=("GPU-08",)).checks()


def test_shared_cards_are_not_stressed() -> None:
    shared = tuple(
        replace(node, gpus=replace(node.gpus, sharing="mig", mig="all-1g.10gb") if node.gpus else None)
        for node in SPEC.nodes
    )
    spec = replace(SPEC, nodes=shared)
    for check in STRESS:
        assert judge(check, spec, healthy()).reason == "every card is shared: no pod gets one as it is"


def test_four_cards_are_held_against_a_floor() -> None:
    """By number of cards and topology, whatever their name."""
    four = tuple(
        replace(node, gpus=replace(node.gpus, count=4) if node.name == "wk-gpu2" and node.gpus else node.gpus)
        for node in SPEC.nodes
    )
    spec = replace(SPEC, nodes=four)
    check = next(check for check in STRESS if check.id == "GPU-13")
    pairs = {(a, b): "PHB" for a in range(4) for b in range(a + 1, 4)}
    for bus, outcome in ((24.0, "fail"), (26.0, "pass")):
        run = Run((0, 1, 2, 3), True, tools.Reduction(bus, 0))
        facts = with_stress("wk-gpu2", pairs=pairs, runs=(run,), baseline=None)
        assert judge(check, spec, facts).outcome == outcome


def test_a_notebook_without_a_gpu_library_says_so() -> None:
    facts = with_notebook("gpu-2", compute=Compute(2, "", 0, True))
    assert verdict("APP-03", facts).outcome == "pass"
    assert "without a GPU library" in verdict("APP-03", facts).measured


def test_a_snapshot_may_be_as_old_as_its_schedule_makes_it() -> None:
    weekly = replace(SPEC, kubernetes=replace(SPEC.kubernetes, snapshot_schedule="0 3 * * SUN"))
    check = next(check for check in ALL if check.id == "CLU-06")
    for hours, outcome in ((167, "pass"), (170, "fail")):
        found = judge(check, weekly, with_snapshot(age=hours * 3600))
        assert (found.outcome, found.limit) == (outcome, "<= 169 h old, checksum fits")


def test_a_spec_without_a_hub_skips_its_checks() -> None:
    bare = replace(SPEC, jupyterhub=None)
    found = {check.id for check in ALL if judge(check, bare, healthy()).outcome == "skipped"}
    assert found == {*(f"APP-0{number}" for number in range(1, 8)), "SEC-05"}


def test_checks_that_a_broken_profile_leaves_unknown_are_folded_under_it() -> None:
    facts = broken("cpu")
    causes = {verdict(id, facts).cause for id in ("APP-02", "APP-04", "APP-05", "APP-06")}
    assert causes == {"notebooks cpu do not work"}
    silent = GpuctlError("hub.example does not answer", cause="refused")
    down = replace(with_hub(error="hub.example does not answer (refused)"), notebooks=silent)
    assert len({verdict(check.id, down).cause for check in ALL if check.group == "applications"}) == 1
