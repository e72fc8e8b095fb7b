"""Numbers that follow from a recipe, side by side: the memory of its GPUs.

Where they are not known (a model whose shape nothing on this machine tells) the reason stands in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.rule import subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bwdeploy.difference.sides import Side

Figures = dict[tuple[str, str], int | None]
"""By name and unit."""


class Figure(NamedTuple):
    """A number that follows from a recipe."""

    name: str
    unit: str
    """bytes, tokens, requests or GPUs."""
    a: int | None
    b: int | None


class FigureGroup(NamedTuple):
    """Numbers of one kind that differ."""

    title: str
    figures: tuple[Figure, ...]
    unknown_a: str
    """Why there are none for that side; empty where there are."""
    unknown_b: str


def figure_groups(a: Side, b: Side) -> tuple[FigureGroup, ...]:
    """All kinds of figures, each with what differs.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    return tuple(_group(title, figures_of(a), figures_of(b)) for title, figures_of in _KINDS)


def _memory_figures(side: Side) -> Figures | str:
    """Figures by name and unit, or why there are none."""
    subject = subject_of(side.loaded.recipe)
    memory = subject.memory
    if memory is None:
        problem = subject.model.problem
        return problem.message if problem else "the model's shape is not known on this machine"
    fullest = memory.fullest
    return {
        ("GPUs", "GPUs"): len(memory.per_gpu),
        ("weights per GPU", "bytes"): fullest.weights_bytes,
        ("draft per GPU", "bytes"): fullest.draft_bytes,
        ("activations per GPU", "bytes"): fullest.activation_bytes,
        ("KV cache of a full batch per GPU", "bytes"): fullest.kv_bytes,
        ("KV cache that is taken per GPU", "bytes"): fullest.kv_pool_bytes,
        ("total per GPU", "bytes"): fullest.total_bytes,
        ("memory of a GPU", "bytes"): fullest.capacity_bytes,
        ("KV cache of a token", "bytes"): memory.kv_bytes_per_token,
        ("tokens that fit", "tokens"): memory.max_tokens_in_kv,
        ("longest requests that fit", "requests"): memory.max_requests,
        ("checkpoint", "bytes"): memory.checkpoint_bytes,
    }


_KINDS: tuple[tuple[str, Callable[[Side], Figures | str]], ...] = (("memory", _memory_figures),)


def _group(title: str, first: Figures | str, second: Figures | str) -> FigureGroup:
    if isinstance(first, str) or isinstance(second, str):
        unknown_a, unknown_b = (one if isinstance(one, str) else "" for one in (first, second))
        return FigureGroup(title, (), unknown_a, unknown_b)
    changed = tuple(
        Figure(name, unit, first.get((name, unit)), second.get((name, unit)))
        for name, unit in dict.fromkeys((*first, *second))
        if first.get((name, unit)) != second.get((name, unit))
    )
    return FigureGroup(title, changed, "", "")
