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
_OF_THE_WHOLE_MODEL = frozenset({"nvfp4_awq_lite", "nvfp4_four_over_six"})
"""Formats with a calibration algorithm of their own, which cannot be given to one layer alone."""


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
        elif word in _OF_THE_WHOLE_MODEL:
            message = f"{word} calibrates the whole model in its own way: single layers cannot have it"
            yield Problem(path, message, "search among formats such as nvfp4, nvfp4_weight_only and fp8")


def _for_engine(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.quantize.trains and recipe.engine.backend == "tensorrt":
        message = f"{recipe.quantize.method} makes checkpoints for the PyTorch backend only"
        yield Problem(("quantize", "method"), message, "set engine.backend: pytorch, or quantize.method: ptq")


def _no_text_limit(subject: Subject) -> Iterator[Problem]:
    quantize, gate = subject.recipe.quantize, subject.recipe.gate
    limits = (gate.max_perplexity_increase, gate.max_kl_divergence, gate.min_top1_agreement)
    if quantize.method in {"qat", "qad", "auto"} and not gate.tasks and limits == (None, None, None):
        message = f"nothing stops a checkpoint of method {quantize.method} that answers badly"
        hint = "add gate.max_perplexity_increase, max_kl_divergence, min_top1_agreement or tasks"
        yield Problem(("gate",), message, hint)


def _trainings(subject: Subject) -> Iterator[tuple[tuple[str, str], Training | DraftTraining]]:
    """Every training of the recipe and its place."""
    recipe = subject.recipe
    if recipe.quantize.training is not None:
        yield ("quantize", "training"), recipe.quantize.training
    if recipe.speculative is not None and recipe.speculative.train is not None:
        yield ("speculative", "train"), recipe.speculative.train


def _warmup(subject: Subject) -> Iterator[Problem]:
    for path, section in _trainings(subject):
        if "warmup_steps" in section.model_fields_set and section.warmup_steps >= section.steps:
            message = (
                f"{section.warmup_steps} of {section.steps} steps are warm-up: the full rate is never reached"
            )
            yield Problem((*path, "warmup_steps"), message, "lower it to a tenth of steps or less")


def _validations(subject: Subject) -> Iterator[Problem]:
    for path, section in _trainings(subject):
        if "evaluate_every" in section.model_fields_set and section.evaluate_every > section.steps:
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
        why="Its algorithm moves factors between neighboring layers, so that the worker refuses the search.",
    ),
    Rule(
        id="quantize-training-for-engine",
        severity="error",
        summary="a trained model for trtllm-build",
        find=_for_engine,
        why="The files for trtllm-build are packed from bf16, which undoes much of what was trained.",
    ),
    Rule(
        id="gate-without-text-limit",
        severity="warning",
        summary="a trained or searched checkpoint whose answers nobody judges",
        find=_no_text_limit,
        why="A checkpoint of a training that went wrong is well formed: only its answers show it.",
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
