"""Refuses what ModelOpt would export wrong or not at all, before the long work.

Everything is known from the request and the model's configuration. What only the exported tensors show (a
format that a ModelOpt recipe chose, stages that differ) is refused in `quantization`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.facts.formats import format_table
from bwdeploy.facts.rank_export import (
    NVFP4_BLOCK,
    lost_part_problem,
    mixing_problem,
    rank_export,
    size_conflicts,
)
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.pipeline.jobs import QuantizePtq
    from bwdeploy.worker.ranks.source import SourceModel


def refuse_model(model: SourceModel, *, tp: int, pp: int, block: int | None = None) -> None:
    """Refuse architectures, positions and sizes that cannot be exported; `block` as of `size_conflicts`.

    Raises:
        RecipeError: with everything that is wrong.
    """
    _raise(_model_problems(model, tp=tp, pp=pp, block=block))


def refuse_quantization(request: QuantizePtq, model: SourceModel) -> None:
    """Refuse the model, and formats without an engine.

    Raises:
        RecipeError: with everything that is wrong.
    """
    table = format_table().formats
    words = dict(_formats(request))
    blocks = any(table[word].weights == "nvfp4" for word in words.values())
    block = NVFP4_BLOCK if blocks else None
    _raise(
        [*_format_problems(words), *_model_problems(model, tp=request.tp, pp=request.pp, block=block)],
    )
    refuse_lost_parts(model, {table[word].quant_algo for word in words.values()})


def refuse_lost_parts(model: SourceModel, algorithms: set[str]) -> None:
    """Refuse algorithms whose engine would leave out a part of the model.

    Raises:
        RecipeError: there is one.
    """
    lost = lost_part_problem(model.architecture, algorithms)
    if lost:
        raise recipe_error("quantize", lost, hint="Use fp8, or engine.backend: pytorch.")


def _formats(request: QuantizePtq) -> Iterator[tuple[str, str]]:
    if request.format is not None:
        yield "quantize.format", request.format
    for number, override in enumerate(request.overrides):
        if override.format != "none":
            yield f"quantize.overrides[{number}].format", override.format


def _format_problems(words: dict[str, str]) -> Iterator[Finding]:
    table, refused = format_table().formats, rank_export().refused_formats
    exportable = sorted(table.keys() - refused.keys())
    for path, word in words.items():
        if word in refused:
            message = f"{word} cannot go into an engine: {refused[word]}"
            yield _finding(path, message, f"One of: {', '.join(exportable)}; or engine.backend: pytorch.")
    mixed = mixing_problem({table[word].quant_algo for word in words.values()})
    if mixed:
        yield _finding("quantize.overrides", mixed, "Use none, or fp8 as quantize.format.")


def _model_problems(model: SourceModel, *, tp: int, pp: int, block: int | None) -> Iterator[Finding]:
    facts = rank_export()
    if model.architecture not in facts.architectures:
        message = f"ModelOpt's export for engines is not known to be right for {model.architecture}"
        known = ", ".join(facts.architectures)
        hint = f"Known: {known}. Set engine.converter: tensorrt_llm, or engine.backend: pytorch."
        yield _finding("model.source", message, hint)
        return
    rope = (model.rope_scaling or {}).get("rope_type", "default")
    if rope not in facts.rope_types:
        message = f"its positions are scaled by {rope}, which an engine of this architecture does not compute"
        yield _finding("model.source", message, "Set engine.backend: pytorch.")
    for conflict in size_conflicts(model.sizes, tp=tp, pp=pp, block=block):
        yield _finding(conflict.path, conflict.message, f"{conflict.hint[0].upper()}{conflict.hint[1:]}.")


def _finding(path: str, message: str, hint: str) -> Finding:
    return Finding(rule="worker", severity="error", path=path, message=message, hint=hint)


def _raise(problems: list[Finding] | Iterator[Finding]) -> None:
    found = tuple(problems)
    if found:
        raise RecipeError(found)
