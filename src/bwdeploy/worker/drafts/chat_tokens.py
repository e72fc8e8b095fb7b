"""Conversations as tokens: with the model's chat template where it has one, as it will be served.

A prompt ends where the answer begins. Of a conversation with given answers every assistant turn counts as an
answer, as long as the template writes earlier turns the same way once later ones follow; where it does not
(templates that drop reasoning), only the last answer counts.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bwdeploy.worker.drafts.conversations import SECTION
from bwdeploy.worker.drafts.sequences import TokenSequence
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.worker.drafts.conversations import Conversation, Turn


class ChatTokens:
    """A tokenizer with its chat template."""

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - a transformers tokenizer
        self._tokenizer = tokenizer

    def prompt(self, conversation: Conversation) -> list[int]:
        """Tokens up to where the model begins its answer to the last request.

        Raises:
            RecipeError: the template refuses these turns, or there is none for more than one turn.
        """
        turns = _before_last_answer(conversation.turns)
        if self._tokenizer.chat_template:
            return self._pieces([self._text(conversation, turns, answer_follows=True)])[0]
        if len(turns) > 1:
            raise recipe_error(
                f"{SECTION}.data",
                f"{conversation.place}: the model's tokenizer has no chat template for several turns",
                hint='Give plain prompts ({"prompt": "…"}), or a model with a chat template.',
            )
        return list(self._tokenizer(turns[0].content, verbose=False)["input_ids"])

    def given(self, conversation: Conversation) -> TokenSequence:
        """The whole conversation with the places of its answers.

        Raises:
            RecipeError: there is no template, or it refuses these turns.
        """
        if not self._tokenizer.chat_template:
            raise recipe_error(
                f"{SECTION}.answers",
                "the model's tokenizer has no chat template to write conversations with",
                hint="Use answers: target.",
            )
        tokens: list[int] = []
        answers: list[tuple[int, int]] = []
        for number, piece in enumerate(self._pieces(self._cut(conversation))):
            if number % 2:
                answers.append((len(tokens), len(tokens) + len(piece)))
            tokens += piece
        return TokenSequence(tuple(tokens), tuple(answers))

    def _cut(self, conversation: Conversation) -> list[str]:
        """The text before the first answer, that answer, the text up to the next one and so on."""
        turns = conversation.turns
        whole = self._text(conversation, turns, answer_follows=False)
        cuts = [0]
        for index, turn in enumerate(turns):
            if turn.role == "assistant":
                before = self._text(conversation, turns[:index], answer_follows=True)
                after = self._text(conversation, turns[: index + 1], answer_follows=False)
                if whole.startswith(after) and after.startswith(before):
                    cuts += [len(before), len(after)]
        if len(cuts) == 1:
            raise recipe_error(
                f"{SECTION}.answers",
                f"{conversation.place}: the chat template writes no answer as the continuation of its prompt",
                hint="Use answers: target.",
            )
        return [whole[start:end] for start, end in pairwise(cuts)]

    def _text(self, conversation: Conversation, turns: Sequence[Turn], *, answer_follows: bool) -> str:
        messages = [turn._asdict() for turn in turns]
        try:
            text: str = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answer_follows
            )
        except Exception as error:  # a template raises what it likes (jinja2's errors, TypeError)
            raise recipe_error(
                f"{SECTION}.data",
                f"{conversation.place}: the model's chat template refuses these turns: {error}",
                hint="Check the order of the roles.",
            ) from error
        return text

    def _pieces(self, texts: list[str]) -> list[list[int]]:
        return [
            list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            for text in texts
        ]


def _before_last_answer(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Without the assistant's turns at the end: a conversation with given answers ends with one."""
    asked = max((index for index, turn in enumerate(turns) if turn.role != "assistant"), default=-1)
    return turns[: asked + 1]
