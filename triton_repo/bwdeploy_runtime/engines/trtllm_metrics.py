"""TensorRT-LLM's per-request performance metrics under the names of our output tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import timedelta

_MICROSECOND_NS = 1000
_CACHE = {
    "kv_cache_reused_block": "num_reused_blocks",
    "kv_cache_missed_block": "num_missed_blocks",
    "kv_cache_alloc_new_blocks": "num_new_allocated_blocks",
    "kv_cache_alloc_total_blocks": "num_total_allocated_blocks",
    "kv_cache_hit_rate": "kv_cache_hit_rate",
}
_TIMES = {
    "arrival_time_ns": "arrival_time",
    "first_scheduled_time_ns": "first_scheduled_time",
    "first_token_time_ns": "first_token_time",
    "last_token_time_ns": "last_token_time",
}
_SPECULATION = ("acceptance_rate", "total_accepted_draft_tokens", "total_draft_tokens")


def performance(output: Any) -> dict[str, float]:  # noqa: ANN401 - tensorrt_llm CompletionOutput
    """What the output's `request_perf_metrics` says; empty when it was not asked for."""
    metrics = getattr(output, "request_perf_metrics", None)
    if metrics is None:
        return {}
    found: dict[str, float] = {
        name: getattr(metrics.kv_cache_metrics, field) for name, field in _CACHE.items()
    }
    found |= {name: _nanoseconds(getattr(metrics.timing_metrics, field)) for name, field in _TIMES.items()}
    return found | {name: getattr(metrics.speculative_decoding, name) for name in _SPECULATION}


def _nanoseconds(since_start: timedelta) -> int:
    microseconds = (since_start.days * 86_400 + since_start.seconds) * 1_000_000 + since_start.microseconds
    return microseconds * _MICROSECOND_NS
