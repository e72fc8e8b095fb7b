"""What `kernels test` compares: shapes, layouts and values at which a kernel goes wrong first.

Rows that fill no tile, widths that are no power of two, rows apart in memory, rows of zeros, NaN and
infinity, both activation types, both roundings, every kind of scale. Pure; no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Filling = Literal["random", "strided", "not finite", "zero rows", "tiny", "large"]
FILLINGS: tuple[Filling, ...] = ("strided", "not finite", "zero rows", "tiny", "large")
ACTIVATIONS = ("bfloat16", "float16")

_ROWS, _WIDTHS = (1, 19, 111, 989), (80, 1008, 4976, 7168)
_CPU_ROWS, _CPU_WIDTHS = (1, 19, 111), (80,)
_WIDE = 16384
_USUAL_ROWS, _USUAL_WIDTH, _CPU_USUAL_WIDTH = 19, 1008, 208
_EXPERTS = 5
_TILE_ROWS = 128
"""An expert's rows must fill whole tiles for its scales to be swizzled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison."""

    op: str
    """Folder of the op, and name of the torch op."""
    rows: int
    """Of one expert, when there are experts."""
    width: int
    activation: str = "bfloat16"
    scale: Literal["static", "dynamic", "swizzled", "linear"]
    eager_rounding: bool = False
    filling: Filling = "random"
    experts: int = 0

    @property
    def name(self) -> str:
        """As shown to people."""
        words = [f"{self.rows} x {self.width}", self.activation, self.scale, self.filling]
        words += [f"{self.experts} experts"] if self.experts else []
        words += ["eager rounding"] if self.eager_rounding else []
        return ", ".join(words)


def cases_of(op: str, *, small: bool) -> tuple[Case, ...]:
    """Every comparison of an op that one process can make; `small`: what a CPU does in seconds."""
    rows, widths = (_CPU_ROWS, _CPU_WIDTHS) if small else (_ROWS, _WIDTHS)
    found: list[Case] = []
    for scale in ("static", "dynamic") if op.endswith("fp8") else ("swizzled", "linear"):
        usual_width = _CPU_USUAL_WIDTH if small else _USUAL_WIDTH
        usual = Case(op=op, rows=_USUAL_ROWS, width=usual_width, scale=scale)
        for one in _both_types_and_roundings(usual):
            found += [replace(one, rows=r, width=w) for r, w in product((0, *rows), widths)]
            found += [replace(one, filling=filling) for filling in FILLINGS]
        if not small:
            found += [replace(usual, rows=r, width=_WIDE) for r in (1, 8)]
        if op.startswith("silu_mul"):
            found += _grouped(usual)
    return tuple(found)


def _both_types_and_roundings(case: Case) -> Iterator[Case]:
    for activation, eager in product(ACTIVATIONS, (False, True)):
        yield replace(case, activation=activation, eager_rounding=eager)


def _grouped(case: Case) -> list[Case]:
    rows = _TILE_ROWS if case.scale == "swizzled" else _USUAL_ROWS
    return [replace(case, rows=rows, experts=_EXPERTS, activation=activation) for activation in ACTIVATIONS]
