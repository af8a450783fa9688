"""The last Xid of every card, as DCGM keeps it."""

from __future__ import annotations

from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, over_hosts, with_gpus
from gpuctl.verify.facts import Facts

# what a faulty program causes on a healthy card (NVIDIA's Xid catalogue)
OF_PROGRAMS = {0, 13, 31, 43, 45}
METRIC = "DCGM_FI_DEV_XID_ERRORS"
LIMIT = f"none but those of programs ({', '.join(map(str, sorted(OF_PROGRAMS - {0})))})"


def judge(_: Resolved, facts: Facts) -> Measurement:
    problems, cards = {}, 0
    silent = {name: said for name, said in facts.cards.exporters.items() if isinstance(said, GpuctlError)}
    for name in facts.cards.hosts:
        said = facts.cards.exporters.get(name, GpuctlError("no DCGM exporter runs there"))
        if isinstance(said, GpuctlError):
            silent[name] = said
            continue
        for uuid, metrics in said.items():
            cards += 1
            if METRIC not in metrics:
                silent[name] = GpuctlError(f"its exporter has no {METRIC}")
            elif (xid := int(metrics[METRIC])) not in OF_PROGRAMS:
                problems[f"{name} {uuid}"] = f"Xid {xid}"
    measured = f"{len(problems)} of {cards} cards with one"
    return over_hosts(
        facts,
        problems,
        measured,
        LIMIT,
        unreached=silent,
        next="dmesg on the node; NVIDIA's Xid catalogue says what it means",
    )


CHECK = Check(
    "GPU-17", "gpu", "no card reports a hardware error (Xid)", ("gpus",), judge, "NVIDIA Xid catalogue", with_gpus
)
