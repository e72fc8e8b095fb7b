"""Rules on the pools of the KV cache and on options of its manager that need each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.arguments import (
    PREFIX,
    argument,
    at_least,
    is_reported,
    mapping_argument,
    number_argument,
    text_argument,
)
from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity
    from bwdeploy.recipe.places import KeyPath

_KEY = "kv_cache_config"
_PATH: KeyPath = (*PREFIX, _KEY)
_ARGUMENT = "engine.llm_args.kv_cache_config"
_RATIO_TOLERANCE = 1e-6


def _disk_cache(subject: Subject) -> Iterator[Problem]:
    size = number_argument(subject, _KEY, "disk_cache_size")
    if not size or size < 0 or is_reported(subject, _KEY, "disk_cache_size"):
        return
    path = (*_PATH, "disk_cache_size")
    if argument(subject, _KEY, "use_kv_cache_manager_v2") is not True:
        message = "only KV cache manager v2 keeps blocks on disk, and it is not switched on"
        yield Problem(path, message, f"write {_ARGUMENT}.use_kv_cache_manager_v2: true")
    if not text_argument(subject, _KEY, "disk_cache_path"):
        message = "a disk cache needs a directory, and kv_cache_config.disk_cache_path is not given"
        yield Problem(path, message, f"write {_ARGUMENT}.disk_cache_path: /a/directory/of/the/server")


def _pool_ratio(subject: Subject) -> Iterator[Problem]:
    ratios = argument(subject, _KEY, "pool_ratio")
    if not isinstance(ratios, list) or not ratios or is_reported(subject, _KEY, "pool_ratio"):
        return
    numbers = [one for one in ratios if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) != len(ratios):
        return
    for index, ratio in enumerate(numbers):
        if ratio <= 0:
            message = f"the share of a pool must be above 0, and this is {ratio}"
            yield Problem((*_PATH, "pool_ratio", index), message, "write shares above 0 whose sum is 1.0")
    total = sum(numbers)
    if all(ratio > 0 for ratio in numbers) and abs(total - 1) > _RATIO_TOLERANCE:
        message = f"the shares of the pools must sum to 1.0, and these sum to {total:g}"
        shares = [round(ratio / total, 3) for ratio in numbers[:-1]]
        fitting = ", ".join(f"{share:g}" for share in (*shares, round(1 - sum(shares), 3)))
        yield Problem((*_PATH, "pool_ratio"), message, f"write [{fitting}], the same proportions")


def _attention_window(subject: Subject) -> Iterator[Problem]:
    windows = argument(subject, _KEY, "max_attention_window")
    for index, window in enumerate(windows if isinstance(windows, list) else ()):
        if not isinstance(window, int) or isinstance(window, bool) or window > 0:
            continue
        if not is_reported(subject, _KEY, "max_attention_window", index):
            message = f"an attention window is a number of tokens above 0, and this is {window}"
            length = subject.recipe.engine.max_seq_len
            hint = f"write {length} (engine.max_seq_len) for a layer that sees everything"
            yield Problem((*_PATH, "max_attention_window", index), message, hint)


def _cross_fraction(subject: Subject) -> Iterator[Problem]:
    config = subject.model.config
    if config is None or not config.get("architectures"):
        return
    has_encoder = config.get("is_encoder_decoder") is True
    fraction = argument(subject, _KEY, "cross_kv_cache_fraction")
    if fraction is not None and not has_encoder:
        message = "only encoder-decoder models have a cross-attention cache, and this model is decoder-only"
        severity: Severity | None = None if at_least(subject, "1.3") else "warning"
        yield Problem((*_PATH, "cross_kv_cache_fraction"), message, "remove it", severity)
    elif fraction is None and has_encoder and at_least(subject, "1.3"):
        message = "an encoder-decoder model splits the cache between two attentions, and no share is given"
        yield Problem(_PATH, message, f"write {_ARGUMENT}.cross_kv_cache_fraction: 0.5")


def _manager_v2_draft(subject: Subject) -> Iterator[Problem]:
    if argument(subject, _KEY, "use_kv_cache_manager_v2") is not True or at_least(subject, "1.4"):
        return
    if subject.recipe.speculative is None and not _drafts(subject):
        return
    message = "KV cache manager v2 gave target and draft the whole budget each, until a fix of March 2026"
    hint = "remove use_kv_cache_manager_v2, or make sure that your TensorRT-LLM has pull request 12188"
    yield Problem((*_PATH, "use_kv_cache_manager_v2"), message, hint)


def _drafts(subject: Subject) -> bool:
    kind = text_argument(subject, "speculative_config", "decoding_type")
    return kind is not None and kind.lower().startswith(("eagle", "mtp"))


def _reuse_unused(subject: Subject) -> Iterator[Problem]:
    config = mapping_argument(subject, _KEY)
    if config.get("enable_block_reuse") is not False:
        return
    for key in ("enable_partial_reuse", "copy_on_partial_reuse"):
        if config.get(key) is True:
            message = f"enable_block_reuse is false, so {key} has no effect"
            yield Problem((*_PATH, key), message, f"remove {key}, or set enable_block_reuse: true")


_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"

RULES = (
    Rule(
        id="kv-disk-cache",
        severity="error",
        summary="a disk cache that lacks what it needs",
        find=_disk_cache,
        source=_LLM_ARGS,
        why="The arguments are refused when the server starts.",
    ),
    Rule(
        id="kv-pool-ratio",
        severity="error",
        summary="shares of KV pools that do not add up",
        find=_pool_ratio,
        source=_LLM_ARGS,
        why="The arguments are refused when the server starts.",
    ),
    Rule(
        id="kv-attention-window",
        severity="error",
        summary="an attention window of no tokens",
        find=_attention_window,
        source=_LLM_ARGS,
        why="The arguments are refused when the server starts.",
    ),
    Rule(
        id="kv-cross-fraction",
        severity="error",
        summary="a share for cross-attention on the wrong kind of model",
        find=_cross_fraction,
        source=_LLM_ARGS,
        why="Since 1.3 the model loader refuses it; before, the memory would be set apart for nothing.",
    ),
    Rule(
        id="kv-manager-v2-draft",
        severity="warning",
        summary="KV cache manager v2 together with a draft",
        find=_manager_v2_draft,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/12188",
        why="Target and draft each take the whole KV budget, and the server runs out of memory under load.",
    ),
    Rule(
        id="kv-reuse-unused",
        severity="warning",
        summary="a block reuse option without block reuse",
        find=_reuse_unused,
        source=_LLM_ARGS,
        why="Prompts with a common beginning are computed again each time, against what the recipe says.",
    ),
)
