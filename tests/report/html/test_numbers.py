from __future__ import annotations

import math

import pytest

from bwdeploy.report.html.numbers import (
    change,
    duration,
    file_size,
    gib,
    interval,
    large_count,
    rounded,
    significant,
    speed,
)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (duration(4.24), "4.2 s"), (duration(59.4), "59 s"), (duration(59.9), "1 min 00 s"),
        (duration(3599.9), "1 h 00 min"), (duration(7500), "2 h 05 min"),
        (gib(80_102_400_000), "74.60 GiB"), (gib(500_000), "0.48 MiB"),
        (file_size(712), "0.7 kB"), (file_size(16_060_000_000), "16.06 GB"),
        (large_count(671e9), "671.0 billion"), (large_count(9216), "9,216"),
        (rounded(None), "—"), (rounded(math.nan), "nan"), (rounded(1234.5), "1,234.50"),
        (change(-0.0174), "-1.74 %"), (change(math.inf), "inf"), (significant(None), "—"),
        (speed(99.94), "99.9"), (speed(1234.4), "1,234"), (interval(2.31, 2.2, 2.44), "2.31 (2.20 to 2.44)"),
    ],
)  # fmt: skip
def test_figures_are_written_for_people(shown: str, expected: str) -> None:
    assert shown == expected
