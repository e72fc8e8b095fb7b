"""Rules on `serve`: whether the model can be served as it says, and settings that would have no effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.llm_args import bundled_schema
from bwdeploy.facts.stacks import may_exist, triton_image, versions_with_images
from bwdeploy.recipe.schema import Serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.schema import Recipe

_OF_OUR_MODEL: tuple[str, ...] = (
    "chat_template", "flush_tokens", "flush_interval_ms", "max_running", "max_output_tokens",
    "stall_timeout_s",
)  # fmt: skip
_OF_TRITON: tuple[str, ...] = (
    "streaming", "cumulative_text", "max_queued", "cancellation_check_period_ms", "startup_timeout_s",
    "prompts",
)  # fmt: skip
_OF_ENGINES: tuple[str, ...] = ("launch_mode",)


def _is_our_model(recipe: Recipe) -> bool:
    return recipe.serve.server == "triton" and not recipe.builds_engine


def _no_image(subject: Subject) -> Iterator[Problem]:
    recipe, version = subject.recipe, subject.recipe.engine.tensorrt_llm
    if subject.llm_args is None or not may_exist(version):
        return  # engine-version-unknown says it
    if recipe.engine.backend == "tensorrt" or recipe.serve.server == "trtllm-serve":
        return  # version-engine-image says it; trtllm-serve comes in an image of its own
    if recipe.serve.runtime == "tensorrt_llm" and triton_image(version) is None:
        message = f"no known Triton image carries TensorRT-LLM {version}"
        usable = ", ".join(known for known in versions_with_images() if bundled_schema(known) is not None)
        other = f"engine.tensorrt_llm to one of {usable}, or serve.runtime: reference"
        hint = f"set serve.server: trtllm-serve, {other}"
        yield Problem(("engine", "tensorrt_llm"), message, hint)


def _server_backend(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.serve.server != "trtllm-serve":
        return
    if recipe.engine.backend == "tensorrt":
        message = "trtllm-serve is written for the PyTorch backend, and the recipe builds an engine"
        yield Problem(("serve", "server"), message, "set engine.backend: pytorch, or serve.server: triton")
    if recipe.serve.runtime == "reference":
        message = "trtllm-serve runs TensorRT-LLM, and the recipe asks for the runtime reference"
        hint = "set serve.runtime: tensorrt_llm, or serve.server: triton"
        yield Problem(("serve", "server"), message, hint)


def _environment_unused(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.engine.environment and recipe.serve.runtime == "reference":
        message = "only TensorRT-LLM reads these variables, and the runtime reference runs without it"
        yield Problem(("engine", "environment"), message, "set serve.runtime: tensorrt_llm, or remove them")


def _orchestrator_nodes(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.builds_engine and recipe.serve.launch_mode == "orchestrator" and recipe.layout.nodes > 1:
        message = (
            f"an orchestrator starts its workers on its own machine, and the layout has {recipe.layout.nodes}"
        )
        yield Problem(("serve", "launch_mode"), message, "set serve.launch_mode: leader")


def _without_effect(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.serve.server == "trtllm-serve":
        ignored, who = (*_OF_OUR_MODEL, *_OF_TRITON, *_OF_ENGINES), "trtllm-serve has"
    elif recipe.builds_engine:
        ignored, who = _OF_OUR_MODEL, "the models that serve an engine have"
    else:
        ignored, who = _OF_ENGINES, "a model without an engine has"
    for name in ignored:
        # A default is nobody's wish, even where it is written out, as in the recipe that a build records.
        if getattr(recipe.serve, name) != Serve.model_fields[name].default:
            yield Problem(("serve", name), f"{who} no such setting", "remove it")


def _flush(subject: Subject) -> Iterator[Problem]:
    serve = subject.recipe.serve
    if not _is_our_model(subject.recipe):
        return
    if serve.flush_interval_ms == 0 and serve.flush_tokens > 1:
        message = f"at 0 ms each token is sent at once, so flush_tokens {serve.flush_tokens} has no effect"
        yield Problem(("serve", "flush_interval_ms"), message, "raise it, or set serve.flush_tokens: 1")


def _cumulative(subject: Subject) -> Iterator[Problem]:
    serve = subject.recipe.serve
    if not _is_our_model(subject.recipe):
        return
    if serve.cumulative_text and not serve.streaming:
        message = "without streaming there is one response, so cumulative_text has no effect"
        yield Problem(("serve", "cumulative_text"), message, "remove it, or set serve.streaming: true")


def _output_tokens(subject: Subject) -> Iterator[Problem]:
    serve, engine = subject.recipe.serve, subject.recipe.engine
    if not _is_our_model(subject.recipe):
        return
    if serve.max_output_tokens >= engine.max_seq_len and "max_output_tokens" in serve.model_fields_set:
        message = f"no answer can be that long: prompt and answer share max_seq_len {engine.max_seq_len}"
        yield Problem(("serve", "max_output_tokens"), message, f"choose less than {engine.max_seq_len}")


def _max_running(subject: Subject) -> Iterator[Problem]:
    serve, layout = subject.recipe.serve, subject.recipe.layout
    if not _is_our_model(subject.recipe):
        return
    copies = layout.tp if layout.attention_dp else 1  # each rank has a batch of its own
    at_once = subject.recipe.engine.max_batch_size * copies
    if serve.max_running > at_once and "max_running" in serve.model_fields_set:
        message = f"the engine runs {at_once} at once; more wait where no queue limit counts them"
        yield Problem(("serve", "max_running"), message, f"set it to {at_once}")


RULES = (
    Rule(
        id="serve-environment-unused",
        severity="warning",
        summary="variables that nothing reads",
        find=_environment_unused,
        why="They change nothing, and whoever reads the recipe believes that they do.",
    ),
    Rule(
        id="serve-no-triton-image",
        severity="error",
        summary="no Triton image has this TensorRT-LLM",
        find=_no_image,
        source="https://github.com/triton-inference-server/server/issues/8805",
        why="Installing TensorRT-LLM into another image meets binary-interface trouble; no server starts.",
    ),
    Rule(
        id="serve-server-backend",
        severity="error",
        summary="trtllm-serve for what it does not serve here",
        find=_server_backend,
        source="NVIDIA/TensorRT-LLM tensorrt_llm/commands/serve.py",
        why="The launch script would start a checkpoint on the PyTorch backend, whatever the recipe builds.",
    ),
    Rule(
        id="serve-orchestrator-nodes",
        severity="error",
        summary="an orchestrator over several machines",
        find=_orchestrator_nodes,
        source="triton-inference-server/tensorrtllm_backend docs/model_config.md · "
        "NVIDIA/TensorRT-LLM triton_backend/scripts/launch_triton_server.py",
        why="MPI_Comm_Spawn starts the workers and reaches no other machine; the server does not start.",
    ),
    Rule(
        id="serve-setting-without-effect",
        severity="warning",
        summary="a setting that this server does not have",
        find=_without_effect,
        why="Nothing changes, whatever the setting says.",
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
