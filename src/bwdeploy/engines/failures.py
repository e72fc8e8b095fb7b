"""What to do next after a failure of TensorRT-LLM's programs that others have met before.

Knows lines of logs, nothing of processes. The table `facts/data/known_failures.json` names the thread behind
each line; the most telling stand first, for one failure usually leaves several of them.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.reader import read_data

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAST_LINES = 2000
_LINE_LENGTH = 1000
"""Longer lines are cut: a pattern may cost time in proportion to a line."""


class KnownFailure(NamedTuple):
    """One failure."""

    id: str
    pattern: re.Pattern[str]
    hint: str
    source: str
    """The thread, or the upstream file that prints the line."""


@cache
def known_failures() -> tuple[KnownFailure, ...]:
    """Every failure that is known, the most telling first."""
    rows = read_data("known_failures.json")["failures"]
    return tuple(KnownFailure(**{**row, "pattern": re.compile(row["pattern"])}) for row in rows)


def known_failure(lines: Sequence[str]) -> KnownFailure | None:
    """The most telling failure in the last lines of a log, None when none is known."""
    last = [line[:_LINE_LENGTH].rstrip() for line in lines[-_LAST_LINES:]]
    return next((one for one in known_failures() if any(map(one.pattern.search, last))), None)


def hint_for_log(lines: Sequence[str]) -> str:
    """What to do next after a program ended with these lines; empty when nothing is known."""
    found = known_failure(lines)
    return f"{found.hint} (see {found.source})" if found is not None else ""
