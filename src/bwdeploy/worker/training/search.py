"""Quantization by search (method `auto`): ModelOpt scores each layer's formats and chooses within a budget.

ModelOpt's `auto_quantize` decides; what it decided then goes through `worker.quantize` as overrides, so that
calibration, KV cache, export and repairs are those of any other checkpoint, and a recipe that lists the found
formats gives the same bytes. Layers that the recipe's own overrides decide are scored around, as unquantized.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.jobs import QuantizePtq
from bwdeploy.pipeline.training_jobs import LayerSensitivity, TrainedResult
from bwdeploy.recipe.schema import FormatOverride, FormatSearch
from bwdeploy.worker import quant_config, quantize
from bwdeploy.worker.failures import recipe_error
from bwdeploy.worker.ranks.refusals import refuse_quantization
from bwdeploy.worker.ranks.source import read_source
from bwdeploy.worker.training.search_scores import score_formats
from bwdeploy.worker.training.search_space import (
    NONE,
    Layer,
    bits_of,
    effective_bits,
    require_feasible,
    search_space,
)
from bwdeploy.worker.training.search_state import SearchOutcome, keep_outcome, kept_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bwdeploy.pipeline.jobs import Progress
    from bwdeploy.pipeline.training_jobs import QuantizeTrained
    from bwdeploy.worker.training.search_scores import ScoredGroup
    from bwdeploy.worker.training.search_space import SearchSpace


def run_search(request: QuantizeTrained, report: Callable[[Progress], None]) -> TrainedResult:
    """Search a format for every layer of `request.source`, then quantize it into `request.out`.

    Raises:
        RecipeError: the budget is infeasible, a format cannot be searched, overrides or data do not fit.
        HostError: no CUDA device although the job wants one.
    """
    outcome = kept_outcome(request)
    if outcome is None:
        outcome = search_formats(request, report)
        keep_outcome(request, outcome)
    found = [*_overrides(outcome), *request.overrides]
    result = quantize.run(_quantization(request, found), report)
    return TrainedResult(
        **result.model_dump()
        | {
            "seconds": outcome.seconds | result.seconds,
            "effective_bits": outcome.effective_bits,
            "sensitivity": outcome.sensitivity,
        }
    )


def search_formats(request: QuantizeTrained, report: Callable[[Progress], None]) -> SearchOutcome:
    """Score the formats of every layer and choose within the budget.

    Raises:
        As `run_search`.
    """
    search = request.search or FormatSearch()
    _refuse_early(request, search)
    clock = quantize.Clock()
    with clock.phase("search: load", report):
        model = quantize.load_model(request)
        layers = _layers(model)
        space = search_space(search, request.overrides, layers)
        require_feasible(search, space.groups)
        batches = quantize.calibration_batches(request)
    with clock.phase("search", report):
        scored = score_formats(model, batches, space, search, report)
    del model
    _free_memory()
    return _outcome(scored, space, clock.seconds)


def _refuse_early(request: QuantizeTrained, search: FormatSearch) -> None:
    """What would only be refused after the search."""
    offered = [FormatOverride(modules="*", format=word) for word in search.formats]
    probe = _quantization(request, [*offered, *request.overrides])
    quant_config.check_words(probe)
    quantize.refuse_wrong_device(request.device)
    quantize.refuse_quantized_source(request.source)
    if request.layout == "tensorrt_llm":
        refuse_quantization(probe, read_source(request.source, trust_remote_code=request.trust_remote_code))


def _quantization(request: QuantizeTrained, overrides: Iterable[FormatOverride]) -> QuantizePtq:
    """The post-training quantization with the formats that `overrides` say."""
    search = request.search or FormatSearch()
    said = {name: getattr(request, name) for name in QuantizePtq.model_fields}
    return QuantizePtq(**said | {"format": search.formats[0], "recipe": None, "overrides": tuple(overrides)})


def _overrides(outcome: SearchOutcome) -> Iterator[FormatOverride]:
    for group in outcome.sensitivity:
        for name in group.modules:
            yield FormatOverride.model_validate({"modules": name, "format": group.chosen})
    for name in outcome.unquantized:
        yield FormatOverride(modules=name, format="none")


def _layers(model: Any) -> dict[str, Layer]:  # noqa: ANN401 - a transformers model
    return {
        name: Layer(width, _weights(model.get_submodule(name)))
        for name, width in quantize.layer_widths(model).items()
    }


def _weights(module: Any) -> int:  # noqa: ANN401 - a torch module
    return sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.dim() > 1)


def _outcome(scored: tuple[ScoredGroup, ...], space: SearchSpace, seconds: dict[str, float]) -> SearchOutcome:
    """What was found.

    Raises:
        RecipeError: nothing would be quantized.
    """
    if all(entry.chosen == NONE for entry in scored):
        raise recipe_error(
            "quantize.search.effective_bits",
            "this budget leaves every layer unquantized",
            hint="Lower it, or use method: none.",
        )
    return SearchOutcome(
        effective_bits=round(effective_bits((entry.group, entry.chosen) for entry in scored), 6),
        sensitivity=tuple(_sensitivity(entry) for entry in scored),
        unquantized=space.undecided,
        seconds=seconds,
    )


def _sensitivity(scored: ScoredGroup) -> LayerSensitivity:
    return LayerSensitivity(
        modules=scored.group.modules,
        chosen=scored.chosen,
        scores=scored.scores,
        bits={word: scored.group.weights * bits_of(word) for word in scored.scores},
    )


def _free_memory() -> None:
    """The next model must not stand beside the searched one."""
    gc.collect()  # modules hold reference cycles
    cuda = import_module("torch").cuda
    if cuda.is_available():
        cuda.empty_cache()
