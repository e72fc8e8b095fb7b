"""Rules on the model's configuration: what it lacks, what cannot be, what it is not, what was assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.model.describe import way_to_know

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SOURCE = ("model", "source")
_SCALINGS = ("rope_scaling", "rope_parameters")


def _of_kind(*kinds: str) -> Callable[[Subject], Iterator[Problem]]:
    """The rule that passes on what reading the configuration found."""

    def find(subject: Subject) -> Iterator[Problem]:
        problem = subject.model.problem
        if problem is not None and problem.kind in kinds:
            yield Problem(_SOURCE, problem.message, problem.hint)

    return find


def _not_here(subject: Subject) -> Iterator[Problem]:
    model, source = subject.model, subject.recipe.model.source
    if model.shape is None and model.problem is None and source.startswith("hf://"):
        message = "its configuration is not on this machine: layers, memory and layout are not looked at"
        yield Problem(_SOURCE, message, way_to_know(source))


def _diffusion(subject: Subject) -> Iterator[Problem]:
    if subject.shape is not None and subject.shape.kind == "diffusion":
        message = (
            f"{subject.shape.architecture} makes pictures: its memory is planned, nothing of it is built"
        )
        hint = "use `bwdeploy plan`; NVIDIA/TensorRT demo/Diffusion builds and runs such pipelines"
        yield Problem(_SOURCE, message, hint)


def _assumed(subject: Subject) -> Iterator[Problem]:
    shape = subject.shape
    if shape is not None and not shape.known:
        hint = "compare the plan's number of parameters with the publisher's before you trust its memory"
        yield Problem(_SOURCE, shape.assumptions[0], hint)


def _positions_exceeded(subject: Subject) -> Iterator[Problem]:
    shape, wanted = subject.shape, subject.recipe.engine.max_seq_len
    if shape is None or shape.max_positions is None:
        return
    limit = max(shape.max_positions, _scaled_positions(subject.model.config or {}))
    if wanted > limit:
        message = f"{wanted} tokens, but the model's positions end at {limit}"
        hint = f"lower it to {limit}, or write the rope scaling that the model is made for into config.json"
        yield Problem(("engine", "max_seq_len"), message, hint)


def _scaled_positions(config: dict[str, Any]) -> int:
    """Positions that a rope scaling reaches; 0 without one."""
    text = config.get("text_config")
    places = (config, text if isinstance(text, dict) else {})
    for scaling in (place.get(key) for place in places for key in _SCALINGS):
        if isinstance(scaling, dict):
            factor, start = scaling.get("factor"), scaling.get("original_max_position_embeddings")
            if isinstance(factor, int | float) and isinstance(start, int) and 0 < factor * start < 2**40:
                return int(factor * start)
    return 0


RULES: tuple[Rule, ...] = (
    Rule(
        id="model-config-unreadable",
        severity="error",
        summary="a configuration or weight header that cannot be read",
        find=_of_kind("unreadable", "too-large", "not-json"),
        source="https://huggingface.co/docs/safetensors · bwdeploy",
        why="Conversion, quantization and server start from the same file and fail on it, hours later.",
    ),
    Rule(
        id="model-config-incomplete",
        severity="error",
        summary="a configuration that lacks a size",
        find=_of_kind("missing-field"),
        why="transformers would fill the gap with a default of another model: the weights do not load, or"
        " memory is planned for a model that does not exist.",
    ),
    Rule(
        id="model-config-impossible",
        severity="error",
        summary="a configuration whose sizes cannot be",
        find=_of_kind("impossible-value"),
        why="No weights fit such a configuration: loading fails after the download.",
    ),
    Rule(
        id="model-not-a-language-model",
        severity="error",
        summary="a model that does not write text",
        find=_of_kind("not-a-language-model"),
        source="tensorrt_llm/_torch/models/modeling_auto.py",
        why="The LLM API serves decoder-only models: an encoder, or one with a decoder, is refused at start.",
    ),
    Rule(
        id="model-not-here",
        severity="info",
        summary="a hub model of which nothing is known on this machine",
        find=_not_here,
        why="Most problems that cost hours show only beside the model's own sizes.",
    ),
    Rule(
        id="model-diffusion",
        severity="warning",
        summary="a diffusion transformer",
        find=_diffusion,
        source="https://github.com/NVIDIA/TensorRT/tree/main/demo/Diffusion",
        why="The LLM API serves models that write text; the build stops where it looks for a tokenizer.",
    ),
    Rule(
        id="model-unknown",
        severity="warning",
        summary="an architecture of which nothing could be read",
        find=_of_kind("unknown-architecture"),
        why="Memory, layout and format rules that look at the model's layers are silent for this recipe.",
    ),
    Rule(
        id="model-assumed",
        severity="warning",
        summary="an architecture read by the usual keys or from tensor headers",
        find=_assumed,
        why="If the model has other layers than those keys describe, weights and KV cache are planned wrong.",
    ),
    Rule(
        id="model-positions-exceeded",
        severity="warning",
        summary="sequences longer than the model's positions",
        find=_positions_exceeded,
        source="https://huggingface.co/docs/transformers/main/en/internal/rope_utils",
        why="Past its trained positions a model answers with nonsense, or the server refuses the setting.",
    ),
)
