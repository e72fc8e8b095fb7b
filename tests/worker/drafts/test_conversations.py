"""Which prompts are chosen, which are held out, and what is said of data in the wrong form."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.worker.drafts.chat_prompts import PROMPTS_FILE, chat_prompts
from bwdeploy.worker.drafts.conversations import read_conversations
from tests.worker.drafts.training_jobs import training, write_lines

USER = {"role": "user", "content": "Hello?"}
ANSWER = {"role": "assistant", "content": "Hello."}


def test_built_in_prompts_are_thousands_all_different_and_whole() -> None:
    texts = [prompt.text for prompt in chat_prompts()]
    assert len(texts) > 5000
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if "{" in text or "}" in text or text != text.strip()]


def plain(text: str) -> str:
    words = (word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in {"a", "an", "the"})
    return f" {' '.join(words)} "


def test_no_prompt_on_which_drafts_are_measured_is_one_of_training() -> None:
    lines = PROMPTS_FILE.with_name("workloads.jsonl").read_text(encoding="utf-8").splitlines()
    measured = [json.loads(line) for line in lines]
    assert len(measured) >= 64
    assert not {row["prompt"] for row in measured} & {prompt.text for prompt in chat_prompts()}
    subjects = {prompt.subject for prompt in chat_prompts()}
    chats = [plain(row["prompt"]) for row in measured if row["workload"] == "chat"]
    assert not [subject for subject in subjects if any(plain(subject) in chat for chat in chats)]


def test_held_out_prompts_are_about_subjects_that_training_never_sees() -> None:
    chosen = read_conversations(training(prompts=640))
    assert len(chosen.held_out) == 64
    assert len(chosen.training) == 576
    assert not {one.group for one in chosen.held_out} & {one.group for one in chosen.training}


def test_the_choice_depends_on_the_seed_and_nothing_else() -> None:
    first, again, other = (read_conversations(training(prompts=50, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_prompts_and_chats_are_read_and_repeated_ones_dropped(tmp_path: Path) -> None:
    data = write_lines(
        tmp_path / "data.jsonl",
        {"prompt": "One?"},
        {"prompt": "One?"},
        "\n",
        {"messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER]},
    )
    chosen = read_conversations(training(data=data, prompts=2))
    turns = {tuple(turn.role for turn in one.turns) for one in (*chosen.training, *chosen.held_out)}
    assert turns == {("user",), ("system", "user")}


def test_given_answers_keep_the_chat_up_to_the_last_answer(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": str(n)}, ANSWER, USER]} for n in range(4)]
    data = write_lines(tmp_path / "data.jsonl", *rows)
    chosen = read_conversations(training(data=data, prompts=4, answers="given"))
    assert {tuple(turn.role for turn in one.turns) for one in chosen.training} == {("user", "assistant")}


def test_chats_that_begin_alike_are_not_lost_to_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alike = [{"messages": [USER, ANSWER, {"role": "user", "content": f"{n}?"}]} for n in range(60)]
    for kind in range(8):  # whichever of the groups comes first
        data = write_lines(tmp_path / "data.jsonl", *alike, *({"prompt": f"{kind} {n}?"} for n in range(40)))
        chosen = read_conversations(training(data=data, prompts=100))
        assert (len(chosen.training), len(chosen.held_out)) == (95, 5)
        assert {one.group for one in chosen.held_out}.isdisjoint({"Hello?"})
    assert not caplog.messages


def test_prompts_that_are_left_out_for_validation_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        chosen = read_conversations(training(prompts=7704))
    assert f"{7704 - len(chosen.training) - 64} of 7704 prompts share their subject" in caplog.text


def test_data_with_one_request_only_cannot_be_held_out(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER, {"role": "user", "content": f"{n}?"}]} for n in range(9)]
    data = write_lines(tmp_path / "data.jsonl", *rows)
    with pytest.raises(RecipeError, match="all 9 conversations begin with the same request"):
        read_conversations(training(data=data, prompts=9))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{oh\n", "is not JSON"),
        ('["a"]\n', "no object"),
        ({"question": "What?"}, "neither a prompt nor messages, but question"),
        ('{"prompt": "half \\ud83d"}\n', "half of a character"),
        ("[" * 100_000 + "\n", "is not JSON"),
        ({"messages": "Hello"}, "no list of turns"),
        ({"messages": [{"role": "user"}]}, "messages[0] has no text"),
        ({"messages": [USER, {"role": "human", "content": "?"}]}, "messages[1] has the role 'human'"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "needs a user turn"),
    ],
)
def test_a_line_of_the_wrong_form_is_named_with_what_is_expected(
    tmp_path: Path, line: Any, said: str
) -> None:
    path = tmp_path / "data.jsonl"
    data = write_lines(path, {"prompt": "Fine?"}, line)
    with pytest.raises(RecipeError) as caught:
        read_conversations(training(data=data))
    (finding,) = caught.value.findings
    assert finding.path == "speculative.train.data"
    assert f"{path}:2: " in finding.message
    assert said in finding.message
    assert '{"prompt": "…"}' in finding.hint


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"data": "file:///nowhere/data.jsonl"}, "data", "No such file"),
        ({"data": "builtin://other"}, "data", "is no data"),
        ({"answers": "given"}, "answers", "prompts without answers"),
        ({"prompts": 100_000}, "prompts", "100000 different prompts are wanted"),
        ({"prompts": 1}, "prompts", "2 at least"),
    ],
)
def test_data_that_cannot_be_used_is_refused(changes: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_conversations(training(**changes))
    (finding,) = caught.value.findings
    assert finding.path == f"speculative.train.{path}"
    assert said in finding.message
