"""What the doctor looks at, gathered once. A fact that could not be had is the GpuctlError that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl.doctor.report_of_host import HostReport
from gpuctl.phases.provision.preflight import Others
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import Bridge, Card, Greeting, Store


@dataclass(frozen=True)
class Tool:
    """A program on this machine; ``version`` "" when it does not tell."""

    path: str
    version: str


@dataclass(frozen=True)
class Machine:
    """The operator's machine.

    ``tools``: those that were found, by name; ``folder`` holds the workspace, ``free`` bytes are left in it;
    ``modes`` of private files; ``missing``: parts of gpuctl itself that are not installed; ``agent``: keys in the
    SSH agent, ``keys``: private keys of the user; ``secrets``: what is wrong with each reference, None for nothing.
    """

    python: str
    tools: Mapping[str, Tool]
    folder: str
    free: int
    modes: Mapping[str, int]
    missing: tuple[str, ...]
    agent: int
    keys: tuple[str, ...]
    secrets: Mapping[str, GpuctlError | None]


@dataclass(frozen=True)
class Api:
    """The Proxmox API. ``others`` are judged with ``cluster_id``, that of nobody before the first apply.

    ``groups``: IOMMU group by PCI path; ``image``: whether the cloud image is on its storage; ``source``: what keeps
    the server from fetching it, None for nothing.
    """

    greeting: Greeting | GpuctlError
    version: str | GpuctlError
    permissions: Mapping[str, frozenset[str]] | GpuctlError
    nodes: Mapping[str, bool] | GpuctlError
    capacity: tuple[int, int] | GpuctlError
    stores: dict[str, Store] | GpuctlError
    bridges: Mapping[str, Bridge] | GpuctlError
    cards: list[Card] | GpuctlError
    groups: Mapping[str, int] | GpuctlError
    others: Others | GpuctlError
    image: bool | GpuctlError
    source: GpuctlError | None
    cluster_id: str


@dataclass(frozen=True)
class Spec:
    """The spec, when there is one that can be used; ``errors`` and ``warnings`` are counted."""

    file: str
    resolved: Resolved | None
    errors: int
    warnings: int


@dataclass(frozen=True)
class Facts:
    """None: nobody asked for it, or there is no spec that says where to look.

    ``way``: the host's address by ssh as far as the spec tells it, for hints.
    """

    machine: Machine
    spec: Spec | None
    api: Api | None
    host: HostReport | GpuctlError | None
    way: str

    @property
    def resolved(self) -> Resolved | None:
        return self.spec.resolved if self.spec else None
