"""What ptxas says of each kernel under --resource-usage: registers, shared memory, stack, spills.

The form is that of nvcc 12.8 to 13.0. Numbers that a line does not give are 0, as ptxas leaves them out then;
lines of anything else are passed over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bwdeploy.kernels.mangled_names import short_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENTRY = re.compile(r"ptxas info\s*: Compiling entry function '([^']+)' for '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"ptxas info\s*: Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class KernelResources:
    """What one kernel takes on one architecture."""

    sm: str
    name: str
    registers: int
    """Of each thread."""
    shared_bytes: int
    """Static; a launch may add more."""
    stack_bytes: int
    spill_bytes: int
    """Stores and loads together; above 0 the kernel runs out of registers."""


def kernel_resources(output: str) -> tuple[KernelResources, ...]:
    """Every kernel in the output of nvcc, by architecture and name."""
    return tuple(sorted(_kernels(output.splitlines())))


def _kernels(lines: list[str]) -> Iterator[KernelResources]:
    entry: re.Match[str] | None = None
    stack = spills = 0
    for line in lines:
        if found := _ENTRY.search(line):
            entry, stack, spills = found, 0, 0
        elif entry and (found := _STACK.search(line)):
            stack, spills = int(found[1]), int(found[2]) + int(found[3])
        elif entry and (used := _USED.search(line)):
            shared = _SHARED.search(line)
            yield KernelResources(
                sm=entry[2],
                name=short_name(entry[1]),
                registers=int(used[1]),
                shared_bytes=int(shared[1]) if shared else 0,
                stack_bytes=stack,
                spill_bytes=spills,
            )
            entry = None
