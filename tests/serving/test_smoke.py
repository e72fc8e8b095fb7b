from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import ToolError
from bwdeploy.serving.ask import ask
from bwdeploy.serving.canary import probe, wait_until_answering
from bwdeploy.serving.client import Endpoint, GenerationError, Sampling
from bwdeploy.serving.load import LoadPlan, Percentiles, run_load
from bwdeploy.serving.smoke import SmokeOptions, run_smoke
from bwdeploy.serving.smoke_report import SmokeCheck, SmokeReport
from tests.serving.conftest import TEXT, endpoint_of

if TYPE_CHECKING:
    from bwdeploy.tools.triton_server import RunningServer

CHECKS = [
    "canary",
    "routes[0]",
    "max-tokens",
    "stop-string",
    "unknown-parameter",
    "cancel-grpc",
    "cancel-http",
    "kernels",
]


def descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(word) for task in tasks for word in task.read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def engine_of(server: RunningServer) -> int:
    return next(
        pid
        for pid in descendants(server.pid)
        if "bwdeploy_runtime.worker" in Path(f"/proc/{pid}/cmdline").read_text()
    )


def probe_for_ever(endpoint: Endpoint) -> None:
    while True:
        probe(endpoint, deadline_s=5)


def test_a_sound_model_passes_every_check(echo: Endpoint) -> None:
    heard: list[SmokeCheck] = []
    report = run_smoke(echo, SmokeOptions(prompts=(TEXT,)), on_check=heard.append)
    assert report.ok, report.failures
    assert [check.id for check in report.checks] == CHECKS
    assert [check.id for check in report.checks if check.skipped] == ["kernels"]
    assert tuple(heard) == report.checks
    assert report.answers[0].text == TEXT[:16]
    assert SmokeReport.model_validate(report.model_dump(exclude={"ok"})) == report


def test_every_prompt_is_asked(echo: Endpoint) -> None:
    report = run_smoke(echo, SmokeOptions(prompts=("one two", "three four"), max_tokens=8))
    assert [answer.prompt for answer in report.answers] == ["one two", "three four"]
    assert report.ok, report.failures


def test_cumulative_text_passes(shared_server: RunningServer) -> None:
    endpoint = endpoint_of(shared_server, "cumulative")
    assert run_smoke(endpoint, SmokeOptions(prompts=(TEXT,), cumulative_text=True)).ok
    mistaken = run_smoke(endpoint, SmokeOptions(prompts=(TEXT,)))
    assert "routes[0]" in [check.id for check in mistaken.failures]


def test_a_model_without_streaming_passes_and_skips_cancellation(shared_server: RunningServer) -> None:
    endpoint = endpoint_of(shared_server, "whole")
    report = run_smoke(endpoint, SmokeOptions(prompts=(TEXT,), streaming=False))
    assert report.ok, report.failures
    assert [check.id for check in report.checks if check.skipped] == ["cancel-grpc", "cancel-http", "kernels"]


def test_a_dead_engine_fails_the_smoke_test_with_its_reason_and_then_heals(own_server: RunningServer) -> None:
    endpoint = endpoint_of(own_server, "echo")
    os.kill(engine_of(own_server), signal.SIGSTOP)
    hung = run_smoke(endpoint, SmokeOptions(prompts=(TEXT,), idle_s=0.5))
    assert [check.id for check in hung.failures] == ["canary"]
    assert "no answer in time" in hung.failures[0].detail
    os.kill(engine_of(own_server), signal.SIGKILL)
    with pytest.raises(GenerationError, match=r"restarting|killed by signal 9"):
        probe_for_ever(endpoint)
    assert wait_until_answering(own_server, endpoint, timeout_s=20) < 20


def test_a_dead_server_ends_the_waiting_at_once(own_server: RunningServer) -> None:
    endpoint = endpoint_of(own_server, "echo")
    os.kill(own_server.pid, signal.SIGKILL)
    with pytest.raises(ToolError, match="ended with exit status"):
        wait_until_answering(own_server, endpoint, timeout_s=20)


def test_waiting_for_a_model_that_never_answers_says_why(
    echo: Endpoint, shared_server: RunningServer
) -> None:
    nobody = Endpoint(http=echo.http, grpc=echo.grpc, metrics=echo.metrics, model="nobody")
    with pytest.raises(ToolError, match=r"The model nobody gave no answer within 1 s: .*nobody"):
        wait_until_answering(shared_server, nobody, timeout_s=1)


def test_asking_tells_text_tokens_and_speed(echo: Endpoint) -> None:
    heard: list[str] = []
    asked = ask(echo, TEXT, Sampling(max_tokens=40), on_text=heard.append)
    assert asked.text == "".join(heard) == TEXT[:40]
    assert asked.tokens == 40
    assert asked.tokens_per_s is not None
    assert 0 < asked.first_token_s < asked.seconds
    assert 20 < asked.tokens_per_s < 200  # 5 ms a token


def test_the_load_test_counts_all_tokens(echo: Endpoint) -> None:
    plan = LoadPlan(prompts=(TEXT, "x" * 100), sampling=Sampling(max_tokens=32), concurrency=4, requests=10)
    report = run_load(echo, plan)
    assert (report.requests, report.tokens, report.failures) == (10, 320, ())
    assert 10 * 3 <= report.responses <= 320
    assert report.first_token.p50_ms <= report.first_token.p99_ms
    assert report.inter_token is not None
    assert 3 < report.inter_token.p50_ms < 50
    assert report.to_json()["tokens_per_s"] == pytest.approx(320 / report.seconds)


def test_the_load_test_names_refusals(shared_server: RunningServer) -> None:
    plan = LoadPlan(prompts=(TEXT,), sampling=Sampling(max_tokens=800), concurrency=16, requests=16)
    report = run_load(endpoint_of(shared_server, "small"), plan)
    assert report.failures
    assert all("the server is full" in failure for failure in report.failures), report.failures


def test_a_load_without_one_answer_is_an_error(echo: Endpoint) -> None:
    plan = LoadPlan(prompts=(TEXT,), sampling=Sampling(max_tokens=0), concurrency=2, requests=2)
    with pytest.raises(GenerationError, match=r"No request was answered: .*max_tokens is 0"):
        run_load(echo, plan)


def test_percentiles_of_few_values() -> None:
    assert Percentiles.of([]) == Percentiles(p50_ms=0, p90_ms=0, p99_ms=0)
    assert Percentiles.of([0.5]) == Percentiles(p50_ms=500, p90_ms=500, p99_ms=500)
    assert Percentiles.of([0.001, 0.002, 0.003]).p50_ms == pytest.approx(2)
