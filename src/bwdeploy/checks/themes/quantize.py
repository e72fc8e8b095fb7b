"""Rules on `quantize` and `gate`: what must be said, what excludes what, what can never hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.arguments import MARLIN_SM, at_least, names_marlin
from bwdeploy.checks.checkpoint_format import describe_source, is_moe
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import overrides
from bwdeploy.facts.algorithms import title_of
from bwdeploy.facts.formats import FormatFacts, format_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.gpus import Gpu

_RECIPE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", re.ASCII)


def _format_missing(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    decided = quantize.format or quantize.recipe or quantize.method == "auto"
    if quantize.quantizes and not decided:
        message = f"method {quantize.method} needs a format or a ModelOpt recipe"
        yield Problem(
            ("quantize",), message, "add quantize.format, for example nvfp4, or set quantize.method: none"
        )


def _format_and_recipe(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.format is not None and quantize.recipe is not None:
        message = "a ModelOpt recipe decides the format itself"
        yield Problem(("quantize", "format"), message, "remove quantize.format or quantize.recipe")


def _unused(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.quantizes:
        return
    given = {
        "format": quantize.format is not None,
        "recipe": quantize.recipe is not None,
        "overrides": bool(quantize.overrides),
        "kv_cache": quantize.kv_cache != "none",
    }
    for key in (key for key, is_given in given.items() if is_given):
        message = f"method {quantize.method} quantizes nothing, so {key} has no effect"
        yield Problem(("quantize", key), message, "remove it, or set quantize.method: ptq")


def _recipe_name(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe.quantize.recipe
    if recipe is None or recipe.startswith("file://"):
        return
    if not _RECIPE_NAME.fullmatch(recipe):
        message = f"{recipe!r} is neither the name of a ModelOpt recipe nor a file:// path"
        file = recipe.removeprefix("./") if recipe.endswith((".yaml", ".yml")) else "my_recipe.yaml"
        hint = f"write a name such as general/ptq/nvfp4_default-kv_fp8_cast, or file://{file}"
        yield Problem(("quantize", "recipe"), message, hint)


def _source_and_method(subject: Subject) -> Iterator[Problem]:
    method, said = subject.recipe.quantize.method, subject.model.quantization
    if method == "prequantized":
        if said is None and subject.model.config is not None and subject.model.directory is not None:
            message = "the source is not quantized: neither config.json nor hf_quant_config.json says how"
            yield Problem(
                ("quantize", "method"), message, "set quantize.method: ptq with a format, or method: none"
            )
        return
    if said is None:
        return
    title = title_of(describe_source(said))
    message = f"the source is already quantized ({title}), so method {method} does not apply"
    hint = "set quantize.method: prequantized to serve it as it is, or name the bf16 model as model.source"
    yield Problem(("quantize", "method"), message, hint)


def _experts_format_on_dense(subject: Subject) -> Iterator[Problem]:
    quantize, shape = subject.recipe.quantize, subject.shape
    if quantize.format is None or not quantize.quantizes or shape is None or is_moe(shape):
        return
    if format_table().formats[quantize.format].modules == "routed experts":
        message = f"{quantize.format} quantizes routed experts only, and {shape.architecture} has none"
        yield Problem(("quantize", "format"), message, "set quantize.format: nvfp4 or nvfp4_mlp_only")


def _format_on_gpu(subject: Subject) -> Iterator[Problem]:
    gpu, quantize = subject.gpu, subject.recipe.quantize
    if gpu is None or not quantize.quantizes:
        return
    named = [(("quantize", "format"), quantize.format)] if quantize.format else []
    by_override = [
        (("quantize", "overrides", index, "format"), override.format)
        for index, override in enumerate(quantize.overrides)
        if override.format != "none"
    ]
    for path, name in (*named, *by_override):
        facts = format_table().formats[name]
        if gpu.sm in facts.sm:
            continue
        message = f"TensorRT-LLM has no {name} kernels for {gpu.id} (SM{gpu.sm})"
        sure = _absence_is_sure(subject, facts, gpu)
        yield Problem(
            path,
            message if sure else f"{message} that upstream documents",
            _fitting_hint(gpu) if gpu.sm not in _UNDOCUMENTED_SM else "try it there before you rely on it",
            None if sure else "warning",
        )


_UNDOCUMENTED_SM = frozenset({121})
"""Upstream's table has no column for these, so absence there proves nothing."""
_NEWER_FP8_BLOCK_SM = frozenset({120})
"""Since 1.3 the CUTLASS backend has FP8 block kernels for experts here."""


def _absence_is_sure(subject: Subject, facts: FormatFacts, gpu: Gpu) -> bool:
    if not facts.documented or gpu.sm in _UNDOCUMENTED_SM:
        return False
    if facts.group_size == 128 and gpu.sm in _NEWER_FP8_BLOCK_SM:  # noqa: PLR2004 - the FP8 block
        return not at_least(subject, "1.3")
    return not (facts.weights == "nvfp4" and gpu.sm in MARLIN_SM and names_marlin(subject))


def _fitting_hint(gpu: Gpu) -> str:
    fitting = ", ".join(sorted(word for word, other in format_table().formats.items() if gpu.sm in other.sm))
    return f"choose one of: {fitting}" if fitting else "choose another GPU"


def _gate_bits(subject: Subject) -> Iterator[Problem]:
    quantize, limit = subject.recipe.quantize, subject.recipe.gate.max_bits_per_weight
    if limit is None or not quantize.quantizes or quantize.format is None:
        return
    names = {quantize.format, *(o.format for o in quantize.overrides if o.format != "none")}
    least = min(format_table().formats[name].bits_per_weight for name in names)
    if limit < least:
        message = f"no checkpoint of this recipe can have fewer than {least} bits per weight"
        yield Problem(
            ("gate", "max_bits_per_weight"), message, f"raise it to {least} or more, or drop the limit"
        )


RULES = (
    Rule(
        id="quantize-format-missing",
        severity="error",
        summary="quantization needs a format or a ModelOpt recipe",
        find=_format_missing,
        why="The build would not know what to make of the model.",
    ),
    Rule(
        id="quantize-format-and-recipe",
        severity="error",
        summary="format and recipe exclude each other",
        find=_format_and_recipe,
        why="One of the two would be ignored, and the checkpoint would not be what the recipe says.",
    ),
    Rule(
        id="quantize-setting-unused",
        severity="error",
        summary="a quantization setting that has no effect",
        find=_unused,
        why="Whoever reads the recipe would believe in a format that the checkpoint does not have.",
    ),
    Rule(
        id="quantize-recipe-name",
        severity="error",
        summary="not a ModelOpt recipe name",
        find=_recipe_name,
        source="modelopt/recipe/loader.py",
        why="ModelOpt looks in its own folder first: a relative path can load another recipe than yours.",
    ),
    Rule(
        id="quantize-source-and-method",
        severity="error",
        summary="the method does not fit what the source is",
        find=_source_and_method,
        why="The quantize stage refuses a quantized source after fetching it, and an engine refuses a "
        "checkpoint whose scales are missing.",
    ),
    Rule(
        id="quantize-experts-on-dense",
        severity="error",
        summary="an experts-only format on a model without experts",
        find=_experts_format_on_dense,
        source="modelopt.torch.quantization NVFP4_EXPERTS_ONLY_CFG",
        why="Nothing would be quantized: the checkpoint keeps its size, and the GPU its speed.",
    ),
    Rule(
        id="quantize-format-on-gpu",
        severity="error",
        summary="no kernels for this format on this GPU",
        find=_format_on_gpu,
        source="TensorRT-LLM docs/source/features/quantization.md",
        why="The checkpoint is built and the engine refuses it when it loads, or runs it much slower.",
    ),
    Rule(
        id="gate-bits-impossible",
        severity="error",
        summary="a size limit that the format cannot keep",
        find=_gate_bits,
        why="The gate would fail every build, after all its work is done.",
    ),
    *overrides.RULES,
)
