"""One file per group of the doctor's lines; each judge is a function of the facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpuctl.doctor.base import Line
from gpuctl.doctor.facts import Facts
from gpuctl.doctor.groups import api, cards, host, machine, secrets, server, tools

# in the order in which a missing piece stops everything after it
GROUPS: dict[str, Callable[[Facts], Iterator[Line]]] = {
    "tools": tools.judge,
    "machine": machine.judge,
    "secrets": secrets.judge,
    "api": api.judge,
    "server": server.judge,
    "cards": cards.judge,
    "host": host.judge,
}
