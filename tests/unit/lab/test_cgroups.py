"""Groups come and go while the lab looks at them: pods end, systemd tidies up."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from lab import cgroups


def test_a_group_that_goes_while_it_is_looked_at_is_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name / "pod").mkdir(parents=True)
    seen = []
    for group in cgroups.below(tmp_path):
        seen.append(group)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(tmp_path / "c")
    assert tmp_path / "a" / "pod" in seen
    assert tmp_path / "c" / "pod" not in seen


def test_the_deepest_come_first_where_groups_are_removed(tmp_path: Path) -> None:
    (tmp_path / "host" / "pod" / "container").mkdir(parents=True)
    for group in cgroups.below(tmp_path, deepest_first=True):
        group.rmdir()
    assert not tmp_path.exists()
