"""Conversations as tokens, with a chat template and without one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.worker.drafts.chat_tokens import ChatTokens
from bwdeploy.worker.drafts.conversations import Conversation, Turn

TURNS = (
    Turn("user", "First?"),
    Turn("assistant", "One answer."),
    Turn("user", "Second?"),
    Turn("assistant", "Another answer."),
)
# The tests' own template writes no beginning of an answer; a served model's does.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = TEMPLATE.replace(
    "{{ message['content'] }}",
    "{{ message['content'] if loop.last or message['role'] == 'user' else '…' }}",
)


@pytest.fixture
def tokenizer(tiny_llama: Path) -> Any:
    return import_module("transformers").AutoTokenizer.from_pretrained(tiny_llama)


def chat(*turns: Turn) -> Conversation:
    return Conversation(turns, "group", "data.jsonl:7")


def answers_in(tokenizer: Any, *turns: Turn) -> list[str]:
    found = ChatTokens(tokenizer).given(chat(*turns))
    return [tokenizer.decode(found.tokens[start:end]) for start, end in found.answers]


def test_a_prompt_ends_where_the_answer_begins(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    text = tokenizer.decode(ChatTokens(tokenizer).prompt(chat(TURNS[0])))
    assert text.endswith("<|im_start|>assistant\n")


def test_a_prompt_of_a_chat_with_its_answer_asks_for_that_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    tokens = ChatTokens(tokenizer)
    assert tokens.prompt(chat(*TURNS)) == tokens.prompt(chat(*TURNS[:3]))


def test_every_given_answer_counts_with_its_end(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE
    assert answers_in(tokenizer, *TURNS) == ["One answer.<|im_end|>\n", "Another answer.<|im_end|>\n"]


def test_only_the_last_answer_counts_where_the_template_changes_earlier_ones(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    assert answers_in(tokenizer, *TURNS) == ["Another answer.<|im_end|>\n"]


def test_without_a_template_a_prompt_is_plain_text(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert tokenizer.decode(ChatTokens(tokenizer).prompt(chat(TURNS[0]))).endswith("First?")


@pytest.mark.parametrize("verb", ["prompt", "given"])
def test_without_a_template_chats_are_refused(tokenizer: Any, verb: str) -> None:
    tokenizer.chat_template = None
    with pytest.raises(RecipeError, match="no chat template"):
        getattr(ChatTokens(tokenizer), verb)(chat(*TURNS))


def test_turns_that_the_template_refuses_are_named(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(RecipeError, match=r"data\.jsonl:7.*roles must alternate"):
        ChatTokens(tokenizer).prompt(chat(TURNS[0]))
