"""The Proxmox API: does it answer, is it the right one, and may our token do what an apply does?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from gpuctl.doctor.base import Line, broken, judged, over
from gpuctl.doctor.facts import Api, Facts
from gpuctl.phases.provision import preflight
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.systems.proxmox import Greeting

SOON_DAYS = 14
# the Terraform provider wants 9; 8 works within limits
BEST, LEAST = 9, 8


def judge(facts: Facts) -> Iterator[Line]:
    spec, api = facts.resolved, facts.api
    if spec is None or api is None:
        yield Line("answers", "not looked at", "there is no spec that names a server", "gpuctl doctor FILE")
        return
    yield from _answers(spec, api)
    yield over("certificate", api.greeting, lambda greeting: _certificate(greeting, datetime.now(UTC)))
    yield over("version", api.version, _version)
    yield over(
        "privileges",
        api.permissions,
        lambda held: judged(
            "privileges",
            preflight.missing_privileges(spec, dict(held)),
            "the token holds all that is needed",
            "pveum role modify gpuctl --append --privs ... on the Proxmox host",
        ),
    )
    yield over("node", api.nodes, lambda nodes: _node(spec, nodes))


def _answers(spec: Resolved, api: Api) -> Iterator[Line]:
    if isinstance(api.version, GpuctlError):
        yield broken("answers", api.version)
    else:
        yield Line("answers", "ok", f"{spec.site.proxmox.endpoint} takes the token")


def _certificate(greeting: Greeting, now: datetime) -> Line:
    left = (greeting.expires - now).days
    names = ", ".join(greeting.names) or "no name"
    measured = f"for {names}, until {greeting.expires:%Y-%m-%d}"
    if greeting.untrusted:
        return Line(
            "certificate",
            "fail",
            f"{greeting.untrusted} ({measured})",
            "site.proxmox.ca: file:./pve-ca.pem with the server's /etc/pve/pve-root-ca.pem; the endpoint must be one "
            "of the certificate's names",
        )
    if left < SOON_DAYS:
        return Line("certificate", "warn", measured, "pvecm updatecerts -f on the Proxmox host, or renew it")
    return Line("certificate", "ok", measured)


def _version(version: str) -> Line:
    major = int(version.partition(".")[0])
    if major >= BEST:
        return Line("version", "ok", version)
    if major < LEAST:
        return Line("version", "fail", version, f"upgrade to {BEST}")
    return Line("version", "warn", version, f"{LEAST} works within limits of the Terraform provider: upgrade to {BEST}")


def _node(spec: Resolved, nodes: Mapping[str, bool]) -> Line:
    name = spec.site.proxmox.node
    if name not in nodes:
        return Line("node", "fail", f"no {name}; it has {', '.join(sorted(nodes))}", "correct site.proxmox.node")
    if not nodes[name]:
        return Line("node", "fail", f"{name} is offline", "start it, or look at its console")
    return Line("node", "ok", f"{name} is online")
