"""A build as a log of CI shows it."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress as Bars

from bwdeploy.pipeline.jobs import Progress
from bwdeploy.report.build_progress import BuildDisplay


def test_a_long_phase_is_told_each_minute_with_its_last_line() -> None:
    text, now = io.StringIO(), 0.0
    console = Console(file=text, width=40)
    display = BuildDisplay(console, Bars(console=console, disable=True), clock=lambda: now)
    display.started("engine")
    for second in range(0, 200, 10):
        now = float(second)
        display.progressed("engine", Progress(phase="trtllm-build", detail=f"[TRT-LLM] [I] step {second}"))
    assert text.getvalue().splitlines() == [
        "engine: started",
        "engine: trtllm-build ([TRT-LLM] [I] step 0)",
        "engine: after 1 min: trtllm-build ([TRT-LLM] [I] step 60)",
        "engine: after 2 min: trtllm-build ([TRT-LLM] [I] step 120)",
        "engine: after 3 min: trtllm-build ([TRT-LLM] [I] step 180)",
    ]


def test_what_is_counted_is_told_with_its_count() -> None:
    text, now = io.StringIO(), 0.0
    console = Console(file=text)
    display = BuildDisplay(console, Bars(console=console, disable=True), clock=lambda: now)
    display.progressed("draft", Progress(phase="answers", total=8192))
    now = 61.0
    display.progressed("draft", Progress(phase="answers", done=3072, total=8192))
    assert text.getvalue().splitlines() == ["draft: answers", "draft: after 1 min: answers 3,072 of 8,192"]


def test_two_stages_with_the_same_phase_both_tell_it() -> None:
    text = io.StringIO()
    console = Console(file=text)
    display = BuildDisplay(console, Bars(console=console, disable=True))
    for stage in ("quantize", "gate"):
        display.started(stage)
        display.progressed(stage, Progress(phase="load"))
    assert "gate: load" in text.getvalue()
