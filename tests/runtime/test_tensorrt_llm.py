"""The TensorRT-LLM engine against a stand-in package, since the real one needs a GPU (see stand_in/)."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.tensorrt_llm import TensorRtLlmEngine, with_placed_draft
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.tensors import PERFORMANCE_OUTPUTS
from tests.runtime.answering import WAIT_S, Answering

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT = "the quick brown fox jumps over 東京"
CONFIG = EngineConfig(runtime="tensorrt_llm", checkpoint=".", llm_args="llm_args.yaml", flush_tokens=1)
LLM_ARGS = """
model: /somewhere/else
tensor_parallel_size: 2
max_seq_len: 100
kv_cache_config: {dtype: fp8}
"""


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "stand_in"))
    yield importlib.import_module("tensorrt_llm")
    del sys.modules["tensorrt_llm"]


@pytest.fixture
def directory(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    for file in tiny_checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "llm_args.yaml").write_text(LLM_ARGS)
    return tmp_path


@pytest.fixture
def answering(stand_in: Any, directory: Path) -> Iterator[Answering]:
    del stand_in
    engine = TensorRtLlmEngine()
    running = Answering(engine, CONFIG)
    info = engine.load(CONFIG, directory, wake=running.loop.wake)
    assert (info.engine, info.max_seq_len) == ("tensorrt_llm 1.2.1", 100)
    with running:
        yield running
    engine.close()


def test_tokens_become_text_with_our_own_detokenizer(answering: Answering, stand_in: Any) -> None:
    result = answering.ask(PROMPT, max_tokens=60)
    assert (result.text, result.last.finish) == (PROMPT, "stop")
    assert stand_in.LLM.made[-1].sampling[-1].detokenize is False


def test_the_yaml_arguments_reach_the_llm_and_the_model_is_ours(
    answering: Answering, stand_in: Any, directory: Path
) -> None:
    assert answering.loop.running == 0
    assert stand_in.LLM.made[-1].arguments == {
        "model": str(directory),
        "tokenizer": None,
        "trust_remote_code": False,
        "tensor_parallel_size": 2,
        "max_seq_len": 100,
        "kv_cache_config": {"dtype": "fp8"},
    }


def test_sampling_parameters_keep_their_names(answering: Answering, stand_in: Any) -> None:
    answering.ask(PROMPT, max_tokens=3, temperature=0.5, top_k=3, top_p=0.9, seed=5, frequency_penalty=1.0)
    assert stand_in.LLM.made[-1].sampling[-1] == stand_in.SamplingParams(
        max_tokens=3, temperature=0.5, top_k=3, top_p=0.9, seed=5, frequency_penalty=1.0, detokenize=False
    )


def test_max_tokens_ends_an_answer(answering: Answering) -> None:
    result = answering.ask(PROMPT, max_tokens=3)
    assert (result.tokens, result.last.finish) == (3, "length")


def test_a_stop_string_aborts_the_request(answering: Answering, stand_in: Any) -> None:
    result = answering.ask(PROMPT, max_tokens=60, stop=["brown"])
    assert (result.text, result.last.stop_reason) == ("the quick ", "brown")
    wait_for_abort(stand_in)


def test_cancel_aborts_the_request(answering: Answering, stand_in: Any) -> None:
    request_id = answering.begin(PROMPT, max_tokens=60)
    while not answering.peek(request_id).deltas:
        time.sleep(0.001)
    answering.cancel(request_id)
    assert answering.wait(request_id).last.finish == "cancelled"
    wait_for_abort(stand_in)


def test_cancel_at_once_never_begins_the_request_or_aborts_it(answering: Answering, stand_in: Any) -> None:
    request_id = answering.begin(PROMPT, max_tokens=60)
    answering.cancel(request_id)
    assert answering.wait(request_id).last.finish == "cancelled"
    time.sleep(0.1)
    assert all(result.aborted for result in stand_in.LLM.made[-1].results)


def test_requests_run_at_once(answering: Answering) -> None:
    ids = [answering.begin(f"{PROMPT} {number}", max_tokens=60) for number in range(5)]
    assert [answering.wait(request_id).text for request_id in ids] == [f"{PROMPT} {n}" for n in range(5)]


def test_log_probability_and_performance_come_with_the_end(answering: Answering) -> None:
    last = answering.ask(PROMPT, max_tokens=4, cumulative_logprob=True, return_perf_metrics=True).last
    assert last.logprob == pytest.approx(-2.0)
    assert set(last.metrics) == {tensor.name for tensor in PERFORMANCE_OUTPUTS}
    assert last.metrics["first_token_time_ns"] == 86_400_000_000_000 + 3000
    assert last.metrics["kv_cache_hit_rate"] == 0.25


@pytest.mark.parametrize(("token", "code"), [(7, "invalid"), (8, "internal")])
def test_a_refusal_of_the_llm_reaches_the_client(
    answering: Answering, monkeypatch: pytest.MonkeyPatch, token: int, code: str
) -> None:
    monkeypatch.setattr(answering.loop._engine._encoder, "encode", lambda _prompt: [token])  # type: ignore[attr-defined]
    error = answering.ask("x").error
    assert error is not None
    assert error.code == code


def test_a_prompt_that_leaves_no_room_is_refused(answering: Answering) -> None:
    error = answering.ask("x" * 200, max_tokens=1).error
    assert error is not None
    assert "more than the 99 that fit" in error.message


@pytest.mark.parametrize("key", ["speculative_model", "speculative_model_dir"])
def test_the_draft_beside_the_arguments_is_named_by_its_whole_path(
    stand_in: Any, directory: Path, key: str
) -> None:
    (directory / "draft").mkdir()
    with (directory / "llm_args.yaml").open("a") as file:
        file.write(f"speculative_config: {{decoding_type: Eagle, max_draft_len: 3, {key}: draft}}\n")
    engine = TensorRtLlmEngine()
    engine.load(CONFIG, directory, wake=lambda: None)
    engine.close()
    assert stand_in.LLM.made[-1].arguments["speculative_config"] == {
        "decoding_type": "Eagle",
        "max_draft_len": 3,
        key: str(directory / "draft"),
    }


def test_a_draft_that_is_not_in_the_repository_is_left_as_it_is(directory: Path) -> None:
    arguments = {"speculative_config": {"speculative_model": "org/draft"}}
    assert with_placed_draft(arguments, directory) == arguments
    assert with_placed_draft({"speculative_config": None}, directory) == {"speculative_config": None}


def test_a_directory_without_a_pack_is_refused_before_the_llm_is_made(stand_in: Any, directory: Path) -> None:
    (directory / "kernels").mkdir()
    made = len(stand_in.LLM.made)
    config = replace(CONFIG, kernels="kernels", kernel_ops=("add_rmsnorm_quant_fp8",))
    with pytest.raises(EngineError, match=r"kernel pack|not from the pack"):
        TensorRtLlmEngine().load(config, directory, wake=lambda: None)
    assert len(stand_in.LLM.made) == made


def test_without_a_pack_no_kernels_are_counted(stand_in: Any, directory: Path) -> None:
    engine = TensorRtLlmEngine()
    assert engine.load(CONFIG, directory, wake=lambda: None).kernels == {}
    assert engine.kernel_calls() == {}
    engine.close()


def test_close_shuts_the_llm_down(stand_in: Any, directory: Path) -> None:
    engine = TensorRtLlmEngine()
    engine.load(CONFIG, directory, wake=lambda: None)
    engine.close()
    assert stand_in.LLM.made[-1].is_shut_down


def test_without_tensorrt_llm_the_way_out_is_named(directory: Path) -> None:
    with pytest.raises(
        EngineError, match=r"tritonserver:<YY\.MM>-trtllm-python-py3.*serve\.runtime: reference"
    ):
        TensorRtLlmEngine().load(CONFIG, directory, wake=lambda: None)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_an_unusable_yaml_file_is_named(stand_in: Any, directory: Path, text: str) -> None:
    del stand_in
    (directory / "llm_args.yaml").write_text(text)
    with pytest.raises(EngineError, match=r"llm_args\.yaml"):
        TensorRtLlmEngine().load(CONFIG, directory, wake=lambda: None)


def wait_for_abort(stand_in: Any) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not stand_in.LLM.made[-1].results[-1].aborted:
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
