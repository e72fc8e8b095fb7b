"""Rules on how a quantized model is trained or its formats are searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table
from bwdeploy.recipe.schema import FormatSearch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.schema import DraftTraining, Training

_OF_METHOD = {"training": ("qat", "qad"), "search": ("auto",)}
_MIXABLE = frozenset({"nvfp4", "nvfp4_weight_only", "fp8", "nvfp4_awq_lite", "w4a8_nvfp4_fp8"})
"""Formats that the search can give to one layer alone: those whose preset covers every linear layer."""


def _section_unused(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    for key, methods in _OF_METHOD.items():
        if getattr(quantize, key) is not None and quantize.method not in methods:
            message = f"method {quantize.method} does not use {key}"
            yield Problem(
                ("quantize", key), message, f"remove it, or set quantize.method: {' or '.join(methods)}"
            )


def _search_and_format(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.method != "auto":
        return
    for key in ("format", "recipe"):
        if getattr(quantize, key) is not None:
            message = f"method auto searches the formats itself, so {key} has no effect"
            yield Problem(
                ("quantize", key), message, "remove it; quantize.search.formats names the candidates"
            )


def _search_budget(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.method != "auto":
        return
    search = quantize.search or FormatSearch()
    bits = {word: format_table().formats[word].bits_per_weight for word in search.formats}
    least = min(bits, key=lambda word: bits[word])
    if search.effective_bits < bits[least]:
        message = (
            f"no layer can have fewer than {bits[least]:g} bits ({least}): "
            f"{search.effective_bits:g} are allowed"
        )
        yield Problem(
            ("quantize", "search", "effective_bits"), message, f"raise it to {bits[least]:g} or more"
        )


def _search_formats(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.method != "auto" or quantize.search is None:
        return
    for index, word in enumerate(quantize.search.formats):
        path = ("quantize", "search", "formats", index)
        if word in quantize.search.formats[:index]:
            yield Problem(path, f"{word} is named twice", "remove one of them")
        elif word not in _MIXABLE:
            message = f"{word} cannot be given to single layers by the search"
            yield Problem(path, message, f"choose among {', '.join(sorted(_MIXABLE))}")


def _trainings(subject: Subject) -> Iterator[tuple[tuple[str, str], Training | DraftTraining]]:
    """Every training of the recipe and its place."""
    recipe = subject.recipe
    if recipe.quantize.training is not None:
        yield ("quantize", "training"), recipe.quantize.training
    if recipe.speculative is not None and recipe.speculative.train is not None:
        yield ("speculative", "train"), recipe.speculative.train


def _warmup(subject: Subject) -> Iterator[Problem]:
    for path, section in _trainings(subject):
        if section.warmup_steps >= section.steps:
            message = (
                f"{section.warmup_steps} of {section.steps} steps are warm-up: the full rate is never reached"
            )
            yield Problem((*path, "warmup_steps"), message, "lower it to a tenth of steps or less")


def _validations(subject: Subject) -> Iterator[Problem]:
    for path, section in _trainings(subject):
        if section.evaluate_every > section.steps:
            message = f"validated every {section.evaluate_every} steps, but there are only {section.steps}"
            hint = "lower evaluate_every: without a validation there is no checkpoint to resume from"
            yield Problem((*path, "evaluate_every"), message, hint)


def _even_batches(subject: Subject) -> Iterator[Problem]:
    for path, section in _trainings(subject):
        if section.batch_size % section.gpus:
            message = f"{section.batch_size} sequences cannot be shared evenly by {section.gpus} GPUs"
            yield Problem(
                (*path, "batch_size"), message, f"choose a multiple of {section.gpus}; it counts all GPUs"
            )


RULES = (
    Rule(
        id="quantize-section-unused",
        severity="error",
        summary="training or search for a method that does neither",
        find=_section_unused,
        why="Whoever reads the recipe would believe in a training that never happened.",
    ),
    Rule(
        id="quantize-search-and-format",
        severity="error",
        summary="a search and a fixed format exclude each other",
        find=_search_and_format,
        why="One of the two would be ignored, and the checkpoint would not be what the recipe says.",
    ),
    Rule(
        id="quantize-search-budget",
        severity="error",
        summary="fewer bits than the smallest searched format has",
        find=_search_budget,
        source="modelopt.torch.quantization.auto_quantize",
        why="The search ends with an error, after every layer has been scored.",
    ),
    Rule(
        id="quantize-search-formats",
        severity="error",
        summary="a format that the search cannot give to single layers",
        find=_search_formats,
        source="modelopt.torch.quantization.auto_quantize",
        why="A preset for some kinds of layers only would leave the others unquantized and the budget unkept.",
    ),
    Rule(
        id="training-warmup",
        severity="error",
        summary="a training that is all warm-up",
        find=_warmup,
        why="The learning rate rises to the end: the training stops where it should begin.",
    ),
    Rule(
        id="training-without-validation",
        severity="error",
        summary="a training shorter than the distance between two validations",
        find=_validations,
        why="Checkpoints are written at validations; an interrupted run would start from nothing.",
    ),
    Rule(
        id="training-batch-uneven",
        severity="error",
        summary="a batch that cannot be shared evenly by the GPUs",
        find=_even_batches,
        why="Ranks with batches of different sizes weigh sequences differently, or wait for ever.",
    ),
)
