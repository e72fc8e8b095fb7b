"""What a draft learns from: the target's answers, once for every training that wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import RecipeError, StoreError
from bwdeploy.pipeline.jobs import Progress
from bwdeploy.pipeline.training_jobs import MATERIAL
from bwdeploy.worker.drafts import answering, answers
from bwdeploy.worker.drafts.material import Material, read_material, write_material
from bwdeploy.worker.drafts.sequences import TokenSequence
from tests.worker.drafts.training_jobs import answer_tiny, asked, refused, write_chats
from tests.worker.jobs_in_process import ignore_progress


class StopError(Exception):
    """What an interrupted job looks like from inside."""


def test_material_is_read_as_it_was_written(tmp_path: Path) -> None:
    chat = TokenSequence((5, 6, 7, 8, 9, 10), ((1, 3), (4, 6)))
    material = Material(training=[chat, TokenSequence((1, 2), ((1, 2),))], held_out=[chat])
    write_material(tmp_path, material)
    assert read_material(tmp_path) == material


def test_material_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / MATERIAL).write_bytes(b"half")
    with pytest.raises(StoreError, match="cannot be read"):
        read_material(tmp_path)


def test_prompts_are_answered_and_some_are_held_out(tiny_llama: Path, tmp_path: Path) -> None:
    result = answering.run(asked(tiny_llama, tmp_path, answers_per_prompt=2), ignore_progress)
    material = read_material(tmp_path / "answers")
    assert (result.training, result.held_out) == (len(material.training), len(material.held_out)) == (54, 3)
    assert result.tokens == sum(len(one.tokens) for one in (*material.training, *material.held_out))
    (start, end) = material.training[0].answers[0]
    assert 0 < start < end == len(material.training[0].tokens)


def test_interrupted_answering_keeps_what_was_answered(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "answers" and progress.done:
            raise StopError

    monkeypatch.setattr(answers, "_CPU_ROWS", 8)
    with pytest.raises(StopError):
        answer_tiny(tiny_llama, tmp_path, stop)
    (first,) = (tmp_path / "asked").glob("batch-*")
    before = first.stat().st_mtime_ns
    answer_tiny(tiny_llama, tmp_path)
    assert first.stat().st_mtime_ns == before
    answer_tiny(tiny_llama, tmp_path / "whole")
    assert read_material(tmp_path / "answers") == read_material(tmp_path / "whole" / "answers")


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"seq_len": 16}, "seq_len", "no prompt leaves room"),
        ({"temperature": 0, "answers_per_prompt": 2}, "answers_per_prompt", "are the same"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_generated(
    tiny_llama: Path, tmp_path: Path, changes: dict[str, Any], path: str, said: str
) -> None:
    with refused(path, said):
        answer_tiny(tiny_llama, tmp_path, **changes)
    assert not list((tmp_path / "asked").iterdir())


def test_a_model_without_an_answer_to_held_out_prompts_is_named(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bwdeploy.worker.drafts.material._end_tokens", lambda *_: tuple(range(384)))
    chats = write_chats(tmp_path / "chats.jsonl")
    with pytest.raises(RecipeError, match="ends its answer at once to all 3 prompts"):
        answer_tiny(tiny_llama, tmp_path, data=chats, answers="given")
