"""The names that an installed lm-eval has for tasks, groups and tags, read from its files.

Nothing of lm-eval is imported: building its own index takes seconds and its libraries more. A line that names
a task in one of its 14,000 YAML files is found by its form.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_PACKAGE = "lm_eval"
_NAMED = re.compile(r"^[\"']?(?:task|group|tag)[\"']?[ \t]*:[ \t]*[\"']?([^\s#'\"\[]+)", re.MULTILINE)
_LISTED = re.compile(r"^[\"']?tag[\"']?[ \t]*:[ \t]*\n((?:[ \t]*-[ \t]*\S+[ \t]*\n?)+)", re.MULTILINE)
_IN_BRACKETS = re.compile(r"^[\"']?tag[\"']?[ \t]*:[ \t]*\[([^\]]*)\]", re.MULTILINE)
_WORD = re.compile(r"[^\s'\",-][^\s'\",]*")


def installed_lm_eval() -> Path | None:
    """The directory of the package, None when it is not installed."""
    spec = find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


@cache
def task_names(package: Path) -> frozenset[str]:
    """Every name that may stand in a recipe."""
    names: set[str] = set()
    for directory, _, files in os.walk(package / "tasks"):
        for file in files:
            if file.endswith((".yaml", ".yml")) or "." not in file:  # those without are included by others
                names |= _names_in(Path(directory, file).read_text(encoding="utf-8", errors="replace"))
    return frozenset(names)


def _names_in(text: str) -> set[str]:
    names = set(_NAMED.findall(text))
    for listed in (*_LISTED.findall(text), *_IN_BRACKETS.findall(text)):
        names |= set(_WORD.findall(listed))
    return names
