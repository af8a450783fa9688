from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.spec import units


@given(st.integers(1, 4096), st.sampled_from(sorted(units.SIZES)))
def test_what_is_shown_reads_back_as_the_same_size(count: int, unit: str) -> None:
    size = count * units.SIZES[unit]
    assert units.size(units.show_size(size)) == size


@given(st.integers(1, 10_000), st.sampled_from(sorted(units.DURATIONS)))
def test_what_is_shown_reads_back_as_the_same_duration(count: int, unit: str) -> None:
    seconds = count * units.DURATIONS[unit]
    assert units.duration(units.show_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "16", "16gib", "GiB", "-1GiB", "1 G", 16, None, True])
def test_a_size_without_a_proper_unit_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="write it like"):
        units.size(text)
