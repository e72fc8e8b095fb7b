"""Answers with TensorRT-LLM's LLM API (written against 1.2.1): `tensorrt_llm.LLM` and `generate_async`.

Token ids come out, text is made by the loop as for every engine: TensorRT-LLM gets no stop strings, they
are matched across token borders and the request is aborted. The LLM runs on an asyncio loop in a thread of
its own and has its own worker processes behind it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import queue
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from bwdeploy_runtime.engines.base import EngineInfo, Request, Tokens
from bwdeploy_runtime.engines.prompts import PromptEncoder, room_for_answer
from bwdeploy_runtime.engines.trtllm_kernels import WorkerKernels
from bwdeploy_runtime.engines.trtllm_metrics import performance
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.protocol import RequestFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.sampling import SamplingParams
    from bwdeploy_runtime.worker.text import TokenizerDetokenizer

_LOG = logging.getLogger(__name__)
_OUR_KEYS = ("model", "tokenizer", "trust_remote_code")
_DRAFT_KEYS = ("speculative_model", "speculative_model_dir")
"""Of speculative_config; which of them a version has was decided when the file was written."""


class TensorRtLlmEngine:
    """One LLM; requests run in its in-flight batch."""

    _api: Any
    _llm: Any
    _encoder: PromptEncoder

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Tokens | RequestFailed] = queue.SimpleQueue()
        self._running: dict[str, Future[None]] = {}
        self._asyncio = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._asyncio.run_forever, name="llm-api", daemon=True)
        self._wake: Callable[[], None] = lambda: None
        self._max_input_len: int | None = None
        self._max_seq_len: int | None = None
        self._kernels: WorkerKernels | None = None

    def load(self, config: EngineConfig, directory: Path, *, wake: Callable[[], None]) -> EngineInfo:
        """Build the LLM with the arguments of llm_args.yaml.

        Raises:
            EngineError: tensorrt_llm is missing, the file cannot be used, or the kernel pack does not fit.
        """
        self._api = _import_tensorrt_llm()
        checkpoint = directory / config.checkpoint
        arguments = with_placed_draft(read_llm_args(directory / str(config.llm_args)), directory)
        self._encoder = PromptEncoder(
            checkpoint, chat_template=config.chat_template, trust_remote_code=config.trust_remote_code
        )
        self._max_input_len, self._max_seq_len = (
            config.max_input_len,
            arguments.get("max_seq_len", config.max_seq_len),
        )
        if config.kernels is not None:
            self._kernels = WorkerKernels(directory / config.kernels, config.kernel_ops, arguments)
        with self._kernels.loading() if self._kernels else nullcontext():
            self._llm = self._api.LLM(
                model=str(checkpoint), trust_remote_code=config.trust_remote_code, **arguments
            )
        modules = self._kernels.modules() if self._kernels else {}
        self._wake = wake
        self._thread.start()
        return EngineInfo(
            engine=f"tensorrt_llm {self._api.__version__}",
            device="cuda",
            max_seq_len=self._max_seq_len,
            kernels=modules,
        )

    def detokenizer(self) -> TokenizerDetokenizer:
        """Of the checkpoint's tokenizer."""
        return self._encoder.detokenizer()

    def submit(self, request: Request) -> None:
        """Hand a request to the LLM.

        Raises:
            InvalidRequestError: the prompt is empty or too long.
        """
        ids = self._encoder.encode(request.prompt)
        room = request.sampling.max_tokens
        if self._max_seq_len is not None:
            room = room_for_answer(
                len(ids), max_tokens=room, max_input_len=self._max_input_len, max_seq_len=self._max_seq_len
            )
        answer = self._answer(request, ids, room)
        self._running[request.id] = asyncio.run_coroutine_threadsafe(answer, self._asyncio)

    def cancel(self, request_id: str) -> None:
        """Abort in the LLM."""
        future = self._running.pop(request_id, None)
        if future is not None:
            future.cancel()

    def step(self) -> Sequence[Tokens | RequestFailed]:
        """What has come from the LLM meanwhile."""
        events = []
        while not self._events.empty():
            event = self._events.get()
            if isinstance(event, RequestFailed) or event.finish:
                self._running.pop(event.id, None)
            events.append(event)
        return events

    def pause_s(self) -> float | None:
        """Until the LLM wakes us."""
        return None

    def kernel_calls(self) -> dict[str, int]:
        """Of all worker processes on this machine, as of half a second ago."""
        return self._kernels.calls() if self._kernels else {}

    def close(self) -> None:
        """End the LLM and its worker processes."""
        if self._thread.is_alive():
            self._asyncio.call_soon_threadsafe(self._asyncio.stop)
            self._thread.join()
            self._llm.shutdown()
        if self._kernels is not None:
            self._kernels.close()

    def _emit(self, event: Tokens | RequestFailed) -> None:
        self._events.put(event)
        self._wake()

    async def _answer(self, request: Request, ids: list[int], room: int) -> None:
        result: Any = None
        try:
            # Inside the event loop: the result makes its asyncio queue when it is made.
            result = self._llm.generate_async(
                ids, self._sampling_params(request.sampling, room), streaming=True
            )
            await self._forward(request.id, result)
        except asyncio.CancelledError:
            if result is not None:
                result.abort()
            raise
        except ValueError as error:
            self._emit(RequestFailed(request.id, "invalid", str(error)))
        except Exception as error:  # noqa: BLE001 - see below
            # The LLM API raises its own errors and MPI's; whatever it is, the client must be told.
            _LOG.exception("request %s failed", request.id)
            self._emit(RequestFailed(request.id, "internal", f"{type(error).__name__}: {error}"))

    async def _forward(self, request_id: str, result: Any) -> None:  # noqa: ANN401 - tensorrt_llm RequestOutput
        seen, logprob = 0, 0.0
        async for chunk in result:
            output = chunk.outputs[0]
            new = output.token_ids[seen:]
            seen += len(new)
            total = output.cumulative_logprob or 0.0
            finish = (output.finish_reason or "stop") if chunk.finished else None
            self._emit(
                Tokens(
                    request_id,
                    tuple(new),
                    total - logprob,
                    finish=finish,
                    stop_reason=None if output.stop_reason is None else str(output.stop_reason),
                    metrics=performance(output) if finish else None,
                )
            )
            logprob = total

    def _sampling_params(self, sampling: SamplingParams, room: int) -> Any:  # noqa: ANN401
        return self._api.SamplingParams(
            max_tokens=room,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            frequency_penalty=sampling.frequency_penalty or None,
            presence_penalty=sampling.presence_penalty or None,
            seed=sampling.seed,
            logprobs=1 if sampling.cumulative_logprob else None,
            return_perf_metrics=sampling.return_perf_metrics,
            detokenize=False,
        )


def read_llm_args(path: Path) -> dict[str, Any]:
    """The arguments of llm_args.yaml without those that the repository decides.

    Raises:
        EngineError: not there, or not a mapping.
    """
    yaml = importlib.import_module("yaml")
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise EngineError(f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise EngineError(f"{path} holds a {type(data).__name__}, not a mapping of LLM arguments.")
    return {key: value for key, value in data.items() if key not in _OUR_KEYS}


def with_placed_draft(arguments: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The arguments with the draft that lies in `directory` named by its whole path.

    The worker processes of the LLM need not have our current directory. Anything else, such as a model of the
    hub, is left as it is.
    """
    config = arguments.get("speculative_config")
    if not isinstance(config, dict):
        return arguments
    placed = {
        key: str(directory / config[key])
        for key in _DRAFT_KEYS
        if isinstance(config.get(key), str) and (directory / config[key]).is_dir()
    }
    return {**arguments, "speculative_config": {**config, **placed}}


def _import_tensorrt_llm() -> Any:  # noqa: ANN401
    try:
        return importlib.import_module("tensorrt_llm")
    except ImportError as error:
        raise EngineError(
            f"tensorrt_llm cannot be imported ({error}). Serve in NVIDIA's container "
            "nvcr.io/nvidia/tritonserver:<YY.MM>-trtllm-python-py3, or set serve.runtime: reference "
            "to answer with transformers on this machine."
        ) from error
