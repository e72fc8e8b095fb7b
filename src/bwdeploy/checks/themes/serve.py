"""Rules on `serve`: whether the Triton model can be served, and settings that would have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.llm_args import bundled_schema
from bwdeploy.facts.stacks import may_exist, triton_image, versions_with_images

if TYPE_CHECKING:
    from collections.abc import Iterator


def _no_image(subject: Subject) -> Iterator[Problem]:
    version = subject.recipe.engine.tensorrt_llm
    if subject.llm_args is None or not may_exist(version):
        return  # engine-version-unknown says it
    if subject.recipe.serve.runtime == "tensorrt_llm" and triton_image(version) is None:
        message = f"no known Triton image carries TensorRT-LLM {version}"
        usable = ", ".join(known for known in versions_with_images() if bundled_schema(known) is not None)
        hint = f"set engine.tensorrt_llm to one of {usable}, or serve.runtime: reference"
        yield Problem(("engine", "tensorrt_llm"), message, hint)


def _flush(subject: Subject) -> Iterator[Problem]:
    serve = subject.recipe.serve
    if serve.flush_interval_ms == 0 and serve.flush_tokens > 1:
        message = f"at 0 ms each token is sent at once, so flush_tokens {serve.flush_tokens} has no effect"
        yield Problem(("serve", "flush_interval_ms"), message, "raise it, or set serve.flush_tokens: 1")


def _cumulative(subject: Subject) -> Iterator[Problem]:
    serve = subject.recipe.serve
    if serve.cumulative_text and not serve.streaming:
        message = "without streaming there is one response, so cumulative_text has no effect"
        yield Problem(("serve", "cumulative_text"), message, "remove it, or set serve.streaming: true")


def _output_tokens(subject: Subject) -> Iterator[Problem]:
    serve, engine = subject.recipe.serve, subject.recipe.engine
    if serve.max_output_tokens >= engine.max_seq_len and "max_output_tokens" in serve.model_fields_set:
        message = f"no answer can be that long: prompt and answer share max_seq_len {engine.max_seq_len}"
        yield Problem(("serve", "max_output_tokens"), message, f"choose less than {engine.max_seq_len}")


def _max_running(subject: Subject) -> Iterator[Problem]:
    serve, layout = subject.recipe.serve, subject.recipe.layout
    copies = layout.tp if layout.attention_dp else 1  # each rank has a batch of its own
    at_once = subject.recipe.engine.max_batch_size * copies
    if serve.max_running > at_once and "max_running" in serve.model_fields_set:
        message = f"the engine runs {at_once} at once; more wait where no queue limit counts them"
        yield Problem(("serve", "max_running"), message, f"set it to {at_once}")


RULES = (
    Rule(
        id="serve-no-triton-image",
        severity="error",
        summary="no Triton image has this TensorRT-LLM",
        find=_no_image,
        source="https://github.com/triton-inference-server/server/issues/8805",
        why="Installing TensorRT-LLM into another image meets binary-interface trouble; no server starts.",
    ),
    Rule(
        id="serve-flush-without-effect",
        severity="warning",
        summary="flush settings that cancel each other",
        find=_flush,
        why="One response for each token is sent, which costs several times the throughput of the Python "
        "backend.",
    ),
    Rule(
        id="serve-cumulative-without-streaming",
        severity="warning",
        summary="cumulative text without streaming",
        find=_cumulative,
        why="Nothing changes, whatever the setting says.",
    ),
    Rule(
        id="serve-output-beyond-sequence",
        severity="warning",
        summary="answers longer than the sequence limit",
        find=_output_tokens,
        why="Clients may ask for what the engine cannot give; the answer is cut off at the sequence limit.",
    ),
    Rule(
        id="serve-running-beyond-batch",
        severity="warning",
        summary="more running requests than the engine's batch",
        find=_max_running,
        why="Requests wait inside the engine, where no queue limit refuses them and no metric counts them.",
    ),
)
