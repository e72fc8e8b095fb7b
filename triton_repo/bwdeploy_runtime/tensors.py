"""The input and output tensors of the Triton model: their only declaration.

Names, types and dims are those of TensorRT-LLM's `llmapi` Triton model, so its clients work unchanged. The
inputs that let a client name files or URLs (image_url, lora_path and their kin) are left out on purpose.
The repository writer builds config.pbtxt from these tuples; `inputs` and `outputs` read and fill them.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLING_PREFIX = "sampling_param_"


@dataclass(frozen=True)
class Tensor:
    """One tensor of config.pbtxt."""

    name: str
    data_type: str
    """Triton's name of the type, for example TYPE_INT32."""
    dims: tuple[int, ...] = (1,)
    optional: bool = True


INPUTS: tuple[Tensor, ...] = (
    Tensor("text_input", "TYPE_STRING", (-1,), optional=False),
    Tensor("streaming", "TYPE_BOOL"),
    Tensor("stop", "TYPE_BOOL"),
    Tensor("sampling_param_best_of", "TYPE_INT32"),
    Tensor("sampling_param_temperature", "TYPE_FP32"),
    Tensor("sampling_param_top_k", "TYPE_INT32"),
    Tensor("sampling_param_top_p", "TYPE_FP32"),
    Tensor("sampling_param_frequency_penalty", "TYPE_FP32"),
    Tensor("sampling_param_presence_penalty", "TYPE_FP32"),
    Tensor("sampling_param_max_tokens", "TYPE_INT32"),
    Tensor("sampling_param_stop", "TYPE_STRING", (-1,)),
    Tensor("sampling_param_seed", "TYPE_UINT64"),
    Tensor("sampling_param_exclude_input_from_output", "TYPE_BOOL"),
    Tensor("sampling_param_return_perf_metrics", "TYPE_BOOL"),
    Tensor("return_finish_reason", "TYPE_BOOL"),
    Tensor("return_stop_reason", "TYPE_BOOL"),
    Tensor("return_cumulative_logprob", "TYPE_BOOL"),
)

PERFORMANCE_OUTPUTS: tuple[Tensor, ...] = (
    Tensor("kv_cache_reused_block", "TYPE_INT32", (-1,)),
    Tensor("kv_cache_missed_block", "TYPE_INT32", (-1,)),
    Tensor("kv_cache_alloc_new_blocks", "TYPE_INT32", (-1,)),
    Tensor("kv_cache_alloc_total_blocks", "TYPE_INT32", (-1,)),
    Tensor("kv_cache_hit_rate", "TYPE_FP32", (-1,)),
    Tensor("arrival_time_ns", "TYPE_INT64"),
    Tensor("first_scheduled_time_ns", "TYPE_INT64"),
    Tensor("first_token_time_ns", "TYPE_INT64"),
    Tensor("last_token_time_ns", "TYPE_INT64"),
    Tensor("acceptance_rate", "TYPE_FP32"),
    Tensor("total_accepted_draft_tokens", "TYPE_INT32"),
    Tensor("total_draft_tokens", "TYPE_INT32"),
)
"""Sent with the last response if sampling_param_return_perf_metrics is set and the engine knows them."""

OUTPUTS: tuple[Tensor, ...] = (
    Tensor("text_output", "TYPE_STRING", (-1,)),
    Tensor("finish_reason", "TYPE_STRING", (-1,)),
    Tensor("stop_reason", "TYPE_STRING", (-1,)),
    Tensor("cumulative_logprob", "TYPE_FP32", (-1,)),
    *PERFORMANCE_OUTPUTS,
)

INPUT_NAMES: tuple[str, ...] = tuple(tensor.name for tensor in INPUTS)
