"""The target's own answers to prompts, generated in batches on its device.

Prompts of similar length share a batch; decoding starts behind the shortest one, and the longer ones are fed
their own tokens until they end. So nothing is padded, no attention mask is needed, and the host never waits
for a token: it looks every 32 steps whether all answers have ended. Each batch is a file in the job's state,
so an interrupted job generates only what is missing.
"""

from __future__ import annotations

import inspect
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bwdeploy.worker.drafts.sequences import TokenSequence
from bwdeploy.worker.drafts.target_model import text_config
from bwdeploy.worker.drafts.tensor_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

_LOOK_EVERY = 32
_CPU_ROWS = 32
_MOST_ROWS = 1024
_CACHE_SHARE = 0.2
"""Of the GPU's memory beside the model, for keys and values of a batch; growing, they need as much again."""


class Question(NamedTuple):
    """A prompt to answer once."""

    tokens: tuple[int, ...]
    sampled: bool
    """False: greedy."""
    longest: int
    """Tokens of prompt and answer at most."""


class Answering(NamedTuple):
    """How questions are answered."""

    temperature: float
    end_tokens: tuple[int, ...]
    seed: int


def answer_all(
    model: Any,  # noqa: ANN401 - a transformers model
    questions: Sequence[Question],
    how: Answering,
    state: Path,
    *,
    share: tuple[int, int] = (0, 1),
    on_batch: Callable[[int, int], None],
) -> None:
    """Answer the batches of process `share[0]` of `share[1]` that `state` does not hold yet.

    `on_batch` is told how many of its questions are answered.
    """
    rank, ranks = share
    batches = _batches(questions, _rows_at_once(model, questions))
    own = [(number, batch) for number, batch in enumerate(batches) if number % ranks == rank]
    total = sum(len(batch) for _, batch in own)
    done = 0
    for number, batch in own:
        file = _file(state, number, len(batches))
        if read_tensors(file) is None:
            answered = _answer(model, [questions[index] for index in batch], how, number)
            write_tensors(file, _packed(batch, answered), {})
        done += len(batch)
        on_batch(done, total)


def read_answers(
    model: Any,  # noqa: ANN401
    questions: Sequence[Question],
    state: Path,
) -> list[TokenSequence]:
    """What `answer_all` left in `state`, in the order of the questions."""
    found: dict[int, TokenSequence] = {}
    batches = _batches(questions, _rows_at_once(model, questions))
    for number in range(len(batches)):
        stored = read_tensors(_file(state, number, len(batches)))
        if stored is None:
            raise FileNotFoundError(_file(state, number, len(batches)))
        tokens = stored.tensors["tokens"].tolist()
        ends = list(accumulate(stored.tensors["lengths"].tolist()))
        for index, start, end in zip(stored.tensors["questions"].tolist(), [0, *ends], ends, strict=False):
            prompt = len(questions[index].tokens)
            found[index] = TokenSequence(tuple(tokens[start:end]), ((prompt, end - start),))
    return [found[index] for index in range(len(questions))]


def _packed(batch: list[int], answered: list[list[int]]) -> dict[str, Tensor]:
    return {
        "questions": torch.tensor(batch, dtype=torch.int64),
        "lengths": torch.tensor([len(row) for row in answered], dtype=torch.int64),
        "tokens": torch.tensor([token for row in answered for token in row], dtype=torch.int32),
    }


def _file(state: Path, number: int, batches: int) -> Path:
    return state / f"batch-{number:05d}-of-{batches:05d}.safetensors"


def _batches(questions: Sequence[Question], rows: int) -> list[list[int]]:
    """Indices of the questions, those of similar length together."""
    order = sorted(range(len(questions)), key=lambda index: (len(questions[index].tokens), index))
    return [order[start : start + rows] for start in range(0, len(order), rows)]


def _rows_at_once(model: Any, questions: Sequence[Question]) -> int:  # noqa: ANN401
    """Sequences of one batch: what a share of the GPU's memory holds in keys and values."""
    if model.device.type != "cuda":
        return _CPU_ROWS
    config = text_config(model)
    heads = config.num_attention_heads
    per_head = getattr(config, "head_dim", None) or config.hidden_size // heads
    per_token = 2 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads)
    longest = max(question.longest for question in questions)
    memory: int = torch.cuda.get_device_properties(model.device).total_memory
    memory -= sum(parameter.nbytes for parameter in model.parameters())
    fitting: int = int(memory * _CACHE_SHARE) // (per_token * per_head * model.dtype.itemsize * longest)
    return max(1, min(_MOST_ROWS, fitting))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _answer(model: Any, questions: list[Question], how: Answering, number: int) -> list[list[int]]:  # noqa: ANN401
    """Prompt and answer of each question, the end token included."""
    device = model.device
    prompts = torch.tensor([len(question.tokens) for question in questions], device=device)
    limits = torch.tensor([question.longest for question in questions], device=device)
    start = min(len(question.tokens) for question in questions)
    end = max(question.longest for question in questions)
    tokens = _filled(questions, end).to(device)
    choose = _Choice(questions, how, number, device)
    last_only = _last_logits_only(model)
    finished = torch.zeros(len(questions), dtype=torch.bool, device=device)
    cache, fed = None, tokens[:, :start]
    for position in range(start, end):
        output = model(input_ids=fed, past_key_values=cache, use_cache=True, **last_only)
        cache = output.past_key_values
        chosen = torch.where(position < prompts, tokens[:, position], choose(output.logits[:, -1]))
        tokens[:, position] = chosen
        fed = chosen[:, None]
        finished |= ((position >= prompts) & choose.ends(chosen)) | (position + 1 >= limits)
        if (position - start) % _LOOK_EVERY == _LOOK_EVERY - 1 and bool(finished.all()):
            break
    return [_cut(row, one, how) for row, one in zip(tokens.tolist(), questions, strict=True)]


def _last_logits_only(model: Any) -> dict[str, int]:  # noqa: ANN401
    """The argument that spares the logits of a whole prompt, where this model knows it."""
    known = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if known else {}


class _Choice:
    """The next token of each row: the most likely one, or a sample (by the Gumbel-max trick)."""

    def __init__(self, questions: list[Question], how: Answering, number: int, device: Any) -> None:  # noqa: ANN401
        self._temperature = how.temperature
        self._sampled = torch.tensor([[float(question.sampled)] for question in questions], device=device)
        self._noisy = any(question.sampled for question in questions)
        self._end_tokens = torch.tensor(how.end_tokens, device=device)
        self._random = torch.Generator(device).manual_seed(how.seed * 1_000_003 + number)

    def __call__(self, logits: Tensor) -> Tensor:
        """int64 [rows] of logits [rows, vocabulary]."""
        scores = logits.float()
        if self._noisy:
            uniform = torch.rand(scores.shape, generator=self._random, device=scores.device)
            noise = uniform.clamp_(1e-20, 1 - 1e-7).log_().neg_().log_().neg_()
            scores = scores + noise.mul_(self._sampled * self._temperature)
        return scores.argmax(-1)

    def ends(self, chosen: Tensor) -> Tensor:
        """Whether each token ends an answer."""
        return torch.isin(chosen, self._end_tokens)


def _filled(questions: list[Question], width: int) -> Tensor:
    tokens = torch.zeros((len(questions), width), dtype=torch.int64)
    for index, question in enumerate(questions):
        tokens[index, : len(question.tokens)] = torch.tensor(question.tokens)
    return tokens


def _cut(row: list[int], question: Question, how: Answering) -> list[int]:
    """The row up to its end token or its limit."""
    for position in range(len(question.tokens), question.longest):
        if row[position] in how.end_tokens:
            return row[: position + 1]
    return row[: question.longest]
