"""Processes that work on one thing: their places, their lines, and the end of all when one fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bwdeploy.tools import rank_children
from bwdeploy.tools.rank_children import run_ranks

PROGRAM = """
import os, sys, time
rank = os.environ["RANK"]
print("rank", rank, "of", os.environ["WORLD_SIZE"], "on GPU", os.environ["LOCAL_RANK"], flush=True)
if sys.argv[1] == rank:
    sys.exit(3)
if sys.argv[1] != "none":
    time.sleep(60)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "rank_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(rank_children, "_GRACE_S", 0.1)
    return "rank_program"


def test_every_process_knows_its_place_and_the_first_one_is_heard(program: str) -> None:
    lines: list[str] = []
    assert run_ranks(program, ("none",), 2, on_line=lines.append)
    assert lines == ["rank 0 of 2 on GPU 0\n"]


@pytest.mark.parametrize("failing", ["0", "1"])
def test_when_one_fails_the_others_do_not_wait_for_it(program: str, failing: str) -> None:
    began = time.monotonic()
    assert not run_ranks(program, (failing,), 2, on_line=lambda _: None)
    assert time.monotonic() - began < 30
