"""Find the reason in a Triton log: why a model did not load, why the server ended. Pure text work."""

from __future__ import annotations

import re
from typing import Final

_PORT_TAKEN: Final = re.compile(
    r"(address already in use|socket '[^']*' already in use|failed to start \w+ service)", re.IGNORECASE
)
_ROW: Final = re.compile(r"^\|(?P<cells>.*)\|\s*$")
_GLOG: Final = re.compile(r"^[EF]\d{4} \S+ \d+ [^\]]*\] (?P<text>.*)$")
_OF_EVERY_START: Final = re.compile(
    r"CudaDriverHelper has not been initialized|CUDA driver version is insufficient|failed to stop server"
)
"""Errors of each start on a machine without a GPU, and of each hard end; they explain nothing."""
_MODEL_TABLE_CELLS: Final = 3
_MAX_LINES: Final = 12


def port_was_taken(log: str) -> bool:
    """Whether the server ended because one of its ports was in use."""
    return bool(_PORT_TAKEN.search(log))


def failure_reasons(log: str) -> tuple[str, ...]:
    """The lines that say why it failed: of failed models, else of errors, else the last ones."""
    lines = log.splitlines()
    reasons = (
        _failed_models(lines) or _error_lines(lines) or [line for line in lines if line.strip()][-_MAX_LINES:]
    )
    return tuple(dict.fromkeys(reasons))[:_MAX_LINES]


def _failed_models(lines: list[str]) -> list[str]:
    """Rows of the server's model table whose status says UNAVAILABLE; a long status spans several rows."""
    found: list[str] = []
    open_row = False
    for line in lines:
        match = _ROW.match(line)
        cells = [cell.strip() for cell in match["cells"].split("|", _MODEL_TABLE_CELLS - 1)] if match else []
        if len(cells) != _MODEL_TABLE_CELLS:
            open_row = False
        elif cells[0]:
            open_row = cells[2].startswith("UNAVAILABLE")
            if open_row:
                found.append(f"{cells[0]}: {cells[2]}")
        elif open_row and cells[2]:
            found.append(cells[2])
    return found


def _error_lines(lines: list[str]) -> list[str]:
    found = [match["text"] for line in lines if (match := _GLOG.match(line))]
    return [text for text in found if not _OF_EVERY_START.search(text)] or found
