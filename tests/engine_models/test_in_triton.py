"""The models around an engine inside a real Triton server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.engine_models.conftest import EngineServer
from tests.runtime.triton_client import GrpcStream, wait_until

TEXT = "the quick fox: Grüße 👩‍👧 東京"
TEXT_MODELS = ("ensemble", "tensorrt_llm_bls", "ensemble_whole", "tensorrt_llm_bls_whole")
STREAMED = ("ensemble", "tensorrt_llm_bls")
BOTH_WAYS = ("tensorrt_llm_bls", "tensorrt_llm_bls_whole")


def ask(server: EngineServer, model: str, text: str = TEXT, **fields: Any) -> tuple[int, Any]:
    return server.triton.post("generate", model, **{"text_input": text, "max_tokens": 60} | fields)


def stream(server: EngineServer, model: str, text: str = TEXT, **fields: Any) -> list[str]:
    given = {"max_tokens": 60, "stream": True} | fields
    return [event["text_output"] for event in server.triton.stream(model, text, **given)]


def column(*values: Any) -> Any:
    """One value for each prompt of a batch."""
    kinds = {str: np.object_, int: np.int32, bool: np.bool_, float: np.float32}
    return np.array([[value] for value in values], dtype=kinds[type(values[0])])


def answer_of(server: EngineServer, model: str, **values: Any) -> list[Any]:
    """The responses with text to one gRPC request."""
    with GrpcStream(server.triton.server) as open_stream:
        open_stream.send(model, **values)
        return [one for one in open_stream.answer() if one.as_numpy("text_output") is not None]


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_text_comes_back_as_the_tokenizer_has_it(engine_server: EngineServer, model: str) -> None:
    status, body = ask(engine_server, model)
    assert (status, body["text_output"]) == (200, TEXT)


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_the_prompt_is_repeated_only_when_asked_for(engine_server: EngineServer, model: str) -> None:
    _, body = ask(engine_server, model, "ab", exclude_input_in_output=False)
    assert body["text_output"] == "abab"


@pytest.mark.parametrize("model", STREAMED)
def test_a_stream_has_a_response_for_each_token(engine_server: EngineServer, model: str) -> None:
    tokens = engine_server.tokenizer.encode("the lazy dog", add_special_tokens=False).ids
    pieces = stream(engine_server, model, "the lazy dog")
    assert "".join(pieces) == "the lazy dog"
    assert pieces == [engine_server.tokenizer.decode([token]) for token in tokens]


def test_the_bls_streams_whole_characters(engine_server: EngineServer) -> None:
    pieces = stream(engine_server, "tensorrt_llm_bls")
    assert "".join(pieces) == TEXT
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert "👧" in pieces


def test_accumulated_tokens_repeat_what_came_before(engine_server: EngineServer) -> None:
    pieces = stream(engine_server, "cumulative")
    assert len(pieces) > 10
    assert all(later.startswith(earlier) for earlier, later in pairwise(pieces))
    assert pieces[-1] == TEXT


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_an_answer_cut_inside_a_character_ends_before_it(engine_server: EngineServer, model: str) -> None:
    whole = len(engine_server.tokenizer.encode("ab👧", add_special_tokens=False).ids)
    _, body = ask(engine_server, model, "ab👧", max_tokens=whole - 1)
    assert body["text_output"] == "ab"


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_words_reach_the_engine_as_tokens_with_offsets(engine_server: EngineServer, model: str) -> None:
    ask(engine_server, model, "nothing of it", stop_words=["the fox", "x"], bad_words=["dog", ""])
    encode = engine_server.tokenizer.encode
    first, second, bad = (encode(word, add_special_tokens=False).ids for word in ("the fox", "x", "dog"))
    engine = "tensorrt_llm_whole" if "whole" in model else "tensorrt_llm"
    asked = engine_server.asked(engine)[-1]
    ends = [len(first), len(first) + len(second)]
    filling = [-1] * (ends[1] - 2)
    assert asked["stop_words_list"] == [[first + second, ends + filling]]
    assert asked["bad_words_list"] == [[bad, [len(bad)] + [-1] * (len(bad) - 1)]]


def test_without_words_the_engine_gets_none(engine_server: EngineServer) -> None:
    ask(engine_server, "ensemble", "plain")
    asked = engine_server.asked()[-1]
    assert asked["stop_words_list"] == asked["bad_words_list"] == [[[], []]]
    assert asked["embedding_bias"] == [[]]


@pytest.mark.parametrize("model", TEXT_MODELS)
def test_sampling_and_special_tokens_reach_the_engine(engine_server: EngineServer, model: str) -> None:
    ask(engine_server, model, "ab", temperature=0.5, top_k=3, seed=7, min_tokens=2, beam_width=1)
    asked = engine_server.asked("tensorrt_llm_whole" if "whole" in model else "tensorrt_llm")[-1]
    assert (asked["temperature"], asked["runtime_top_k"], asked["seed"]) == ([0.5], [3], [7])
    assert (asked["min_tokens"], asked["beam_width"], asked["request_output_len"]) == ([2], [1], [60])
    assert (asked["end_id"], asked["pad_id"], asked["decoder_input_ids"]) == ([0], [1], [[1]])
    assert asked["input_ids"] == [engine_server.tokenizer.encode("ab").ids]


def test_biased_words_cover_the_engines_vocabulary(engine_server: EngineServer) -> None:
    ask(engine_server, "ensemble", "ab", embedding_bias_words=["a", "a"], embedding_bias_weights=[1.5, 1.0])
    (bias,) = engine_server.asked()[-1]["embedding_bias"]
    assert len(bias) == 320  # the engine's, not the tokenizer's
    assert {index: value for index, value in enumerate(bias) if value} == {
        engine_server.tokenizer.token_to_id("a"): 2.5
    }


@pytest.mark.parametrize("model", STREAMED)
def test_a_batch_of_two_is_answered_one_by_one(engine_server: EngineServer, model: str) -> None:
    answer = answer_of(
        engine_server, model, text_input=column("the lazy dog", "ab"), max_tokens=column(60, 60)
    )
    found = {
        int(one.as_numpy("batch_index")[0][0]): one.as_numpy("text_output")[0].decode() for one in answer
    }
    assert found == {0: "the lazy dog", 1: "ab"}
    asked = engine_server.asked()[-1]
    assert asked["input_lengths"] == [len(row) - row.count(1) for row in asked["input_ids"]]
    assert asked["input_ids"][1].count(1) > 0  # filled up with the padding token


def test_streams_of_a_batch_do_not_mix(engine_server: EngineServer) -> None:
    answer = answer_of(
        engine_server,
        "tensorrt_llm_bls",
        text_input=column(TEXT, "東京 👧"),
        max_tokens=column(60, 60),
        stream=column(True, True),
    )
    found = ["", ""]
    for one in answer:
        found[int(one.as_numpy("batch_index")[0][0])] += one.as_numpy("text_output")[0].decode()
    assert found == [TEXT, "東京 👧"]


@pytest.mark.parametrize("model", STREAMED)
def test_log_probabilities_are_passed_on(engine_server: EngineServer, model: str) -> None:
    (one,) = answer_of(
        engine_server, model, text_input=column("ab"), max_tokens=column(9), return_log_probs=column(True)
    )
    assert one.as_numpy("cum_log_probs").tolist() == [[-0.5]]
    assert one.as_numpy("output_log_probs").tolist() == [[[-0.25, -0.25]]]


@pytest.mark.parametrize("model", BOTH_WAYS)
def test_the_bls_ends_behind_a_stop_word(engine_server: EngineServer, model: str) -> None:
    _, body = ask(engine_server, model, "one two three", stop_words=["wo t", "three"])
    assert body["text_output"] == "one two t"


def test_a_stream_of_the_bls_ends_behind_a_stop_word(engine_server: EngineServer) -> None:
    pieces = stream(engine_server, "slow_bls", "one two three and so on", stop_words=["wo t"])
    assert "".join(pieces) == "one two t"
    wait_until(lambda: "stopped_after" in engine_server.asked("slow")[-1])


def test_a_client_that_leaves_stops_the_engine(engine_server: EngineServer) -> None:
    events = engine_server.triton.stream("slow_bls", "x" * 50, stream=True, max_tokens=50)
    next(events)
    events.close()  # type: ignore[attr-defined]
    wait_until(lambda: "stopped_after" in engine_server.asked("slow")[-1])
    assert engine_server.asked("slow")[-1]["stopped_after"] < 40


def test_a_long_stream_does_not_hold_up_another_request(engine_server: EngineServer) -> None:
    events = engine_server.triton.stream("slow_bls", "x" * 50, stream=True, max_tokens=50)
    next(events)
    assert stream(engine_server, "slow_bls", "ab") == ["a", "b"]
    finished = [one["finished"] for one in engine_server.asked("slow") if "finished" in one]
    assert finished[-1:] == [2]  # the other one goes on
    events.close()  # type: ignore[attr-defined]


def test_many_at_once_are_answered_with_their_own_text(engine_server: EngineServer) -> None:
    prompts = [f"number {number} 東京" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda text: stream(engine_server, "tensorrt_llm_bls", text), prompts))
    assert ["".join(pieces) for pieces in answers] == prompts


def chained(prompt: list[int], length: int) -> list[int]:
    tokens = prompt[-1:]
    for _ in range(length):
        tokens.append(33 + ((tokens[-1] - 33) * 7 + 3) % 61)
    return tokens[1:]


@pytest.mark.parametrize("logits", [False, True])
def test_drafts_change_the_speed_not_the_answer(engine_server: EngineServer, *, logits: bool) -> None:
    prompt = engine_server.tokenizer.encode("ab").ids
    before = len(engine_server.asked("target"))
    _, body = ask(engine_server, "drafting", "ab", max_tokens=20, num_draft_tokens=4, use_draft_logits=logits)
    assert body.get("text_output", body) == engine_server.tokenizer.decode(chained(prompt, 20))
    rounds = engine_server.asked("target")[before:]
    assert len(rounds) == 4  # five tokens each
    assert [len(one["draft_input_ids"][0]) for one in rounds] == [4, 4, 4, 4]
    assert all(("draft_logits" in one) is logits for one in rounds)
    assert engine_server.asked("draft")[-1]["request_output_len"] == [4]


def test_drafting_ends_at_a_stop_word(engine_server: EngineServer) -> None:
    prompt = engine_server.tokenizer.encode("ab").ids
    tokens = chained(prompt, 20)
    word = engine_server.tokenizer.decode(tokens[6:8])
    _, body = ask(engine_server, "drafting", "ab", max_tokens=20, num_draft_tokens=4, stop_words=[word])
    assert body["text_output"] == engine_server.tokenizer.decode(tokens[:8])


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("ensemble", {"max_tokens": 0}, "max_tokens is 0; it must be 1 or more."),
        ("ensemble_whole", {"max_tokens": -5}, "max_tokens is -5"),
        ("tensorrt_llm_bls", {"max_tokens": -5}, "max_tokens is -5"),
        ("tensorrt_llm_bls_whole", {"max_tokens": 0}, "max_tokens is 0"),
        ("ensemble", {"text_input": "x" * 64}, "text_input has 64 tokens; prompt and answer share 64"),
        ("ensemble", {"text_input": "x" * 5000}, "text_input has 5000 characters, more than 64 tokens"),
        ("ensemble", {"stop_words": ["x" * 50] * 100}, "stop_words has 5000 characters"),
        ("tensorrt_llm_bls", {"text_input": ""}, "text_input has no tokens."),
        ("tensorrt_llm_bls", {"num_draft_tokens": 2}, "names no drafting model"),
        ("drafting", {"num_draft_tokens": -1}, "num_draft_tokens is -1"),
        ("drafting", {"num_draft_tokens": 2, "stream": True}, "drafting answers one prompt as a whole"),
        ("tensorrt_llm_bls_whole", {"stream": True}, "built with serve.streaming: false"),
        ("ensemble", {"embedding_bias_words": ["a"]}, "need each other"),
        (
            "tensorrt_llm_bls",
            {"embedding_bias_words": ["a"], "embedding_bias_weights": [1.0, 2.0]},
            "embedding_bias_words has 1 values, the weights have 2.",
        ),
    ],
)
def test_a_request_that_cannot_be_answered_is_told_why(
    engine_server: EngineServer, model: str, fields: dict[str, Any], said: str
) -> None:
    status, body = ask(engine_server, model, **fields)
    assert status != 200
    assert said in body["error"]


def test_text_that_is_not_utf8_is_refused(engine_server: EngineServer) -> None:
    with pytest.raises(InferenceServerException, match="text_input is not UTF-8"):
        answer_of(
            engine_server,
            "tensorrt_llm_bls",
            text_input=np.array([[b"\xff\xfe"]], dtype=np.object_),
            max_tokens=column(9),
        )


@pytest.mark.parametrize(
    ("tokens", "lengths", "said"),
    [([[1, 2]], [3], "SEQUENCE_LENGTH is 3, but there are 2 tokens"), ([[5, -7]], [2], "-7 is not a token")],
)
def test_tokens_that_are_none_are_refused(
    engine_server: EngineServer, tokens: list[list[int]], lengths: list[int], said: str
) -> None:
    inputs = [
        {"name": "TOKENS_BATCH", "datatype": "INT32", "shape": [1, 1, 2], "data": tokens[0]},
        {"name": "SEQUENCE_LENGTH", "datatype": "INT32", "shape": [1, 1], "data": lengths},
    ]
    status, body = engine_server.triton.post("infer", "postprocessing", inputs=inputs)
    assert status == 400
    assert said in body["error"]


@pytest.mark.slow  # the stub used to die after some hundred answers, the server of some hundred cancellations
def test_many_answers_and_cancellations_later_the_same_processes_answer(engine_server: EngineServer) -> None:
    def one(number: int) -> str:
        if number % 2:
            events = engine_server.triton.stream("tensorrt_llm_bls", TEXT, stream=True, max_tokens=60)
            next(events)
            events.close()  # type: ignore[attr-defined]
            return TEXT
        _, body = ask(engine_server, "tensorrt_llm_bls")
        return str(body["text_output"])

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one, range(800))) == {TEXT}
    log = engine_server.triton.server.log.read_text()
    assert "unhealthy" not in log
    assert "Signal" not in log
