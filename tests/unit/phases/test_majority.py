"""Which servers may go in one run. That a run is refused so is seen in the lab (test_whole.py)."""

from __future__ import annotations

import pytest

from gpuctl.phases.provision import majority
from gpuctl.phases.provision.majority import NEVER, STOPPED
from gpuctl.run.errors import GpuctlError

THREE, FIVE = ("cp1", "cp2", "cp3"), ("cp1", "cp2", "cp3", "cp4", "cp5")


def states(servers: tuple[str, ...], **other: str) -> dict[str, str]:
    return {**dict.fromkeys(servers, str(len(servers))), **other}


@pytest.mark.parametrize(
    ("servers", "going", "seen"),
    [
        (THREE, ["cp1"], states(THREE)),
        (THREE, ["cp1"], states(THREE, cp1="")),
        (THREE, ["cp1"], states(THREE, cp1=STOPPED)),
        (FIVE, ["cp4", "cp5"], states(FIVE)),
        (THREE, ["cp1", "cp2"], dict.fromkeys(THREE, NEVER)),
        # restored from a snapshot on cp1 alone
        (THREE, ["cp2", "cp3"], {"cp1": "1", "cp2": "", "cp3": STOPPED}),
    ],
)
def test_a_minority_may_go_and_anything_before_there_is_a_cluster(
    servers: tuple[str, ...], going: list[str], seen: dict[str, str]
) -> None:
    majority.judge(servers, going, seen, replaced=going)


@pytest.mark.parametrize(
    ("servers", "going", "seen", "replaced", "cause", "next"),
    [
        (THREE, ["cp1", "cp2"], states(THREE), True, "cp3 would", "one server a run: gpuctl apply --replace cp1,"),
        (THREE, ["cp1"], states(THREE, cp3=STOPPED), True, "cp3 does not run etcd", "first bring cp3 back"),
        (THREE, ["cp1"], states(THREE, cp3=""), True, "cp3 does not run etcd", "first bring cp3 back"),
        (THREE, ["cp1"], dict.fromkeys(THREE, STOPPED), True, "none would, cp2 and cp3", "first bring cp2 back"),
        (THREE, ["cp1"], states(THREE, cp3=NEVER), True, "cp3 does not run etcd", "first bring cp3 back"),
        (THREE, list(THREE), states(THREE), True, "none would", "one server a run"),
        (THREE, ["cp2", "cp3"], states(THREE), False, "2 have to run on; cp1 would", "made anew: gpuctl destroy"),
        (FIVE, ["cp2", "cp3", "cp4", "cp5"], states(FIVE), False, "3 have to run on", "control_plane.count: 3"),
    ],
)
def test_the_last_ones_of_a_majority_stay(
    servers: tuple[str, ...], going: list[str], seen: dict[str, str], replaced: bool, cause: str, next: str
) -> None:
    with pytest.raises(GpuctlError, match="etcd would lose its majority") as refused:
        majority.judge(servers, going, seen, replaced=going if replaced else [])
    assert cause in refused.value.cause
    assert next in refused.value.next
