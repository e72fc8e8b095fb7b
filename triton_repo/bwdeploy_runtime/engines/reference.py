"""Answers with Hugging Face transformers on the quantized checkpoint, dequantized on load.

For machines without TensorRT-LLM: what is served is what was built, slowly (float32 on a CPU, bfloat16 on
a CUDA GPU). Requests run at once, each with its own KV cache, one token of one request a step in turn; on a
GPU a token after the first is a captured graph where there is room for one (see `graph_decoding`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers

from bwdeploy_runtime.checkpoint import load_model
from bwdeploy_runtime.engines.base import EngineInfo, Request, Tokens
from bwdeploy_runtime.engines.cuda_capture import CudaCapture
from bwdeploy_runtime.engines.graph_decoding import GraphDecoder
from bwdeploy_runtime.engines.kernels import InstalledKernels, install_kernels
from bwdeploy_runtime.engines.prompts import PromptEncoder, room_for_answer
from bwdeploy_runtime.engines.sampler import Sampler
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.protocol import RequestFailed
from bwdeploy_runtime.quantization import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.engines.graph_decoding import Slot
    from bwdeploy_runtime.worker.text import TokenizerDetokenizer

_LOG = logging.getLogger(__name__)
_GRAPH_MEMORY = 0.25
"""Of the GPU memory that the model leaves free; growing caches and prefills need the rest."""


@dataclass
class _Answer:
    id: str
    pending: list[int]
    """Tokens that the model has not seen yet: first the prompt, then the last token."""
    room: int
    """Tokens that may still come."""
    sampler: Sampler
    cache: Any
    """Grows with each token; None once a slot holds it."""
    slot: Slot | None = None


class ReferenceEngine:
    """Transformers on CPU or one GPU."""

    _model: Any
    _encoder: PromptEncoder

    def __init__(self, *, graphs: bool = True) -> None:
        """`graphs` off: every token is decoded eagerly, also on a GPU."""
        self._wants_graphs = graphs
        self._graphs: GraphDecoder | None = None
        self._capturing = threading.Lock()
        self._kernels: InstalledKernels | None = None
        self._turns: deque[_Answer] = deque()
        self._end_tokens: frozenset[int] = frozenset()
        self._max_input_len: int | None = None
        self._max_seq_len = 0

    def load(self, config: EngineConfig, directory: Path, *, wake: Callable[[], None]) -> EngineInfo:
        """Load model and tokenizer.

        Raises:
            EngineError: the checkpoint cannot be read, or the kernel pack does not fit.
        """
        del wake  # it has news whenever it has work
        checkpoint = directory / config.checkpoint
        cuda = torch.cuda.is_available()
        device: Literal["cuda", "cpu"] = "cuda" if cuda else "cpu"
        self._encoder = PromptEncoder(
            checkpoint, chat_template=config.chat_template, trust_remote_code=config.trust_remote_code
        )
        self._model = _load_model(checkpoint, device, trust_remote_code=config.trust_remote_code)
        if config.kernels is not None:
            pack = directory / config.kernels
            self._kernels = install_kernels(self._model, pack, config.kernel_ops, device=device)
        self._end_tokens = end_tokens(checkpoint, self._model.config, self._encoder.eos_token_id)
        self._max_input_len = config.max_input_len
        self._max_seq_len = longest_sequence(self._model.config, config.max_seq_len)
        if cuda and self._wants_graphs:
            self._graphs = self._graph_decoder()
        return EngineInfo(
            engine=f"transformers {transformers.__version__}",
            device=torch.cuda.get_device_name() if cuda else "cpu",
            max_seq_len=self._max_seq_len,
            kernels=self._kernels.replaced if self._kernels else {},
        )

    def _graph_decoder(self) -> GraphDecoder:
        return GraphDecoder(
            self._model,
            longest=self._max_seq_len,
            memory_bytes=int(_GRAPH_MEMORY * torch.cuda.mem_get_info()[0]),
            capture=CudaCapture(),
            while_capturing=self._capturing,
        )

    def detokenizer(self) -> TokenizerDetokenizer:
        """Of the checkpoint's tokenizer."""
        return self._encoder.detokenizer()

    def submit(self, request: Request) -> None:
        """Take a request.

        Raises:
            InvalidRequestError: the prompt is empty or too long.
        """
        ids = self._encoder.encode(request.prompt)
        room = room_for_answer(
            len(ids),
            max_tokens=request.sampling.max_tokens,
            max_input_len=self._max_input_len,
            max_seq_len=self._max_seq_len,
        )
        cache = transformers.DynamicCache(config=self._model.config)
        self._turns.append(_Answer(request.id, ids, room, Sampler(request.sampling), cache))

    def cancel(self, request_id: str) -> None:
        """Drop the answer and its KV cache."""
        for answer in [answer for answer in self._turns if answer.id == request_id]:
            self._turns.remove(answer)
            self._end(answer)

    def step(self) -> Sequence[Tokens | RequestFailed]:
        """The next token of the answer whose turn it is.

        Raises:
            Exception: of the model, when the GPU can no longer be used; else the request fails with it.
        """
        if not self._turns:
            return ()
        answer = self._turns.popleft()
        try:
            tokens = self._advance(answer)
        except Exception as error:
            # For example out of memory on a long prompt: the others can go on.
            _LOG.exception("request %s failed", answer.id)
            self._end(answer)
            if _gpu_is_lost():
                raise
            return (
                RequestFailed(answer.id, "internal", f"the model failed: {type(error).__name__}: {error}"),
            )
        if tokens.finish is None:
            self._turns.append(answer)
        else:
            self._end(answer)
        return (tokens,)

    def pause_s(self) -> float | None:
        """Never while there is work."""
        return 0.0 if self._turns else None

    def kernel_calls(self) -> dict[str, int]:
        """By the pack's own counters; never read while a graph is captured."""
        if self._kernels is None:
            return {}
        with self._capturing:
            return self._kernels.calls()

    def close(self) -> None:
        """Drop all answers; the memory returns with the process."""
        self._turns.clear()

    def _advance(self, answer: _Answer) -> Tokens:
        token, logprob = answer.sampler.choose(self._logits(answer))
        if token in self._end_tokens:
            return Tokens(answer.id, (), finish="stop")
        answer.pending = [token]
        answer.room -= 1
        return Tokens(answer.id, (token,), logprob, finish=None if answer.room else "length")

    def _logits(self, answer: _Answer) -> torch.Tensor:
        """What follows the pending tokens, [vocabulary]."""
        with torch.inference_mode():
            if self._graphs is not None and answer.slot is None:
                self._ask_for_slot(self._graphs, answer)
            if answer.slot is not None:
                return answer.slot.decode(answer.pending[0])
            ids = torch.tensor([answer.pending], device=self._model.device)
            output = self._model(
                input_ids=ids, past_key_values=answer.cache, use_cache=True, logits_to_keep=1
            )
        logits: torch.Tensor = output.logits[0, -1]
        return logits

    @staticmethod
    def _ask_for_slot(graphs: GraphDecoder, answer: _Answer) -> None:
        """Each time anew: another answer may have left its slot meanwhile."""
        seen = answer.cache.get_seq_length()
        if seen:
            answer.slot = graphs.begin(answer.cache, answer.pending[0], tokens=seen + answer.room)
        if answer.slot is not None:
            answer.cache = None

    def _end(self, answer: _Answer) -> None:
        if self._graphs is not None and answer.slot is not None:
            self._graphs.end(answer.slot)


def _gpu_is_lost() -> bool:
    """Whether only a new process can use the GPU, as after an illegal memory access."""
    if not torch.cuda.is_available():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _load_model(checkpoint: Path, device: str, *, trust_remote_code: bool) -> Any:  # noqa: ANN401
    try:
        model, info = load_model(
            checkpoint,
            device=device,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
            emulate_activations=True,
            trust_remote_code=trust_remote_code,
        )
    except CheckpointError as error:
        raise EngineError(f"the checkpoint cannot be served: {error}") from error
    _LOG.info("checkpoint: %s", info)
    return model


def end_tokens(checkpoint: Path, model_config: Any, tokenizer_eos: int | None) -> frozenset[int]:  # noqa: ANN401
    """What ends an answer: the tokens of generation_config.json, else config.json, else the tokenizer."""
    try:
        found = transformers.GenerationConfig.from_pretrained(checkpoint).eos_token_id
    except OSError:
        found = getattr(model_config, "eos_token_id", None)
    if found is None:
        found = [] if tokenizer_eos is None else tokenizer_eos
    return frozenset([found] if isinstance(found, int) else found)


def longest_sequence(model_config: Any, wanted: int | None) -> int:  # noqa: ANN401 - transformers config
    """Prompt plus answer in tokens: what was asked for, but not beyond what the model was made for.

    Raises:
        EngineError: neither says anything.
    """
    made_for: int | None = getattr(model_config, "max_position_embeddings", None)
    limits = [limit for limit in (made_for, wanted) if limit]
    if not limits:
        raise EngineError("the model's config.json has no max_position_embeddings. Set engine.max_seq_len.")
    return min(limits)
