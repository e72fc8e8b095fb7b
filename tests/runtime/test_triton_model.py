"""The Triton model inside a real Triton server."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from bwdeploy.errors import ToolError
from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.client import Endpoint
from bwdeploy.serving.kernel_runs import check_kernels
from bwdeploy.serving.repository import RepositoryInputs, Runtime, write_repository
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import start_server
from bwdeploy_runtime.config import EngineConfig
from tests.runtime.conftest import KERNEL_OPS
from tests.runtime.triton_client import GrpcStream, Triton, text_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "Grüße 👩‍👩‍👧‍👦 from 東京, and so on to the END of it"
LONG = "x" * 2000
GENERATE_ERROR = 400
"""Server 2.51 answers 400 on `generate` whatever code an error has; `infer` tells 503 from 400."""


def add_model(
    repository: Path,
    name: str,
    *,
    runtime: Runtime = "echo",
    checkpoint: Path | None = None,
    kernels: Path | None = None,
    streaming: bool = True,
    **settings: Any,
) -> Path:
    serve = Serve(model_name=name, streaming=streaming)
    inputs = RepositoryInputs(
        serve=serve,
        engine=Engine(),
        checkpoint=checkpoint,
        llm_args=None,
        runtime=runtime,
        kernels=kernels,
        kernel_ops=KERNEL_OPS if kernels else (),
    )
    engine_json = write_repository(repository, inputs) / "1" / "engine.json"
    config = EngineConfig.from_json(engine_json.read_text())
    engine_json.write_text(replace(config, **settings).to_json())
    return engine_json


def engine_pid(engine_json: Path) -> int | None:
    """The engine process of a model, found by its command line as an operator would."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"bwdeploy_runtime.worker" in words and str(engine_json).encode() in words:
            return int(entry.name)
    return None


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory, tiny_fp8_checkpoint: Path, kernel_pack: Path
) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    add_model(directory, "echo")
    add_model(directory, "token_by_token", flush_tokens=1, flush_interval_ms=0)
    add_model(directory, "paced", echo_token_delay_ms=20, flush_tokens=1, max_running=64)
    add_model(directory, "narrow", echo_token_delay_ms=20, max_running=1, max_queued=1)
    add_model(directory, "cumulative", cumulative_text=True)
    add_model(directory, "whole", streaming=False)
    add_model(directory, "narrow_whole", streaming=False, echo_token_delay_ms=20, max_running=1, max_queued=1)
    add_model(directory, "mortal", echo_token_delay_ms=20, stall_timeout_s=1.5)
    add_model(
        directory, "reference", runtime="reference", checkpoint=tiny_fp8_checkpoint, kernels=kernel_pack
    )
    return directory


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    log = tmp_path_factory.mktemp("server") / "triton.log"
    with start_server(ServerRequest(repository=repository, log=log, startup_timeout_s=120)) as server:
        yield Triton(server)


def test_generate_answers_whole(triton: Triton) -> None:
    status, body = triton.generate("echo", TEXT, return_finish_reason=True, return_stop_reason=True)
    assert (status, body["text_output"]) == (200, TEXT)
    assert (body["finish_reason"], body["stop_reason"]) == ("stop", "")


def test_only_what_was_asked_for_is_returned(triton: Triton) -> None:
    _, body = triton.generate("echo", TEXT)
    assert set(body) == {"model_name", "model_version", "text_output"}


def test_generate_stream_sends_deltas_that_add_up(triton: Triton) -> None:
    events = list(triton.stream("echo", TEXT, return_finish_reason=True))
    assert "".join(event["text_output"] for event in events) == TEXT
    assert 1 < len(events) <= 2 + len(TEXT.encode()) // 16
    assert [event["finish_reason"] for event in events] == [""] * (len(events) - 1) + ["stop"]


def test_the_first_token_comes_alone_and_at_once(triton: Triton) -> None:
    events = triton.stream("paced", "abc" * 100)
    begun_s = time.monotonic()
    assert next(events)["text_output"] == "a"
    assert time.monotonic() - begun_s < 1.0
    events.close()  # type: ignore[attr-defined]


def test_token_by_token_never_splits_a_character(triton: Triton) -> None:
    texts = [event["text_output"] for event in triton.stream("token_by_token", TEXT)]
    assert texts == list(TEXT)


def test_cumulative_text_repeats_what_came_before(triton: Triton) -> None:
    texts = [event["text_output"] for event in triton.stream("cumulative", TEXT)]
    assert len(texts) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == TEXT


def test_grpc_stream_marks_the_last_data_response_as_final(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream:
        stream.send("echo", text_input=TEXT, streaming=True, sampling_param_max_tokens=200)
        responses = stream.answer()
    assert "".join(map(text_of, responses)) == TEXT
    assert text_of(responses[-1])


def test_grpc_without_streaming_is_one_response_with_the_final_flag(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream:
        stream.send("echo", text_input=TEXT, sampling_param_max_tokens=200)
        assert list(map(text_of, stream.answer())) == [TEXT]


def test_stop_strings_and_max_tokens_are_obeyed(triton: Triton) -> None:
    _, body = triton.generate(
        "echo",
        TEXT,
        sampling_param_stop=["nowhere", "END"],
        return_finish_reason=True,
        return_stop_reason=True,
    )
    assert body["text_output"] == TEXT[: TEXT.index("END")]
    assert (body["finish_reason"], body["stop_reason"]) == ("stop", "END")
    _, body = triton.generate("echo", "hello", sampling_param_max_tokens=2, return_finish_reason=True)
    assert (body["text_output"], body["finish_reason"]) == ("he", "length")


def test_the_prompt_is_repeated_only_when_asked_for(triton: Triton) -> None:
    _, body = triton.generate("echo", "ab", sampling_param_exclude_input_from_output=False)
    assert body["text_output"] == "abab"


def test_performance_and_log_probability_have_their_types(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream:
        stream.send(
            "reference",
            text_input="the quick",
            sampling_param_max_tokens=5,
            sampling_param_return_perf_metrics=True,
            return_cumulative_logprob=True,
        )
        (response,) = stream.answer()
    times = [
        response.as_numpy(f"{name}_time_ns")
        for name in ("arrival", "first_scheduled", "first_token", "last_token")
    ]
    assert all(item.dtype == np.int64 for item in times)
    assert times == sorted(times)
    assert response.as_numpy("cumulative_logprob").dtype == np.float32
    assert response.as_numpy("cumulative_logprob")[0] < 0


def test_the_reference_engine_answers_the_same_on_every_route(triton: Triton) -> None:
    _, body = triton.generate("reference", "the quick brown", sampling_param_max_tokens=20)
    streamed = "".join(
        event["text_output"]
        for event in triton.stream("reference", "the quick brown", sampling_param_max_tokens=20)
    )
    assert body["text_output"] == streamed != ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling_param_seed": 1}, "text_input is missing"),
        ({"text_input": ["a", "b"]}, "text_input has 2 values, not one."),
        ({"text_input": ""}, "text_input is empty"),
        ({"text_input": "x", "max_tokens": 3}, "Did you mean sampling_param_max_tokens?"),
        ({"text_input": "x", "sampling_param_topk": 3}, "Did you mean sampling_param_top_k?"),
        ({"text_input": "x", "sampling_param_max_tokens": 0}, "max_tokens is 0, outside 1 to 4096."),
        ({"text_input": "x", "sampling_param_best_of": 2}, "best_of is 2: one answer per request"),
        ({"text_input": "x", "sampling_param_top_p": 2.0}, "top_p is 2.0, outside 0.0 to 1.0."),
        ({"text_input": "x", "sampling_param_stop": [""]}, "a stop string has 0 characters"),
        ({"text_input": "x", "stop": True}, "stop needs a request id"),
    ],
)
def test_nonsense_is_refused_with_the_way_out(triton: Triton, fields: dict[str, Any], message: str) -> None:
    status, body = triton.post("generate", "echo", **fields)
    assert status == 400
    assert message in body["error"]


def test_nonsense_tensors_are_refused_and_the_stream_goes_on(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream:
        stream.send("echo", text_input=np.array([b"\xff\xfe"], dtype=np.object_))
        with pytest.raises(InferenceServerException, match="text_input is not UTF-8"):
            stream.next()
        stream.send("echo", text_input=np.array([], dtype=np.object_))
        with pytest.raises(InferenceServerException, match="text_input has 0 values"):
            stream.next()
        stream.send("echo", text_input="x", sampling_param_temperature=float("nan"))
        with pytest.raises(InferenceServerException, match="temperature is nan"):
            stream.next()
        stream.send("echo", text_input="x", parameters={"best_off": 2})
        with pytest.raises(InferenceServerException, match="Did you mean sampling_param_best_of"):
            stream.next()
        stream.send("echo", text_input="fine")
        assert "".join(map(text_of, stream.answer()[-1:])) == "fine"


def test_sixty_four_streams_at_once(triton: Triton) -> None:
    """Over gRPC: generate_stream of server 2.51 drops responses when its event threads starve."""
    texts = [f"stream {number} " * 30 for number in range(64)]

    def ask(text: str) -> str:
        with GrpcStream(triton.server) as stream:
            stream.send("echo", text_input=text, streaming=True, sampling_param_max_tokens=4000)
            return "".join(map(text_of, stream.answer()))

    with ThreadPoolExecutor(64) as pool:
        assert list(pool.map(ask, texts)) == texts


def test_an_http_client_that_leaves_frees_its_place(triton: Triton) -> None:
    before = triton.metric("bwdeploy_finished_requests_total", "narrow", reason="cancelled")
    events = triton.stream("narrow", LONG)
    next(events)
    events.close()  # type: ignore[attr-defined]
    wait_until(
        lambda: triton.metric("bwdeploy_finished_requests_total", "narrow", reason="cancelled") == before + 1
    )
    begun_s = time.monotonic()
    status, _ = triton.generate("narrow", "next")
    assert status == 200
    assert time.monotonic() - begun_s < 5


def test_a_cancelled_grpc_stream_frees_its_place(triton: Triton) -> None:
    before = triton.metric("bwdeploy_finished_requests_total", "narrow", reason="cancelled")
    with GrpcStream(triton.server) as stream:
        stream.send("narrow", text_input=LONG, streaming=True, sampling_param_max_tokens=4000)
        stream.next()
    wait_until(
        lambda: triton.metric("bwdeploy_finished_requests_total", "narrow", reason="cancelled") == before + 1
    )
    wait_until(lambda: triton.is_idle("narrow"))


def test_a_stop_request_with_the_same_id_ends_an_answer(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream, GrpcStream(triton.server) as other:
        stream.send(
            "narrow",
            request_id="mine",
            text_input=LONG,
            streaming=True,
            sampling_param_max_tokens=4000,
            return_finish_reason=True,
        )
        stream.next()
        other.send("narrow", request_id="mine", text_input="", stop=True)
        other.answer()
        last = stream.answer()[-1]
    assert last.as_numpy("finish_reason")[0] == b"cancelled"
    wait_until(lambda: triton.is_idle("narrow"))


def test_beyond_the_queue_a_request_is_refused(triton: Triton) -> None:
    with GrpcStream(triton.server) as stream:
        for _ in range(2):
            stream.send("narrow", text_input=LONG, streaming=True, sampling_param_max_tokens=4000)
        wait_until(lambda: triton.metric("bwdeploy_queued_requests", "narrow") == 1)
        status, body = triton.generate("narrow", "x")
    assert status == GENERATE_ERROR
    assert "the server is full: 1 requests run and 1 wait" in body["error"]
    wait_until(lambda: triton.is_idle("narrow"))


def test_infer_says_503_beyond_the_queue(triton: Triton) -> None:
    def infer(text: str) -> tuple[int, Any]:
        inputs = [
            {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [text]},
            {"name": "sampling_param_max_tokens", "datatype": "INT32", "shape": [1], "data": [100]},
        ]
        return triton.post("infer", "narrow_whole", inputs=inputs)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(infer, ["x" * 100] * 3))
    assert sorted(status for status, _ in results) == [200, 200, 503]


def test_a_model_that_is_not_decoupled_answers_whole_and_refuses_to_stream(triton: Triton) -> None:
    assert triton.generate("whole", TEXT)[1]["text_output"] == TEXT
    status, body = triton.generate("whole", TEXT, streaming=True)
    assert status == 400
    assert "serve.streaming: false" in body["error"]
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["plain infer"]}
    status, body = triton.post("infer", "whole", inputs=[tensor])
    assert (status, body["outputs"][0]["data"]) == (200, ["plain infer"])


@pytest.mark.parametrize(
    ("sign", "words"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSTOP, "no sign of life")]
)
def test_a_lost_engine_is_told_to_the_client_and_healed(
    triton: Triton, repository: Path, sign: signal.Signals, words: str
) -> None:
    engine_json = repository / "mortal" / "1" / "engine.json"
    restarts = triton.metric("bwdeploy_engine_restarts_total", "mortal")
    events = triton.stream("mortal", LONG)
    next(events)
    lost = engine_pid(engine_json)
    assert lost is not None
    os.kill(lost, sign)
    last = list(events)[-1]
    assert words in last["error"]
    assert "engine.log" in last["error"]
    status, body = triton.generate("mortal", "x")
    assert status == GENERATE_ERROR
    assert "The engine is restarting." in body["error"]
    wait_until(lambda: "text_output" in triton.generate("mortal", "healed")[1])
    wait_until(lambda: triton.metric("bwdeploy_engine_restarts_total", "mortal") == restarts + 1)
    assert engine_pid(engine_json) not in (lost, None)


def test_the_smoke_test_sees_that_the_kernels_of_the_pack_ran(triton: Triton) -> None:
    triton.generate("reference", "the quick brown", sampling_param_max_tokens=5)
    server = triton.server
    endpoint = Endpoint(
        http=server.http_url, grpc=server.grpc_url, metrics=server.metrics_url, model="reference"
    )
    check = check_kernels(endpoint, KERNEL_OPS)
    assert check.ok, check.detail
    called = "called [1-9][0-9]* times, answered by its reference"  # there is no GPU here
    assert re.fullmatch(f"{KERNEL_OPS[0]} {called}; {KERNEL_OPS[1]} {called}", check.detail)


def test_metrics_count_what_happened(triton: Triton) -> None:
    def values() -> list[float]:
        return [
            triton.metric("bwdeploy_output_tokens_total", "echo"),
            triton.metric("bwdeploy_finished_requests_total", "echo", reason="length"),
            triton.metric("bwdeploy_finished_requests_total", "echo", reason="invalid"),
            triton.metric("bwdeploy_time_to_first_token_seconds_count", "echo"),
            triton.metric("bwdeploy_inter_token_seconds_count", "echo"),
        ]

    before = values()
    triton.generate("echo", "hello", sampling_param_max_tokens=4)
    triton.generate("echo", "hello", sampling_param_max_tokens=0)
    assert [now - then for now, then in zip(values(), before, strict=True)] == [4, 1, 1, 1, 1]


def test_an_engine_that_cannot_load_gives_its_reason(tmp_path: Path) -> None:
    engine_json = add_model(tmp_path, "broken", runtime="echo")
    engine_json.write_text('{"runtime": "echo", "flush_token": 1}')
    log = tmp_path.with_suffix(".log")
    with pytest.raises(ToolError) as caught:
        start_server(ServerRequest(repository=tmp_path, log=log))
    assert "Did you mean flush_tokens?" in log.read_text()
    assert "flush_token" in "\n".join((str(caught.value), *caught.value.last_lines))


def test_stopping_the_server_ends_the_engines(tmp_path: Path) -> None:
    engine_json = add_model(tmp_path, "brief")
    with start_server(ServerRequest(repository=tmp_path, log=tmp_path.with_suffix(".log"))):
        pid = engine_pid(engine_json)
        assert pid is not None
    wait_until(lambda: engine_pid(engine_json) is None)
