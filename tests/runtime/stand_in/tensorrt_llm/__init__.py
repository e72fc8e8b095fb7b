"""Stands in for tensorrt_llm 1.2.1, which needs a GPU: the names and argument names that we use, no model.

`LLM` answers with the prompt's own tokens, each after `TICK_S`. Names follow tensorrt_llm/llmapi/llm.py,
sampling_params.py and executor/result.py of that version; an argument it does not know is a TypeError or
ValueError, as upstream.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "1.2.1"
TICK_S = 0.01
_LLM_ARGS = {
    "tensor_parallel_size",
    "max_batch_size",
    "max_seq_len",
    "max_num_tokens",
    "kv_cache_config",
    "speculative_config",
}


@dataclass(kw_only=True)
class SamplingParams:
    """The fields of upstream's class that a request may set."""

    end_id: int | None = None
    max_tokens: int = 32
    stop: str | list[str] | None = None
    best_of: int | None = None
    n: int = 1
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    temperature: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    return_perf_metrics: bool = False
    detokenize: bool = True


@dataclass
class CompletionOutput:
    """One sequence of a result."""

    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    request_perf_metrics: Any = None


class RequestOutput:
    """Async iterator over the growing result."""

    def __init__(self, ids: list[int], sampling: SamplingParams) -> None:
        asyncio.get_running_loop()  # upstream makes its asyncio queue here, and only inside a loop
        self._ids, self._sampling = ids, sampling
        self.outputs = [CompletionOutput()]
        self.finished = False
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def __aiter__(self) -> RequestOutput:
        return self

    async def __anext__(self) -> RequestOutput:
        if self.finished:
            raise StopAsyncIteration
        await asyncio.sleep(TICK_S)
        output = self.outputs[0]
        output.token_ids.append(self._ids[len(output.token_ids)])
        if self._sampling.logprobs is not None:
            output.cumulative_logprob = -0.5 * len(output.token_ids)
        whole = len(output.token_ids) == len(self._ids)
        if whole or len(output.token_ids) == self._sampling.max_tokens:
            self.finished = True
            output.finish_reason = "stop" if whole else "length"
            if self._sampling.return_perf_metrics:
                output.request_perf_metrics = _performance()
        return self


class LLM:
    """Upstream's constructor refuses arguments that LlmArgs does not have."""

    made: list[LLM] = []  # noqa: RUF012 - what the tests look at

    def __init__(
        self, model: str | Path, *, tokenizer: Any = None, trust_remote_code: bool = False, **arguments: Any
    ) -> None:
        unknown = set(arguments) - _LLM_ARGS
        if unknown:
            raise ValueError(f"LlmArgs: unknown arguments {sorted(unknown)}")
        self.arguments = {
            "model": model,
            "tokenizer": tokenizer,
            "trust_remote_code": trust_remote_code,
            **arguments,
        }
        self.results: list[RequestOutput] = []
        self.sampling: list[SamplingParams] = []
        self.is_shut_down = False
        LLM.made.append(self)

    def generate_async(
        self, inputs: list[int], sampling_params: SamplingParams | None = None, *, streaming: bool = False
    ) -> RequestOutput:
        assert streaming
        assert sampling_params is not None
        if inputs[0] == 7:
            raise ValueError("The sum of prompt length and max_tokens is too large.")
        if inputs[0] == 8:
            raise RuntimeError("executor is gone")
        self.sampling.append(sampling_params)
        self.results.append(RequestOutput(inputs, sampling_params))
        return self.results[-1]

    def shutdown(self) -> None:
        self.is_shut_down = True


def _performance() -> SimpleNamespace:
    """As tensorrt_llm.bindings.executor.RequestPerfMetrics; its times are timedeltas of a steady clock."""
    return SimpleNamespace(
        kv_cache_metrics=SimpleNamespace(
            num_reused_blocks=1,
            num_missed_blocks=2,
            num_new_allocated_blocks=3,
            num_total_allocated_blocks=4,
            kv_cache_hit_rate=0.25,
        ),
        timing_metrics=SimpleNamespace(
            arrival_time=timedelta(days=1, microseconds=1),
            first_scheduled_time=timedelta(days=1, microseconds=2),
            first_token_time=timedelta(days=1, microseconds=3),
            last_token_time=timedelta(days=1, microseconds=4),
        ),
        speculative_decoding=SimpleNamespace(
            acceptance_rate=0.75, total_accepted_draft_tokens=3, total_draft_tokens=4
        ),
    )
