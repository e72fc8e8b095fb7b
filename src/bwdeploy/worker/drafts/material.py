"""From a recipe's data to token sequences: the target's answers, or those that the conversations bring.

Held-out prompts are always answered by the target, greedily: acceptance is about what it says itself. What
comes of it is one file, so that every training of this target on these prompts learns from the same answers.
"""

from __future__ import annotations

import json
import logging
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import MATERIAL
from bwdeploy.worker.drafts.answers import Answering, Question, answer_all, read_answers
from bwdeploy.worker.drafts.chat_tokens import ChatTokens
from bwdeploy.worker.drafts.conversations import SECTION, read_conversations
from bwdeploy.worker.drafts.sequences import TokenSequence
from bwdeploy.worker.drafts.tensor_files import read_tensors, write_tensors
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import AnswerPrompts
    from bwdeploy.recipe.schema import DraftTraining
    from bwdeploy.worker.drafts.conversations import Conversation
    from bwdeploy.worker.drafts.ranks import Ranks

_LOG = logging.getLogger(__name__)
_SHORTEST_ANSWER = 8


class Material(NamedTuple):
    """What is trained and validated on."""

    training: list[TokenSequence]
    held_out: list[TokenSequence]


def prepare_material(
    request: AnswerPrompts,
    model: Any,  # noqa: ANN401 - transformers
    tokenizer: Any,  # noqa: ANN401 - transformers
    ranks: Ranks,
    report: Callable[[Progress], None],
) -> Material | None:
    """Read the data, answer what the request's state does not hold yet; None but for rank 0.

    Raises:
        RecipeError: the data cannot be used.
    """
    training = request.training
    chosen = read_conversations(training)
    chat = ChatTokens(tokenizer)
    held_out = _questions(training, chat, chosen.held_out, copies=1)
    own = training.answers == "target"
    asked = _questions(training, chat, chosen.training, copies=training.answers_per_prompt) if own else []
    questions = held_out + asked
    how = Answering(training.temperature, _end_tokens(request.target, model, tokenizer), training.seed)

    def on_batch(done: int, total: int) -> None:
        report(Progress(phase="answers", done=done, total=total))

    answer_all(model, questions, how, request.state, share=(ranks.rank, ranks.size), on_batch=on_batch)
    ranks.wait_for_all()
    if ranks.rank:
        return None
    answered = read_answers(model, questions, request.state)
    given = [] if own else [_shortened(chat.given(one), training.seq_len) for one in chosen.training]
    usable = [one for one in given + answered[len(held_out) :] if len(one.rows())]
    validated = [one for one in answered[: len(held_out)] if len(one.rows())]
    if not validated:
        raise recipe_error(
            f"{SECTION}.prompts",
            f"the model ends its answer at once to all {len(held_out)} prompts held out for validation",
            hint="Raise prompts, or look at what the model answers: its chat template may be wrong.",
        )
    return Material(training=usable, held_out=validated)


def write_material(directory: Path, material: Material) -> None:
    """Write the file that `read_material` reads."""
    sequences = [*material.held_out, *material.training]
    spans = [edge for one in sequences for span in one.answers for edge in span]
    tensors = {
        "tokens": torch.tensor([token for one in sequences for token in one.tokens], dtype=torch.int32),
        "lengths": torch.tensor([len(one.tokens) for one in sequences], dtype=torch.int64),
        "spans": torch.tensor(spans, dtype=torch.int32).view(-1, 2),
        "span_counts": torch.tensor([len(one.answers) for one in sequences], dtype=torch.int64),
    }
    write_tensors(directory / MATERIAL, tensors, {"held_out": len(material.held_out)})


def read_material(directory: Path) -> Material:
    """What `write_material` wrote.

    Raises:
        StoreError: there is no such file, or it cannot be read.
    """
    stored = read_tensors(directory / MATERIAL)
    if stored is None:
        raise StoreError(
            f"the answers in {directory} cannot be read", hint="Remove the artifact and build again."
        )
    tokens, spans = stored.tensors["tokens"].tolist(), stored.tensors["spans"].tolist()
    cuts = pairwise(accumulate(stored.tensors["lengths"].tolist(), initial=0))
    span_cuts = pairwise(accumulate(stored.tensors["span_counts"].tolist(), initial=0))
    sequences = [
        TokenSequence(tuple(tokens[start:end]), tuple((first, last) for first, last in spans[low:high]))
        for (start, end), (low, high) in zip(cuts, span_cuts, strict=True)
    ]
    held_out = stored.facts["held_out"]
    return Material(training=sequences[held_out:], held_out=sequences[:held_out])


def _questions(
    training: DraftTraining, chat: ChatTokens, conversations: Sequence[Conversation], *, copies: int
) -> list[Question]:
    """Each prompt `copies` times, the first one greedy; prompts without room for an answer are left out."""
    prompts = [chat.prompt(one) for one in conversations]
    short = [prompt for prompt in prompts if len(prompt) <= training.seq_len - _SHORTEST_ANSWER]
    if len(short) < len(prompts):
        _LOG.warning(
            "%d of %d prompts leave no room for an answer in %d tokens and are left out",
            len(prompts) - len(short),
            len(prompts),
            training.seq_len,
        )
    if not short:
        raise recipe_error(
            f"{SECTION}.seq_len",
            f"no prompt leaves room for an answer in {training.seq_len} tokens; "
            f"the shortest has {min(map(len, prompts), default=0)}",
            hint="Raise seq_len.",
        )
    return [
        Question(
            tokens=tuple(prompt),
            sampled=copy > 0 and training.temperature > 0,
            longest=min(training.seq_len, len(prompt) + training.answer_tokens),
        )
        for prompt in short
        for copy in range(copies)
    ]


def _end_tokens(directory: Path, model: Any, tokenizer: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Where generation ends: of the generation settings, else of configuration and tokenizer."""
    file = directory / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = settings.get("eos_token_id", getattr(model.config, "eos_token_id", None))
    known = found if isinstance(found, list) else [found]
    return tuple(sorted({token for token in [*known, tokenizer.eos_token_id] if token is not None}))


def _shortened(sequence: TokenSequence, longest: int) -> TokenSequence:
    return TokenSequence(
        sequence.tokens[:longest],
        tuple((start, min(end, longest)) for start, end in sequence.answers if start < longest),
    )
