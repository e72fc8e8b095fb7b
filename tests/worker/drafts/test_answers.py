"""The target's answers: those of plain decoding, kept in the state, the same for the same seed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.worker.drafts import answers
from bwdeploy.worker.drafts.answers import Answering, Question, answer_all, read_answers

HOW = Answering(temperature=0.8, end_tokens=(2,), seed=3)
PROMPTS = [tuple(range(start, start + length)) for start, length in ((20, 5), (90, 9), (50, 7), (140, 5))]


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Any:
    transformers = import_module("transformers")
    return transformers.LlamaForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


def questions(*, sampled: bool, longest: int = 24) -> list[Question]:
    return [Question(prompt, sampled, longest) for prompt in PROMPTS]


def answered(model: Any, state: Path, asked: list[Question], how: Answering = HOW) -> list[tuple[int, ...]]:
    answer_all(model, asked, how, state, on_batch=lambda done, total: None)
    return [one.tokens for one in read_answers(model, asked, state)]


def test_greedy_answers_are_those_of_plain_decoding(model: Any, tmp_path: Path) -> None:
    found = answered(model, tmp_path, questions(sampled=False), HOW._replace(end_tokens=()))
    for prompt, tokens in zip(PROMPTS, found, strict=True):
        assert tokens[: len(prompt)] == prompt
        assert len(tokens) == 24
        ids = list(prompt)
        with torch.no_grad():
            while len(ids) < 24:
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert tokens == tuple(ids)


def test_an_answer_ends_with_its_end_token(model: Any, tmp_path: Path) -> None:
    asked = questions(sampled=False)
    whole = answered(model, tmp_path, asked, HOW._replace(end_tokens=()))
    end = whole[0][10]
    (tmp_path / "ended").mkdir()
    tokens = answered(model, tmp_path / "ended", asked, HOW._replace(end_tokens=(end,)))[0]
    assert tokens == whole[0][: whole[0].index(end, len(PROMPTS[0])) + 1]


def test_sampled_answers_depend_on_the_seed_alone(model: Any, tmp_path: Path) -> None:
    places = [tmp_path / name for name in "abc"]
    for place in places:
        place.mkdir()
    asked = questions(sampled=True)
    first, again = answered(model, places[0], asked), answered(model, places[1], asked)
    assert first == again
    assert first != answered(model, places[2], asked, HOW._replace(seed=4))


def test_only_missing_batches_are_answered_and_every_process_takes_its_own(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "_CPU_ROWS", 2)
    asked = questions(sampled=True)
    expected = answered(model, tmp_path, asked)
    first, second = sorted(tmp_path.glob("batch-*"))
    second.unlink()
    kept = first.stat().st_mtime_ns
    answer_all(model, asked, HOW, tmp_path, share=(0, 2), on_batch=lambda done, total: None)
    assert not second.exists()
    answer_all(model, asked, HOW, tmp_path, share=(1, 2), on_batch=lambda done, total: None)
    assert first.stat().st_mtime_ns == kept
    assert [one.tokens for one in read_answers(model, asked, tmp_path)] == expected


def test_sampling_follows_the_distribution(model: Any) -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(4000, 1)
    asked = [Question((1,), True, 2)] * 4000
    choose = answers._Choice(asked, HOW._replace(temperature=1.0), 0, torch.device("cpu"))
    shares = torch.bincount(choose(logits), minlength=3) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0)
