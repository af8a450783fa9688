"""What phases and checks are given: the resolved spec, the workspace, the adapters, and where to say things."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from threading import Event as Flag
from typing import TYPE_CHECKING

from gpuctl.run.deadline import Deadline
from gpuctl.run.events import Emit, Event, Kind
from gpuctl.run.redact import Redactor
from gpuctl.run.workspace import Workspace
from gpuctl.spec.resolved import Resolved

if TYPE_CHECKING:
    from gpuctl.systems.ansible import Ansible
    from gpuctl.systems.git import Git
    from gpuctl.systems.helm import Helm
    from gpuctl.systems.kubernetes import Kubernetes
    from gpuctl.systems.proxmox import Proxmox
    from gpuctl.systems.ssh import Ssh
    from gpuctl.systems.terraform import Terraform


@dataclass(frozen=True)
class Consent:
    """What the operator agreed to by name. ``replace``/``remove`` hold node names."""

    replace: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Context:
    """Adapters are made on first use, so that a command imports only what it needs.

    ``patience`` stretches every deadline of the run: 2 for a machine that needs twice the usual time.
    """

    spec: Resolved
    workspace: Workspace
    emit: Emit
    redactor: Redactor
    stop: Flag
    consent: Consent = field(default_factory=Consent)
    patience: float = 1.0

    def say(self, kind: Kind, message: str, *, phase: str = "", target: str = "", **data: object) -> None:
        """Emit an event."""
        self.emit(Event(kind, message, phase=phase, target=target, data=data))

    def deadline(self, seconds: float, what: str) -> Deadline:
        """A deadline that also ends when the run is interrupted."""
        return Deadline.after(seconds * self.patience, what, self.stop)

    @cached_property
    def proxmox(self) -> Proxmox:
        from gpuctl.systems.proxmox import Proxmox

        return Proxmox.of(self)

    @cached_property
    def terraform(self) -> Terraform:
        from gpuctl.systems.terraform import Terraform

        return Terraform.of(self)

    @cached_property
    def ssh(self) -> Ssh:
        from gpuctl.systems.ssh import Ssh

        return Ssh.of(self)

    @cached_property
    def ansible(self) -> Ansible:
        from gpuctl.systems.ansible import Ansible

        return Ansible.of(self)

    @cached_property
    def kubernetes(self) -> Kubernetes:
        from gpuctl.systems.kubernetes import Kubernetes

        return Kubernetes.of(self)

    @cached_property
    def helm(self) -> Helm:
        from gpuctl.systems.helm import Helm

        return Helm.of(self)

    @cached_property
    def git(self) -> Git:
        from gpuctl.systems.git import Git

        return Git.of(self)
