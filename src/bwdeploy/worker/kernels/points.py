"""Which points the benchmark measures, and how many bytes each has to move.

Sizes are those of served models: hidden sizes from 1B to 405B parameters, intermediate sizes as one GPU of
a tensor-parallel group holds them, rows from one decoded token to a long prefill. Pure; no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Family = Literal["norm", "mlp"]

HIDDEN = (2048, 5120, 7168, 16384)
INTERMEDIATE = (2048, 8192, 18432)
ROWS = (1, 8, 64, 512, 8192)
BANDWIDTH_ROWS = 8192
"""Where the memory is the limit, and the share of its bandwidth is judged."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "add_rmsnorm_quant_fp8": ("fp8 static", "fp8 dynamic"),
    "add_rmsnorm_quant_nvfp4": ("nvfp4 swizzled", "nvfp4 linear"),
    "silu_mul_quant_fp8": ("fp8 static", "fp8 dynamic"),
    "silu_mul_quant_nvfp4": ("nvfp4 swizzled", "nvfp4 linear"),
}
"""Op → what it can make; bf16 in."""
CHAINS = ((2048, 8192), (5120, 8192), (7168, 18432), (7168, 2048))
"""Hidden and intermediate size of the chains of four."""
CHAIN_ROWS = (1, 8)

_QUICK_ROWS = (8, 512)
_BYTES_MADE = {"fp8": 1.0, "nvfp4": 0.5 + 1 / 16}
_BYTES_KEPT = {"norm": 6.0, "mlp": 4.0}
"""bf16 activation and residual in, residual out; or gate and up in."""
_MOST_SETS, _FEWEST_SETS = 16, 3
_ENOUGH_BYTES = 150_000_000
"""Three times the L2 cache of an H100: of large buffers nothing is left there when their turn comes again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One shape, and all that is measured at it with the same buffers."""

    family: Family
    rows: int
    width: int
    variants: tuple[tuple[str, str], ...]
    """Pairs of op and variant."""

    @property
    def sets(self) -> int:
        """How many sets of buffers the launches take turns with."""
        bytes_of_one = math.ceil(self.rows * self.width * 5)
        return min(_MOST_SETS, max(_FEWEST_SETS, math.ceil(_ENOUGH_BYTES / bytes_of_one)))

    @property
    def launches(self) -> int:
        """How many launches one CUDA graph holds: short ones need more for the clock to see them."""
        return 96 if self.rows <= 64 else 48 if self.rows <= 512 else 16  # noqa: PLR2004 - a table in one line


def sizes(ops: tuple[str, ...], *, quick: bool) -> tuple[Size, ...]:
    """Every shape at which these ops are measured; `quick`: two of each family."""
    found = []
    families: tuple[tuple[Family, tuple[int, ...]], ...] = (("norm", HIDDEN), ("mlp", INTERMEDIATE))
    for family, widths in families:
        variants = tuple(
            (op, variant) for op in ops if family_of(op) == family for variant in VARIANTS.get(op, ())
        )
        every = [
            Size(family=family, rows=rows, width=width, variants=variants)
            for width in widths
            for rows in ROWS
            if variants
        ]
        found += [replace(size) for size in every if not quick or _is_quick(size, widths)]
    return tuple(found)


def family_of(op: str) -> Family:
    """What an op replaces, as far as its inputs go."""
    return "mlp" if op.startswith("silu_mul") else "norm"


def bytes_moved(size: Size, variant: str) -> float:
    """The fewest bytes that a launch reads and writes: each input once, each output once."""
    return size.rows * size.width * (_BYTES_KEPT[size.family] + _BYTES_MADE[variant.partition(" ")[0]])


def _is_quick(size: Size, widths: tuple[int, ...]) -> bool:
    return size.rows in _QUICK_ROWS and size.width == widths[1]
