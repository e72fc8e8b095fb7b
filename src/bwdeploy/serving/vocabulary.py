"""The names that a served model understands: one object, chosen by the deployment, used by every client.

`LLMAPI` are the names of TensorRT-LLM's llmapi model, which our own model takes too; `ensemble_vocabulary`
gives those of the ensemble in front of an engine (TensorRT-LLM triton_backend/all_models). It sends nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bwdeploy.facts.triton_templates import engine_models

if TYPE_CHECKING:
    from bwdeploy.serving.client import FieldValue, Sampling


class Tensor(NamedTuple):
    """An input of the model."""

    name: str
    data_type: str
    """The protocol's word, for example BYTES."""


class Vocabulary(NamedTuple):
    """The inputs that a generation request consists of; `text_input` and `text_output` are everywhere."""

    streaming: Tensor
    max_tokens: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    seed: Tensor
    stop: Tensor
    finish_reason: Tensor | None
    """Asks for the reason of the end; None when the model cannot tell it."""
    always: tuple[tuple[Tensor, bool], ...]
    """Sent with every request."""
    batched: bool
    """Triton batches: every tensor has a leading dimension of 1."""
    ours: bool
    """Our model: it counts tokens and cancellations, refuses unknown names and stops at any text."""


class Field(NamedTuple):
    """One input of a request with its value."""

    tensor: Tensor
    value: FieldValue


TEXT_INPUT: Final = Tensor("text_input", "BYTES")

LLMAPI: Final = Vocabulary(
    streaming=Tensor("streaming", "BOOL"),
    max_tokens=Tensor("sampling_param_max_tokens", "INT32"),
    temperature=Tensor("sampling_param_temperature", "FP32"),
    top_k=Tensor("sampling_param_top_k", "INT32"),
    top_p=Tensor("sampling_param_top_p", "FP32"),
    seed=Tensor("sampling_param_seed", "UINT64"),
    stop=Tensor("sampling_param_stop", "BYTES"),
    finish_reason=Tensor("return_finish_reason", "BOOL"),
    always=(),
    batched=False,
    ours=True,
)

_ENSEMBLE: Final = Vocabulary(
    streaming=Tensor("stream", "BOOL"),
    max_tokens=Tensor("max_tokens", "INT32"),
    temperature=Tensor("temperature", "FP32"),
    top_k=Tensor("top_k", "INT32"),
    top_p=Tensor("top_p", "FP32"),
    seed=Tensor("seed", "UINT64"),
    stop=Tensor("stop_words", "BYTES"),
    finish_reason=None,
    # Without it a whole answer repeats the prompt, and the pieces of a stream do not.
    always=((Tensor("exclude_input_in_output", "BOOL"), True),),
    batched=True,
    ours=False,
)


def ensemble_vocabulary(tensorrt_llm: str) -> Vocabulary:
    """What the ensemble of this TensorRT-LLM takes; 0.20 gave the seed another name."""
    inputs = {item.name for item in engine_models()["ensemble"].inputs if item.is_in(tensorrt_llm)}
    old = _ENSEMBLE.seed._replace(name="random_seed")
    return _ENSEMBLE if _ENSEMBLE.seed.name in inputs else _ENSEMBLE._replace(seed=old)


def request_fields(
    vocabulary: Vocabulary, prompt: str, sampling: Sampling, *, streaming: bool, reason: bool = True
) -> tuple[Field, ...]:
    """The inputs of one request; `reason` asks why it ended, where the model can tell."""
    values: tuple[tuple[Tensor | None, FieldValue | None], ...] = (
        (TEXT_INPUT, prompt),
        (vocabulary.streaming, streaming),
        (vocabulary.finish_reason, True if reason else None),
        *vocabulary.always,
        (vocabulary.max_tokens, sampling.max_tokens),
        (vocabulary.temperature, sampling.temperature),
        (vocabulary.top_k, sampling.top_k),
        (vocabulary.top_p, sampling.top_p),
        (vocabulary.seed, sampling.seed),
        (vocabulary.stop, list(sampling.stop) or None),
    )
    return tuple(Field(tensor, value) for tensor, value in values if tensor is not None and value is not None)
