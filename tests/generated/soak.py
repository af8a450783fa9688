"""Generated specs for as long as one likes: ``scripts/soak``."""

from __future__ import annotations

import argparse
import faulthandler
import random
import shlex
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.generated.documents import KINDS, Document
from tests.generated.properties import PROPERTIES, Subject, hold

EXAMPLES = 100
# one document in so many is also shown to programs that take seconds
SLOW = 30


def main() -> int:
    """0: all properties held; 1: one did not, with the shrunk document and the commands to repeat it."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Try generated specs until the time is over.")
    parser.add_argument("file", nargs="?", type=Path, help="try this document only, with every property")
    parser.add_argument("--site", type=Path, help="its site file")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--kind", choices=[*KINDS], action="append", help="only this kind (may be repeated)")
    options = parser.parse_args()
    faulthandler.enable()
    for prop in PROPERTIES:
        if reason := prop.missing():
            print(f"skipped, which is no pass: {prop.name}: {reason}")
    if options.file:
        return _alone(options.file, options.site)
    return _soak(options.kind or [*KINDS], options.seconds, options.seed)


def _alone(file: Path, site: Path | None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        document = Document(file.read_bytes(), site.read_bytes() if site else None)
        print(f"held: {', '.join(hold(Subject.write(document, Path(folder)), slow=True))}")
    return 0


def _soak(kinds: Sequence[str], seconds: float, first: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="gpuctl-soak-"))
    print(f"seed {first}; the document being tried is {folder}/cluster.yaml", flush=True)
    end, number = time.monotonic() + seconds, first
    counts = {kind: Counter[str]() for kind in kinds}
    failed = 0
    while time.monotonic() < end and not failed:
        for kind in kinds:
            try:
                _round(kind, number, folder, counts[kind])
            except Exception:  # noqa: BLE001 - whatever it is, it is what we are looking for
                traceback.print_exc()
                failed = _tell(kind, number, folder)
                break
        number += 1
    for kind, count in counts.items():
        print(f"{kind}: {count.pop('tried', 0)} tried, {count.pop('accepted', 0)} accepted")
        print("".join(f"  {many:>7} {name}\n" for name, many in count.items()), end="")
    return failed


def _round(kind: str, number: int, folder: Path, count: Counter[str]) -> None:
    @seed(number)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[*HealthCheck],
        report_multiple_bugs=False,
    )
    @given(document=KINDS[kind], slow=st.sampled_from([False] * (SLOW - 1) + [True]))
    def every_property_holds(document: Document, slow: bool) -> None:
        subject = Subject.write(document, folder)
        count["tried"] += 1
        held = hold(subject, slow=slow)
        count["accepted"] += subject.accepted is not None
        count.update(held)

    every_property_holds()


def _tell(kind: str, number: int, folder: Path) -> int:
    # the last document that was tried is the shrunk one
    file = folder / "cluster.yaml"
    site = folder / "site.yaml"
    with_site = f" --site {site}" if site.exists() else ""
    print(f"--- {file}\n{file.read_bytes().decode(errors='backslashreplace')[:4000]}\n---", file=sys.stderr)
    print(f"repeat it:  scripts/soak {shlex.quote(str(file))}{with_site}", file=sys.stderr)
    print(f"from the start:  scripts/soak --seed {number} --kind {kind}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
