"""Order of TensorRT-LLM versions such as 1.2.1 and 1.3.0rc27."""

from __future__ import annotations

import re

Version = tuple[int, int, int, int]

_FORM = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?(?:(?:rc|a|b|dev|post)(\d+))?", re.ASCII)
_RELEASED = 1_000_000
"""Stands for the release candidate number of a release: after every candidate."""


def parse_version(text: str) -> Version | None:
    """A comparable version, or None when `text` is not one; a bare `1.3` comes before its first candidate."""
    found = _FORM.fullmatch(text)
    if found is None or len(text) > 40:  # noqa: PLR2004 - no version is that long
        return None
    major, minor, patch, candidate = found.groups()
    if patch is None:
        return int(major), int(minor), 0, 0
    return int(major), int(minor), int(patch), int(candidate) if candidate else _RELEASED
