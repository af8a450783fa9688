"""What a cluster keeps for life, and where its version may go. Refused by name before anything is changed.

K3s' maintainers: ranges and the network plugin are chosen before the cluster is made (k3s-io/k3s issues 8100 and 3409).
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl.render.hosts import Observed
from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.versions import minor, order

# keys of K3s' configuration that only a new cluster takes, and their fields of the spec's kubernetes
LASTING = {
    "cluster-cidr": "pod_cidr",
    "service-cidr": "service_cidr",
    "cluster-domain": "cluster_domain",
    "flannel-backend": "flannel_backend",
}


def refuse(spec: Resolved, observed: Mapping[str, Observed]) -> None:
    """GpuctlError for what the cluster on these hosts cannot become."""
    for name, seen in observed.items():
        for key, field in LASTING.items():
            have, wanted = seen.settings.get(key), str(getattr(spec.kubernetes, field))
            if have and have != wanted:
                raise _refused(
                    spec,
                    f"kubernetes.{field} of a living cluster cannot be changed ({have} -> {wanted})",
                    cause=f"{name} runs with {key} {have}; nodes, Services and pods keep what they were made with",
                    way_out=f"set it back to {have}, or make the cluster anew: gpuctl destroy, then gpuctl apply",
                )
        if seen.version:
            _refuse_version(spec, name, seen.version)


def _refuse_version(spec: Resolved, name: str, have: str) -> None:
    wanted = spec.kubernetes.version
    (major, before), (_, after) = order(minor(have)), order(minor(wanted))
    if after < before:
        cause = "its database is already in the newer format, and Kubernetes does not go back"
    elif after > before + 1:
        cause = "Kubernetes goes one minor at a time"
    else:
        return
    step = f"v{major}.{before}" if after < before else f"v{major}.{before + 1}"
    raise _refused(
        spec,
        f"kubernetes.version cannot go from {have} to {wanted}",
        cause=f"{name} runs {have}; {cause}",
        way_out=f"name a release of {step} in kubernetes.version",
    )


def _refused(spec: Resolved, what: str, *, cause: str, way_out: str) -> GpuctlError:
    return GpuctlError(what, where=spec.file, cause=cause, next=way_out, exit_code=Exit.USAGE)
