"""The clients against an engine's ensemble: other names, a batch dimension, no counters of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.facts.triton_templates import engine_models
from bwdeploy.report.load import load_text
from bwdeploy.serving import grpc_client, http_client
from bwdeploy.serving.ask import ask
from bwdeploy.serving.canary import probe
from bwdeploy.serving.client import Sampling, collect
from bwdeploy.serving.load import LoadPlan, run_load
from bwdeploy.serving.smoke import SmokeOptions, run_smoke
from bwdeploy.serving.vocabulary import LLMAPI, ensemble_vocabulary, request_fields
from bwdeploy_runtime.tensors import INPUTS
from tests.serving.conftest import TEXT

if TYPE_CHECKING:
    from bwdeploy.serving.client import Endpoint

STREAMS = [grpc_client.stream, http_client.generate_stream]
EVERYTHING = Sampling(max_tokens=9, temperature=0.5, top_k=3, top_p=0.9, seed=2**63, stop=("fox", "brown"))


@pytest.mark.parametrize("route", [*STREAMS, http_client.generate])
def test_every_route_gives_the_same_answer_without_the_prompt(ensemble: Endpoint, route: Any) -> None:
    assert collect(route(ensemble, TEXT, EVERYTHING)).text == TEXT[:9]


@pytest.mark.parametrize("route", STREAMS)
def test_a_stream_brings_a_piece_for_each_token(ensemble: Endpoint, route: Any) -> None:
    answer = collect(route(ensemble, TEXT, Sampling(max_tokens=5)))
    assert [piece.text for piece in answer.pieces if piece.text] == list(TEXT[:5])
    assert answer.finish_reason is None


def test_the_canary_needs_one_token(ensemble: Endpoint) -> None:
    assert probe(ensemble, deadline_s=5) < 5


def test_the_smoke_test_skips_what_an_ensemble_does_not_promise(ensemble: Endpoint) -> None:
    report = run_smoke(ensemble, SmokeOptions(prompts=(TEXT,)))
    assert report.ok, report.failures
    assert [check.id for check in report.checks if check.skipped] == [
        "stop-string",
        "unknown-parameter",
        "cancel-grpc",
        "cancel-http",
        "kernels",
    ]
    assert [check.id for check in report.checks if not check.skipped] == ["canary", "routes[0]", "max-tokens"]


def test_asking_leaves_open_what_nobody_counts(ensemble: Endpoint) -> None:
    asked = ask(ensemble, TEXT, Sampling(max_tokens=7))
    assert (asked.text, asked.tokens, asked.tokens_per_s) == (TEXT[:7], None, None)
    assert 0 < asked.first_token_s <= asked.seconds


def test_the_load_test_counts_responses_only(ensemble: Endpoint) -> None:
    plan = LoadPlan(prompts=(TEXT,), sampling=Sampling(max_tokens=8), concurrency=2, requests=4)
    report = run_load(ensemble, plan)
    assert (report.failures, report.tokens, report.inter_token) == ((), None, None)
    assert report.responses >= 32
    text = load_text(report)
    assert "tokens/s" not in text
    assert "between responses: p50" in text


@pytest.mark.parametrize("vocabulary", [LLMAPI, ensemble_vocabulary("1.2.1")])
def test_what_is_left_out_is_the_models_default(vocabulary: Any) -> None:
    fields = request_fields(vocabulary, "x", Sampling(), streaming=False)
    said = {field.tensor.name for field in fields}
    assert {"text_input", vocabulary.max_tokens.name, vocabulary.streaming.name} <= said
    assert not said & {vocabulary.temperature.name, vocabulary.seed.name, vocabulary.stop.name}


def test_our_names_and_types_are_those_of_the_runtime() -> None:
    types = {item.name: item.data_type.removeprefix("TYPE_").replace("STRING", "BYTES") for item in INPUTS}
    fields = request_fields(LLMAPI, "x", EVERYTHING, streaming=True)
    assert {field.tensor.name: field.tensor.data_type for field in fields}.items() <= types.items()


@pytest.mark.parametrize("version", ["0.19.0", "0.20.0", "1.2.1"])
def test_the_ensembles_names_and_types_are_those_of_its_template(version: str) -> None:
    inputs = [item for item in engine_models()["ensemble"].inputs if item.is_in(version)]
    types = {item.name: item.type.removeprefix("TYPE_").replace("STRING", "BYTES") for item in inputs}
    fields = request_fields(ensemble_vocabulary(version), "x", EVERYTHING, streaming=True)
    assert {field.tensor.name: field.tensor.data_type for field in fields}.items() <= types.items()
    assert {item.name for item in inputs if not item.optional} <= {field.tensor.name for field in fields}
