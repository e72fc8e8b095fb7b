"""Rules on options of trtllm-build that contradict each other, or change nothing.

Most of these end as an assertion of trtllm-build, minutes into the build; some are dropped without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Subject
from bwdeploy.checks.themes.build_flag_values import (
    BUILD,
    PATH,
    algorithm_of,
    flag_rule,
    flags_of,
    is_on,
    number_of,
)
from bwdeploy.facts.build_flags import aliases

if TYPE_CHECKING:
    from collections.abc import Iterator


def _profiles(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    if is_on(subject, "multiple_profiles") and flags.get("opt_num_tokens") is not None:
        message = (
            "several profiles have an optimum each, so that opt_num_tokens is refused with multiple_profiles"
        )
        yield Problem((*PATH, "opt_num_tokens"), message, "remove one of the two")


def _context_logits(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    if not number_of(flags, "max_draft_len"):
        return
    for name in ("gather_context_logits", "gather_all_token_logits"):
        if flags.get(name) is True:
            message = f"logits of the prompt cannot be kept with max_draft_len {flags['max_draft_len']}"
            yield Problem((*PATH, name), message, "remove it, or set max_draft_len: 0")


def _streaming_llm(subject: Subject) -> Iterator[Problem]:
    if is_on(subject, "streamingllm"):
        message = "support for StreamingLLM has ended: trtllm-build stops on an assertion"
        yield Problem((*PATH, "streamingllm"), message, "remove it")


def _weight_streaming(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    if flags.get("weight_streaming") is not True:
        return
    plugin = flags.get("gemm_plugin")
    if plugin is None and algorithm_of(subject) == "NVFP4":
        plugin = "nvfp4, the default of an NVFP4 checkpoint"
    if plugin not in (None, "disable"):
        message = f"weights cannot be streamed with the GEMM plugin on (gemm_plugin: {plugin})"
        yield Problem((*PATH, "weight_streaming"), message, "write gemm_plugin: disable, or remove it")


def _lora(subject: Subject) -> Iterator[Problem]:
    for name in ("lora_target_modules", "lora_dir", "max_lora_rank"):
        if name in flags_of(subject) and not is_on(subject, "lora_plugin"):
            message = "without lora_plugin the engine takes no adapters, so that this has no effect"
            yield Problem((*PATH, name), message, "add lora_plugin: auto, or remove it")


def _draft_length(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    mode = flags.get("speculative_decoding_mode")
    if isinstance(mode, str) and not number_of(flags, "max_draft_len") and mode != "lookahead_decoding":
        message = f"{mode} with max_draft_len 0: the engine refuses every request that carries drafted tokens"
        yield Problem((*PATH, "speculative_decoding_mode"), message, "add max_draft_len, for example 3")


def _without_effect(subject: Subject) -> Iterator[Problem]:
    flags, layout = flags_of(subject), subject.recipe.layout
    unless_off = all(is_on(subject, name) for name in ("remove_input_padding", "use_paged_context_fmha"))
    reasons = {
        "gather_generation_logits": "requests decide this at run time now",
        "max_input_len": "with padding removed and paged attention only max_num_tokens bounds prompts",
    }
    for name, reason in reasons.items():
        if name in flags and (name != "max_input_len" or unless_off):
            yield Problem((*PATH, name), f"no effect: {reason}", "remove it")
    if flags.get("nccl_plugin") not in (None, "disable") and layout.tp * layout.pp == 1:
        message = "no effect: with one rank trtllm-build switches it off"
        yield Problem((*PATH, "nccl_plugin"), message, "remove it")


def _kv_layout(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    old, new = flags.get("paged_kv_cache"), flags.get("kv_cache_type")
    if old not in ("enable", "disable"):  # a tuple: any value may stand there
        return
    path = (*PATH, "paged_kv_cache")
    if new is None:
        layout = "paged" if old == "enable" else "continuous"
        message = "deprecated: it is the old spelling of kv_cache_type"
        yield Problem(path, message, f"write kv_cache_type: {layout}", "warning")
    elif (old == "enable") != (new == "paged"):
        yield Problem(path, f"{old} contradicts kv_cache_type: {new}", "remove paged_kv_cache")


def _fused_swiglu(subject: Subject) -> Iterator[Problem]:
    for name in ("gemm_swiglu_plugin", "low_latency_gemm_swiglu_plugin"):
        if is_on(subject, name) and flags_of(subject).get("use_fused_mlp") == "disable":
            message = f"{name} works on the fused MLP, which use_fused_mlp: disable takes away"
            yield Problem((*PATH, name), message, "remove one of the two")


def _twice(subject: Subject) -> Iterator[Problem]:
    flags = flags_of(subject)
    for alias, name in aliases().items() if flags else ():
        if alias in flags and name in flags:
            yield Problem((*PATH, alias), f"it is another name of {name}, which is given too", "remove one")


RULES = (
    flag_rule(
        "kv-layout",
        "error",
        "the old and the new word for the KV cache layout",
        _kv_layout,
        source="tensorrt_llm/builder.py (BuildConfig.update_kv_cache_type)",
        why="trtllm-build asserts that both say the same, and drops the old one in a later version.",
    ),
    flag_rule(
        "fused-swiglu",
        "error",
        "a SwiGLU plugin without the fused MLP",
        _fused_swiglu,
        source="tensorrt_llm/builder.py (optimize_model_with_config)",
        why="trtllm-build raises RuntimeError after it has read the whole checkpoint.",
    ),
    flag_rule(
        "twice",
        "error",
        "an option under both of its names",
        _twice,
        why="One of the two values would be dropped, and which one is not said anywhere.",
    ),
    flag_rule(
        "profiles",
        "error",
        "multiple_profiles with opt_num_tokens",
        _profiles,
        why="trtllm-build raises RuntimeError before it builds.",
    ),
    flag_rule(
        "context-logits",
        "error",
        "logits of the prompt with a draft",
        _context_logits,
        why="trtllm-build raises RuntimeError before it builds.",
    ),
    flag_rule(
        "streamingllm",
        "error",
        "StreamingLLM has ended",
        _streaming_llm,
        why="The option is parsed and then asserted to be off.",
    ),
    flag_rule(
        "weight-streaming",
        "error",
        "weight_streaming with the GEMM plugin",
        _weight_streaming,
        why="The plugin keeps its weights on the GPU, so that there is nothing to stream.",
    ),
    flag_rule(
        "lora",
        "error",
        "LoRA options without the LoRA plugin",
        _lora,
        why="The engine builds and then refuses every adapter.",
    ),
    flag_rule(
        "draft-length",
        "error",
        "an engine that takes no drafted tokens",
        _draft_length,
        source="https://github.com/triton-inference-server/tensorrtllm_backend/issues/473",
        why="The engine loads and answers, until the first request with drafted tokens fails.",
    ),
    flag_rule(
        "without-effect",
        "warning",
        "an option that changes nothing",
        _without_effect,
        source=f"{BUILD} · https://github.com/NVIDIA/TensorRT-LLM/pull/18671",
        why="It loads without a word and changes nothing; whoever reads the recipe believes otherwise.",
    ),
)
