"""Rules on `quantize` and `gate`: what must be said, what excludes what, what can never hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECIPE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", re.ASCII)


def _format_missing(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.method == "ptq" and quantize.format is None and quantize.recipe is None:
        message = "method ptq needs a format or a ModelOpt recipe"
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
    if quantize.method == "ptq":
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


def _overrides_with_recipe(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.recipe is not None and quantize.overrides:
        message = "overrides change a format, and this recipe hands that to a ModelOpt recipe"
        yield Problem(("quantize", "overrides"), message, "write the patterns into the ModelOpt recipe")


def _shadowed_overrides(subject: Subject) -> Iterator[Problem]:
    patterns = [override.modules for override in subject.recipe.quantize.overrides]
    for index, pattern in enumerate(patterns):
        if any(later in {pattern, "*"} for later in patterns[index + 1 :]):
            message = f"a later entry covers every module of {pattern!r}, so this one has no effect"
            yield Problem(
                ("quantize", "overrides", index), message, "remove it, or put it after the later one"
            )


def _recipe_name(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe.quantize.recipe
    if recipe is None or recipe.startswith("file://"):
        return
    if not _RECIPE_NAME.fullmatch(recipe):
        message = f"{recipe!r} is neither the name of a ModelOpt recipe nor a file:// path"
        hint = "write a name such as general/ptq/nvfp4_default-kv_fp8_cast, or file://my_recipe.yaml"
        yield Problem(("quantize", "recipe"), message, hint)


def _format_on_gpu(subject: Subject) -> Iterator[Problem]:
    gpu, quantize = subject.gpu, subject.recipe.quantize
    if gpu is None or quantize.method != "ptq":
        return
    named = [(("quantize", "format"), quantize.format)] if quantize.format else []
    overrides = [
        (("quantize", "overrides", index, "format"), override.format)
        for index, override in enumerate(quantize.overrides)
        if override.format != "none"
    ]
    for path, name in (*named, *overrides):
        facts = format_table().formats[name]
        if gpu.sm in facts.sm:
            continue
        message = f"TensorRT-LLM has no {name} kernels for {gpu.id} (SM{gpu.sm})"
        fitting = ", ".join(
            sorted(word for word, other in format_table().formats.items() if gpu.sm in other.sm)
        )
        hint = f"choose one of: {fitting}" if fitting else "choose another GPU"
        sure = facts.documented and gpu.sm not in _UNDOCUMENTED_SM
        yield Problem(
            path, message if sure else f"{message} that upstream documents", hint, None if sure else "warning"
        )


_UNDOCUMENTED_SM = frozenset({121})
"""Upstream's table has no column for these, so absence there proves nothing."""


def _kv_on_gpu(subject: Subject) -> Iterator[Problem]:
    gpu, kv_cache = subject.gpu, subject.recipe.quantize.kv_cache
    if gpu is None or kv_cache == "none" or gpu.sm in format_table().kv_cache[kv_cache].sm:
        return
    undocumented = kv_cache == "fp8" and gpu.sm in _UNDOCUMENTED_SM
    message = f"TensorRT-LLM has no {kv_cache} KV cache kernels for {gpu.id} (SM{gpu.sm})"
    hint = "set quantize.kv_cache: fp8" if kv_cache == "nvfp4" else "set quantize.kv_cache: none"
    yield Problem(("quantize", "kv_cache"), message, hint, "warning" if undocumented else None)


def _kv_nvfp4_gate(subject: Subject) -> Iterator[Problem]:
    gate = subject.recipe.gate
    if subject.recipe.quantize.kv_cache == "nvfp4" and gate.max_perplexity_increase is None:
        message = "an nvfp4 KV cache can cost much accuracy, and no gate watches it"
        yield Problem(("quantize", "kv_cache"), message, "set gate.max_perplexity_increase")


def _gate_bits(subject: Subject) -> Iterator[Problem]:
    quantize, limit = subject.recipe.quantize, subject.recipe.gate.max_bits_per_weight
    if limit is None or quantize.method != "ptq" or quantize.format is None:
        return
    names = {quantize.format, *(o.format for o in quantize.overrides if o.format != "none")}
    least = min(format_table().formats[name].bits_per_weight for name in names)
    if limit < least:
        message = f"no checkpoint of this recipe can have fewer than {least} bits per weight"
        yield Problem(("gate", "max_bits_per_weight"), message, f"raise it above {least}, or drop the limit")


def _override_of_everything(subject: Subject) -> Iterator[Problem]:
    for index, override in enumerate(subject.recipe.quantize.overrides):
        if override.format == "none" and not override.modules.strip("*"):
            message = "this leaves every module unquantized"
            yield Problem(
                ("quantize", "overrides", index), message, "name the modules, or set quantize.method: none"
            )


_FORMAT_TABLE = "TensorRT-LLM docs/source/features/quantization.md"

RULES = (
    Rule(
        id="quantize-format-missing",
        severity="error",
        summary="ptq needs a format or a ModelOpt recipe",
        find=_format_missing,
    ),
    Rule(
        id="quantize-format-and-recipe",
        severity="error",
        summary="format and recipe exclude each other",
        find=_format_and_recipe,
    ),
    Rule(
        id="quantize-setting-unused",
        severity="error",
        summary="a quantization setting that has no effect",
        find=_unused,
    ),
    Rule(
        id="quantize-overrides-with-recipe",
        severity="error",
        summary="overrides do not apply to a ModelOpt recipe",
        find=_overrides_with_recipe,
    ),
    Rule(
        id="quantize-override-shadowed",
        severity="warning",
        summary="an override that a later one covers",
        find=_shadowed_overrides,
    ),
    Rule(
        id="quantize-override-everything",
        severity="error",
        summary="an override that leaves nothing quantized",
        find=_override_of_everything,
    ),
    Rule(
        id="quantize-recipe-name",
        severity="error",
        summary="not a ModelOpt recipe name",
        find=_recipe_name,
        source="modelopt/recipe/loader.py",
    ),
    Rule(
        id="quantize-format-on-gpu",
        severity="error",
        summary="no kernels for this format on this GPU",
        find=_format_on_gpu,
        source=_FORMAT_TABLE,
    ),
    Rule(
        id="quantize-kv-cache-on-gpu",
        severity="error",
        summary="no kernels for this KV cache format on this GPU",
        find=_kv_on_gpu,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/10241",
    ),
    Rule(
        id="quantize-kv-cache-nvfp4-gate",
        severity="warning",
        summary="an nvfp4 KV cache without an accuracy gate",
        find=_kv_nvfp4_gate,
        source="https://github.com/vllm-project/vllm/issues/55673",
    ),
    Rule(
        id="gate-bits-impossible",
        severity="error",
        summary="a size limit that the format cannot keep",
        find=_gate_bits,
    ),
)
