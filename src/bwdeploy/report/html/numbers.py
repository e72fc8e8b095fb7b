"""Figures as the report writes them."""

from __future__ import annotations

import math

_GIB, _MIB = 2**30, 2**20
_MEGABYTE, _GIGABYTE = 10**6, 10**9
_MINUTE_S, _HOUR_S = 60, 3600
_SHORTEST_S = 10
_THOUSAND = 1000.0
_HUNDRED = 100
ABSENT = "—"


def gib(size: int) -> str:
    """For example `74.60 GiB`; in MiB where that would be next to nothing."""
    return f"{size / _GIB:,.2f} GiB" if size >= _GIB // 100 else f"{size / _MIB:,.2f} MiB"


def file_size(size: int) -> str:
    """For example `12.4 MB`."""
    if size >= _GIGABYTE:
        return f"{size / _GIGABYTE:,.2f} GB"
    return f"{size / _MEGABYTE:,.1f} MB" if size >= _MEGABYTE else f"{size / _THOUSAND:,.1f} kB"


def duration(seconds: float) -> str:
    """For example `1 h 05 min`, `3 min 20 s`, `4.2 s`."""
    if seconds < _SHORTEST_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"


def large_count(count: float) -> str:
    """For example `671.0 billion`, `134.5 million`, `9,216`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:,.1f} {word}"
    return f"{count:,.0f}"


def rounded(value: float | None, digits: int = 2) -> str:
    """With so many decimals; a dash for what was not measured."""
    if value is None:
        return ABSENT
    return f"{value:,.{digits}f}" if math.isfinite(value) else str(value)


def significant(value: float | None) -> str:
    """With four digits; a dash for what was not measured."""
    return ABSENT if value is None else f"{value:.4g}"


def speed(value: float) -> str:
    """Tokens a second with about three digits."""
    return f"{value:,.0f}" if value >= _HUNDRED else f"{value:,.1f}"


def percent(value: float, digits: int = 1) -> str:
    """A share as `12.3 %`."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else str(value)


def change(value: float, digits: int = 2) -> str:
    """A relative change with its sign."""
    return f"{100 * value:+.{digits}f} %" if math.isfinite(value) else str(value)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """For example `2.31 (2.20 to 2.44)`."""
    return f"{rounded(value, digits)} ({rounded(low, digits)} to {rounded(high, digits)})"
