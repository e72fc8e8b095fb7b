"""The value of every template key: what the recipe says, else what these models do by default; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bwdeploy.facts.template_values import misfit
from bwdeploy.facts.triton_templates import engine_models, template_keys
from bwdeploy.tools.triton_container import REPOSITORY_INSIDE

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Engine, Layout, Serve

VERSION: Final = "1"
ENGINE_FOLDER: Final = "engine"
TOKENIZER_FOLDER: Final = "tokenizer"

_TRITON_TYPES: Final = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "bfloat16": "TYPE_BF16"}
_DECODING_MODES: Final = {
    "medusa": "medusa",
    "lookahead_decoding": "lookahead",
    "eagle": "eagle",
    "explicit_draft_tokens": "redrafter",
}
"""Mode of trtllm-build → how the backend calls it; external drafts are verified in any mode."""
_MAX_PROCESSES: Final = 4
"""Of one Python model that answers at once; each costs about 60 MB of memory."""
_MAX_WAITING_PROCESSES: Final = 32
"""Of tensorrt_llm_bls without streaming, where a process answers one request after the other."""


class EngineFacts(NamedTuple):
    """What the engine was built with."""

    logits_dtype: str
    vocab_size: int | None
    """None when its configuration does not say."""


class TemplateValues(NamedTuple):
    """What the five models are filled with."""

    keys: dict[str, Any]
    """Template key → value of its type; a key that is not in it stays unset."""
    own: dict[str, dict[str, str]]
    """Model → parameters that only bwdeploy's models know."""


def template_values(serve: Serve, engine: Engine, layout: Layout, facts: EngineFacts) -> TemplateValues:
    """All values; `serve.engine_parameters` win over what is derived.

    Raises:
        ValueError: a parameter that `check` refuses.
    """
    keys = {
        **_mandatory(),
        **_derived(serve, engine, layout, facts),
        **_checked(serve.engine_parameters),
    }
    own = {
        "preprocessing": {"max_seq_len": str(engine.max_seq_len)},
        "tensorrt_llm_bls": {"exclude_input_in_output": str(keys["exclude_input_in_output"]).lower()},
    }
    if facts.vocab_size is not None:
        own["preprocessing"]["vocab_size"] = str(facts.vocab_size)
    return TemplateValues(keys, own)


def engine_dir() -> str:
    """The engine directory as the server sees it."""
    return f"{REPOSITORY_INSIDE}/tensorrt_llm/{VERSION}/{ENGINE_FOLDER}"


def _mandatory() -> dict[str, Any]:
    """What a template must have and has a usual value."""
    return {
        key: model.defaults[key]
        for model in engine_models().values()
        for key in model.mandatory
        if key in model.defaults
    }


def _derived(serve: Serve, engine: Engine, layout: Layout, facts: EngineFacts) -> dict[str, Any]:
    processes = min(engine.max_batch_size, _MAX_PROCESSES)
    answering = processes if serve.streaming else min(engine.max_batch_size, _MAX_WAITING_PROCESSES)
    values = {
        "triton_max_batch_size": engine.max_batch_size,
        "decoupled_mode": serve.streaming,
        "max_queue_size": max(1, serve.max_queued),  # Triton takes 0 for no limit
        "cancellation_check_period_ms": serve.cancellation_check_period_ms,
        "accumulate_tokens": serve.cumulative_text,
        "engine_dir": engine_dir(),
        "logits_datatype": _TRITON_TYPES[facts.logits_dtype],
        "preprocessing_instance_count": processes,
        "postprocessing_instance_count": processes,
        "bls_instance_count": answering,
        "add_special_tokens": True,
        "skip_special_tokens": True,
        # As bwdeploy's model on the LLM API does: an answer is the answer, streamed or not.
        "exclude_input_in_output": True,
        "tensorrt_llm_model_name": "tensorrt_llm",
    }
    if layout.nodes > 1:
        values["num_nodes"] = layout.nodes
    beams, mode = (engine.build_flags.get(name) for name in ("max_beam_width", "speculative_decoding_mode"))
    if isinstance(beams, int):
        values["max_beam_width"] = beams
    if mode in _DECODING_MODES:
        values["decoding_mode"] = _DECODING_MODES[mode]
    return values


def _checked(parameters: dict[str, Any]) -> dict[str, Any]:
    keys = template_keys()
    for name, value in parameters.items():
        expected = misfit(keys[name], value) if name in keys else "a template key"
        if expected:
            raise ValueError(f"serve.engine_parameters.{name}: expected {expected}, got {value!r}")
    return parameters
