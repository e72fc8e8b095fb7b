"""From a recipe's data to token sequences: the target's answers, or those that the conversations bring.

Held-out prompts are always answered by the target, greedily: acceptance is about what it says itself.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.worker.drafts.answers import Answering, Question, answer_all, read_answers
from bwdeploy.worker.drafts.chat_tokens import ChatTokens
from bwdeploy.worker.drafts.conversations import SECTION, read_conversations
from bwdeploy.worker.drafts.sequences import TokenSequence
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bwdeploy.pipeline.training_jobs import TrainDraft
    from bwdeploy.recipe.schema import DraftTraining
    from bwdeploy.worker.drafts.conversations import Conversation
    from bwdeploy.worker.drafts.ranks import Ranks

_LOG = logging.getLogger(__name__)
_SHORTEST_ANSWER = 8


class Material(NamedTuple):
    """What is trained and validated on."""

    training: list[TokenSequence]
    held_out: list[TokenSequence]


class Target(NamedTuple):
    """The target as far as it answers."""

    model: Any
    tokenizer: Any


def prepare_material(
    request: TrainDraft, target: Target, state: Path, ranks: Ranks, report: Callable[[Progress], None]
) -> Material:
    """Read the data and let the target answer what `state` does not hold yet.

    Raises:
        RecipeError: the data cannot be used, or is too little for one step.
    """
    training = request.training
    chosen = read_conversations(training)
    chat = ChatTokens(target.tokenizer)
    held_out = _questions(training, chat, chosen.held_out, copies=1)
    own = training.answers == "target"
    asked = _questions(training, chat, chosen.training, copies=training.answers_per_prompt) if own else []
    _refuse_too_few(training, len(asked) if own else len(chosen.training))  # before hours of generation
    questions = held_out + asked
    how = Answering(training.temperature, _end_tokens(request.target, target), training.seed)

    def on_batch(done: int, total: int) -> None:
        report(Progress(phase="answers", done=done, total=total))

    answer_all(target.model, questions, how, state, share=(ranks.rank, ranks.size), on_batch=on_batch)
    ranks.wait_for_all()
    answered = read_answers(target.model, questions, state)
    given = [] if own else [_shortened(chat.given(one), training.seq_len) for one in chosen.training]
    usable = [one for one in given + answered[len(held_out) :] if len(one.rows())]
    _refuse_too_few(training, len(usable))
    validated = [one for one in answered[: len(held_out)] if len(one.rows())]
    if not validated:
        raise recipe_error(
            f"{SECTION}.prompts",
            f"the model ends its answer at once to all {len(held_out)} prompts held out for validation",
            hint="Raise prompts, or look at what the model answers: its chat template may be wrong.",
        )
    return Material(training=usable, held_out=validated)


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


def _end_tokens(directory: Path, target: Target) -> tuple[int, ...]:
    """Where generation ends: of the generation settings, else of configuration and tokenizer."""
    file = directory / "generation_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = settings.get("eos_token_id", getattr(target.model.config, "eos_token_id", None))
    known = found if isinstance(found, list) else [found]
    return tuple(sorted({token for token in [*known, target.tokenizer.eos_token_id] if token is not None}))


def _shortened(sequence: TokenSequence, longest: int) -> TokenSequence:
    return TokenSequence(
        sequence.tokens[:longest],
        tuple((start, min(end, longest)) for start, end in sequence.answers if start < longest),
    )


def _refuse_too_few(training: DraftTraining, sequences: int) -> None:
    if sequences < training.batch_size:
        raise recipe_error(
            f"{SECTION}.batch_size",
            f"one step takes {training.batch_size} sequences, but the data makes {sequences}",
            hint="Lower batch_size, or raise prompts or answers_per_prompt.",
        )
