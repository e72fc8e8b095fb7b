"""Weight formats as checkpoints name them, and where TensorRT-LLM has kernels for each.

`formats` speaks about the words of a recipe, this module about what a finished checkpoint says of itself,
which covers formats that no recipe makes (AWQ, GPTQ, MXFP4).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from bwdeploy.facts.reader import read_data

INT8_PREFIX = "W8A8_SQ"
"""SmoothQuant algorithms; there are several, and all compute in INT8."""


class Algorithm(NamedTuple):
    """One weight format."""

    title: str
    """For messages."""
    column: str
    """Column of upstream's model table; empty when it has none."""
    sm: frozenset[int]
    """Compute capabilities times ten with kernels."""
    maybe_sm: frozenset[int]
    """Compute capabilities of which upstream's table proves nothing."""
    sm_status: str
    """How sure `sm` is, for example `documented`."""

    @property
    def documented(self) -> bool:
        """Whether `sm` is upstream's own statement."""
        return self.sm_status.startswith("documented")


@cache
def algorithms() -> dict[str, Algorithm]:
    """Every known weight format by its canonical name."""
    return {
        name: Algorithm(
            title=row["title"],
            column=row["column"],
            sm=frozenset(row["sm"]),
            maybe_sm=frozenset(row["maybe_sm"]),
            sm_status=row["sm_status"],
        )
        for name, row in read_data("weight_algorithms.json")["algorithms"].items()
    }


def canonical(name: str) -> str:
    """The one name of an algorithm that checkpoints and ModelOpt spell in several ways."""
    spellings: dict[str, str] = read_data("weight_algorithms.json")["spellings"]
    return spellings.get(name.lower(), name.upper())


def title_of(name: str) -> str:
    """What messages call the algorithm `name`."""
    found = algorithms().get(name)
    return found.title if found else name
