"""Answers with Hugging Face transformers on the quantized checkpoint, dequantized on load.

For machines without TensorRT-LLM: what is served is what was built, slowly (float32 on a CPU, bfloat16 on
a CUDA GPU). Requests run at once, each with its own KV cache, one token of one request a step in turn.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers

from bwdeploy_runtime.checkpoint import load_model
from bwdeploy_runtime.engines.base import EngineInfo, Request, Tokens
from bwdeploy_runtime.engines.prompts import PromptEncoder, room_for_answer
from bwdeploy_runtime.engines.sampler import Sampler
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.protocol import RequestFailed
from bwdeploy_runtime.quantization import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bwdeploy_runtime.config import EngineConfig
    from bwdeploy_runtime.worker.text import TokenizerDetokenizer

_LOG = logging.getLogger(__name__)


@dataclass
class _Answer:
    id: str
    pending: list[int]
    """Tokens that the model has not seen yet: first the prompt, then the last token."""
    room: int
    """Tokens that may still come."""
    sampler: Sampler
    cache: Any


class ReferenceEngine:
    """Transformers on CPU or one GPU."""

    _model: Any
    _encoder: PromptEncoder

    def __init__(self) -> None:
        self._turns: deque[_Answer] = deque()
        self._end_tokens: frozenset[int] = frozenset()
        self._max_input_len: int | None = None
        self._max_seq_len = 0

    def load(self, config: EngineConfig, directory: Path, *, wake: Callable[[], None]) -> EngineInfo:
        """Load model and tokenizer.

        Raises:
            EngineError: the checkpoint cannot be read.
        """
        del wake  # it has news whenever it has work
        checkpoint = directory / config.checkpoint
        cuda = torch.cuda.is_available()
        self._encoder = PromptEncoder(
            checkpoint, chat_template=config.chat_template, trust_remote_code=config.trust_remote_code
        )
        try:
            self._model, info = load_model(
                checkpoint,
                device="cuda" if cuda else "cpu",
                dtype=torch.bfloat16 if cuda else torch.float32,
                emulate_activations=True,
                trust_remote_code=config.trust_remote_code,
            )
        except CheckpointError as error:
            raise EngineError(f"the checkpoint cannot be served: {error}") from error
        _LOG.info("checkpoint: %s", info)
        self._end_tokens = end_tokens(checkpoint, self._model.config, self._encoder.eos_token_id)
        self._max_input_len = config.max_input_len
        self._max_seq_len = longest_sequence(self._model.config, config.max_seq_len)
        return EngineInfo(
            engine=f"transformers {transformers.__version__}",
            device=torch.cuda.get_device_name() if cuda else "cpu",
            max_seq_len=self._max_seq_len,
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
        self._turns = deque(answer for answer in self._turns if answer.id != request_id)

    def step(self) -> Sequence[Tokens | RequestFailed]:
        """The next token of the answer whose turn it is."""
        if not self._turns:
            return ()
        answer = self._turns.popleft()
        try:
            tokens = self._advance(answer)
        except Exception as error:  # noqa: BLE001 - see below
            # For example out of memory on a long prompt: the others can go on.
            _LOG.exception("request %s failed", answer.id)
            return (
                RequestFailed(answer.id, "internal", f"the model failed: {type(error).__name__}: {error}"),
            )
        if tokens.finish is None:
            self._turns.append(answer)
        return (tokens,)

    def pause_s(self) -> float | None:
        """Never while there is work."""
        return 0.0 if self._turns else None

    def close(self) -> None:
        """Drop all answers; the memory returns with the process."""
        self._turns.clear()

    def _advance(self, answer: _Answer) -> Tokens:
        ids = torch.tensor([answer.pending], device=self._model.device)
        with torch.inference_mode():
            output = self._model(
                input_ids=ids, past_key_values=answer.cache, use_cache=True, logits_to_keep=1
            )
        token, logprob = answer.sampler.choose(output.logits[0, -1])
        if token in self._end_tokens:
            return Tokens(answer.id, (), finish="stop")
        answer.pending = [token]
        answer.room -= 1
        return Tokens(answer.id, (token,), logprob, finish=None if answer.room else "length")


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
