"""Rules on the KV cache's number format: against the GPU, the checkpoint and the runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.arguments import PREFIX, at_least, text_argument
from bwdeploy.checks.checkpoint_format import checkpoint_format
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import kv_pools
from bwdeploy.facts.formats import format_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_KEY = "kv_cache_config"
_PATH: KeyPath = (*PREFIX, _KEY)
_ARGUMENT = "engine.llm_args.kv_cache_config"
_DTYPE: KeyPath = (*_PATH, "dtype")
_UNDOCUMENTED_SM = frozenset({121})
"""Upstream's table has no column for these, so absence there proves nothing."""


def _dtype(subject: Subject) -> str:
    """`kv_cache_config.dtype` in lower case, `auto` when it is not given."""
    return (text_argument(subject, _KEY, "dtype") or "auto").lower()


def _quantized_on_gpu(subject: Subject) -> Iterator[Problem]:
    kv_cache = subject.recipe.quantize.kv_cache
    hint = "set quantize.kv_cache: fp8" if kv_cache == "nvfp4" else "set quantize.kv_cache: none"
    yield from _no_kernels(subject, kv_cache, ("quantize", "kv_cache"), hint)


def _served_on_gpu(subject: Subject) -> Iterator[Problem]:
    dtype, found = _dtype(subject), checkpoint_format(subject)
    if dtype != "auto":
        other = "fp8" if dtype == "nvfp4" else "auto"
        yield from _no_kernels(subject, dtype, _DTYPE, f"write {_ARGUMENT}.dtype: {other}")
    elif found is not None and found.kv_cache and subject.recipe.quantize.method == "prequantized":
        hint = "take a checkpoint with an FP8 KV cache or none, or one of the GPUs b200, b300, gb200, gb300"
        yield from _no_kernels(subject, found.kv_cache.lower(), found.path, hint)


def _no_kernels(subject: Subject, word: str, path: KeyPath, hint: str) -> Iterator[Problem]:
    gpu, facts = subject.gpu, format_table().kv_cache.get(word) if word != "none" else None
    if gpu is None or facts is None or gpu.sm in facts.sm:
        return
    message = f"TensorRT-LLM has no {word} KV cache kernels for {gpu.id} (SM{gpu.sm})"
    if word == "fp8" and gpu.sm in _UNDOCUMENTED_SM:
        unsure = f"{message} that upstream documents"
        yield Problem(path, unsure, "try it there before you rely on it", "warning")
        return
    yield Problem(path, message, hint)


def _nvfp4_gate(subject: Subject) -> Iterator[Problem]:
    gate = subject.recipe.gate
    if subject.recipe.quantize.kv_cache == "nvfp4" and gate.max_perplexity_increase is None:
        message = "an nvfp4 KV cache can cost much accuracy, and no gate watches it"
        yield Problem(("quantize", "kv_cache"), message, "set gate.max_perplexity_increase, for example 0.03")


def _contradiction(subject: Subject) -> Iterator[Problem]:
    found, dtype = checkpoint_format(subject), _dtype(subject)
    if found is None or found.kv_cache is None or dtype not in {"fp8", "nvfp4"}:
        return
    if dtype != found.kv_cache.lower():
        message = f"the checkpoint carries scales of an {found.kv_cache} KV cache, and this asks for {dtype}"
        yield Problem(_DTYPE, message, "remove dtype: auto takes what the checkpoint carries")


def _without_scales(subject: Subject) -> Iterator[Problem]:
    found = checkpoint_format(subject)
    if found is None or found.kv_cache is not None or _dtype(subject) != "nvfp4":
        return
    message = "an nvfp4 KV cache needs scales in the checkpoint, and this one carries none"
    hint = "set quantize.kv_cache: nvfp4 and remove dtype here, or write dtype: fp8"
    if not subject.recipe.quantize.quantizes:
        hint = "write dtype: fp8, or quantize the bf16 model with quantize.kv_cache: nvfp4"
    yield Problem(_DTYPE, message, hint)


def _unchecked(subject: Subject) -> Iterator[Problem]:
    found = checkpoint_format(subject)
    if subject.llm_args is None or at_least(subject, "1.3") or _dtype(subject) != "nvfp4":
        return
    if found is not None and found.kv_cache != "NVFP4":
        return  # kv-dtype-without-scales and kv-dtype-contradicts say more
    version = subject.recipe.engine.tensorrt_llm
    message = (
        f"TensorRT-LLM {version} does not check this value, and not every version up to 1.2 takes nvfp4 here"
    )
    yield Problem(_DTYPE, message, "remove dtype: auto takes what the checkpoint carries")


def _on_engine_backend(subject: Subject) -> Iterator[Problem]:
    dtype = _dtype(subject)
    if subject.recipe.engine.backend == "tensorrt" and dtype != "auto":
        message = f"the engine backend asserts that dtype is auto, and this is {dtype}"
        hint = "remove it here"
        if dtype in format_table().kv_cache and subject.recipe.quantize.quantizes:
            hint = f"remove it here and set quantize.kv_cache: {dtype}"
        yield Problem(_DTYPE, message, hint)


_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_NO_NVFP4_ON_SM120 = (
    "https://github.com/NVIDIA/TensorRT-LLM/issues/10241 · https://github.com/NVIDIA/TensorRT-LLM/issues/7988"
)

RULES = (
    Rule(
        id="quantize-kv-cache-on-gpu",
        severity="error",
        summary="no kernels for this KV cache format on this GPU",
        find=_quantized_on_gpu,
        source=_NO_NVFP4_ON_SM120,
        why="The checkpoint would carry scales that no attention kernel of this GPU can use.",
    ),
    Rule(
        id="quantize-kv-cache-nvfp4-gate",
        severity="warning",
        summary="an nvfp4 KV cache without an accuracy gate",
        find=_nvfp4_gate,
        source="https://github.com/vllm-project/vllm/issues/55673",
        why="93 % invalid answers were seen with such kernels; without a gate it is users who notice.",
    ),
    Rule(
        id="kv-dtype-on-gpu",
        severity="error",
        summary="no kernels for the served KV cache format on this GPU",
        find=_served_on_gpu,
        source=_NO_NVFP4_ON_SM120,
        why="The server loads all weights and stops when it builds the cache.",
    ),
    Rule(
        id="kv-dtype-contradicts",
        severity="error",
        summary="the KV cache format differs from the checkpoint's",
        find=_contradiction,
        source="tensorrt_llm/_torch/pyexecutor/model_loader.py",
        why="TensorRT-LLM refuses to override a checkpoint's KV cache format with another one.",
    ),
    Rule(
        id="kv-dtype-without-scales",
        severity="error",
        summary="an nvfp4 KV cache without scales in the checkpoint",
        find=_without_scales,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/10241",
        why="Keys and values would be quantized with scales of 1: it fails, or its answers are noise.",
    ),
    Rule(
        id="kv-dtype-unchecked",
        severity="warning",
        summary="a KV cache format that this version does not check",
        find=_unchecked,
        source=_LLM_ARGS,
        why="Some versions refuse the value after loading, others leave the cache as the checkpoint says.",
    ),
    Rule(
        id="kv-dtype-on-engine-backend",
        severity="error",
        summary="a KV cache format as an argument of the engine backend",
        find=_on_engine_backend,
        source=_LLM_ARGS,
        why="An engine has its KV cache format from the checkpoint; the server stops at an assertion.",
    ),
    *kv_pools.RULES,
)
