"""What is shown of a program that reports nothing itself."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.tools.executors.log_progress import LogProgress


def details(log: Path, monkeypatch: pytest.MonkeyPatch, *written: bytes) -> list[str]:
    """What is told after each piece was written to the log, a second apart."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    seen: list[Progress] = []
    shown = LogProgress(log, seen.append)
    shown.tell(Progress(phase="trtllm-build", detail="log"))
    for piece in written:
        with log.open("ab") as file:
            file.write(piece)
        now += 1.0
        shown.look()
        shown.look()  # too soon: tells nothing
    assert {one.phase for one in seen} == {"trtllm-build"}
    return [one.detail for one in seen]


def test_the_last_line_is_told_and_silence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = details(tmp_path / "log", monkeypatch, b"", b"[I] one\n[I] two\n\n", b"")
    assert told == ["log", "log", "[I] two", "[I] two"]


def test_bars_and_codes_of_terminals_become_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = details(tmp_path / "log", monkeypatch, b"\r 10%|#\r \x1b[31m20%\x1b[0m|##", b"\xff\x07 end\n")
    assert told[1:] == ["20%|##", "20%|##\ufffd end"]


def test_a_line_of_any_length_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(details(tmp_path / "log", monkeypatch, b"x" * 100_000)[1]) == 300
