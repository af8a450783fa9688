"""What is proposed fits the server it was proposed for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gpuctl.spec.load import load_text
from gpuctl.spec.propose import Answers, Proposal, Server, Storage, completed, missing, propose
from gpuctl.spec.resolved import Resolved

GIB = 1 << 30
ANSWERS = Answers(
    name="mine",
    endpoint="https://pve.example:8006",
    node="pve",
    api_vip="10.0.0.100",
    first_address="10.0.0.11",
)
DISKS, FILES = frozenset({"images", "rootdir"}), frozenset({"iso", "import"})
SERVER = Server(
    memory=1024 * GIB,
    taken=0,
    cpus=128,
    storages={
        "local": Storage(FILES, 100 * GIB),
        "local-lvm": Storage(DISKS, 4096 * GIB),
        "nvme": Storage(DISKS, 8192 * GIB),
    },
    bridges={"vmbr0": ("", ""), "vmbr1": ("10.0.0.2/24", "10.0.0.1")},
    cards=("10de:20b5",) * 8,
    vm_ids=frozenset({100, 101}),
)


def proposed(server: Server, answers: Answers = ANSWERS) -> tuple[Resolved, Proposal]:
    full = completed(answers, server)
    assert missing(full) == ()
    proposal = propose(full, server)
    loaded = load_text(proposal.text, Path("cluster.yaml"))
    assert [str(f) for f in loaded.findings if f.severity == "error"] == []
    assert loaded.resolved
    return loaded.resolved, proposal


def test_cards_make_workers_in_pairs_and_the_bridge_gives_the_network() -> None:
    spec, proposal = proposed(SERVER)
    assert [node.gpus.count for node in spec.agents if node.gpus] == [2, 2, 2, 2]
    assert spec.site.proxmox.bridge == "vmbr1"
    assert (str(spec.network.cidr), str(spec.network.gateway)) == ("10.0.0.0/24", "10.0.0.1")
    assert proposal.notes == ()
    odd, _ = proposed(replace(SERVER, cards=("10de:20f1",) * 3))
    assert [(node.gpus.count, node.gpus.model) for node in odd.agents if node.gpus] == [(1, "a100-pcie-40gb")] * 3


def test_what_was_answered_stands() -> None:
    spec, _ = proposed(SERVER, replace(ANSWERS, workers=1, gpus_per_worker=4, control_planes=1))
    assert [node.name for node in spec.nodes] == ["cp1", "wk-gpu1"]
    assert spec.agents[0].gpus
    assert spec.agents[0].gpus.count == 4


def test_other_vms_keep_their_memory_and_their_ids() -> None:
    spec, _ = proposed(replace(SERVER, taken=512 * GIB, vm_ids=frozenset({9012, 10_013})))
    assert sum(node.memory for node in spec.nodes) <= 512 * GIB
    assert spec.site.proxmox.vm_id_base == 11_000


def test_what_does_not_fit_or_is_not_known_is_said() -> None:
    local = {"local": Storage(frozenset({"iso"}), GIB), "tiny": Storage(DISKS, 90 * GIB)}
    _, proposal = proposed(replace(SERVER, storages=local, cards=("10de:20b5", "10de:20b5", "10de:20f1", "10de:2330")))
    said = "\n".join(proposal.notes)
    assert "pvesm set local" in said
    assert "tiny has 81 GiB" in said
    assert "10de:2330" in said
    assert "1 x a100-pcie-40gb" in said


@settings(max_examples=60, deadline=None)
@given(
    memory=st.integers(64, 4096),
    share=st.floats(0, 0.5),
    cpus=st.integers(8, 512),
    free=st.lists(st.integers(200, 20_000), min_size=1, max_size=3),
    cards=st.integers(0, 16),
)
def test_every_proposal_fits_its_server(memory: int, share: float, cpus: int, free: list[int], cards: int) -> None:
    server = replace(
        SERVER,
        memory=memory * GIB,
        taken=int(memory * share) * GIB,
        cpus=cpus,
        storages={f"store{n}": Storage(DISKS | FILES, size * GIB) for n, size in enumerate(free)},
        cards=("10de:20b5",) * cards,
    )
    spec, proposal = proposed(server)
    assert sum(node.memory for node in spec.nodes) + server.taken <= server.memory
    assert sum(node.gpus.count for node in spec.nodes if node.gpus) <= cards
    if not any("may grow" in note for note in proposal.notes):
        pools, used = spec.site.proxmox.storage, dict.fromkeys(server.storages, 0)
        for node in spec.nodes:
            used[pools.os] += node.disk
            used[pools.scratch] += node.scratch or 0
        assert all(size <= server.storages[name].free for name, size in used.items())
