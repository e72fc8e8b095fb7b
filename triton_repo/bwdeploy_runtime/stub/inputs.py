"""From a Triton request to plain, checked values. Needs numpy only through the tensors it is given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bwdeploy_runtime.errors import InvalidRequestError
from bwdeploy_runtime.sampling import SamplingParams
from bwdeploy_runtime.spelling import suggestion
from bwdeploy_runtime.tensors import INPUT_NAMES, SAMPLING_PREFIX

if TYPE_CHECKING:
    from bwdeploy_runtime.stub.triton_types import TritonRequest

_MANY = ("sampling_param_stop",)
"""Inputs with more than one value."""


@dataclass(frozen=True)
class ClientRequest:
    """What a client asks for."""

    client_id: str
    """The id that the client chose; empty when it chose none."""
    prompt: str
    sampling: SamplingParams
    streaming: bool = False
    repeat_prompt: bool = False
    """Put the prompt before the answer (sampling_param_exclude_input_from_output is false)."""
    return_finish_reason: bool = False
    return_stop_reason: bool = False


def asks_to_stop(request: TritonRequest) -> bool:
    """Whether the request only wants the running request with its id to end.

    Raises:
        InvalidRequestError: `stop` is not one value.
    """
    return bool(_values(request).get("stop", False))


def read_request(request: TritonRequest, *, max_tokens_limit: int) -> ClientRequest:
    """Read all inputs.

    Raises:
        InvalidRequestError: an unknown parameter, a missing prompt, a wrong shape, text that is not UTF-8, or
            a sampling parameter out of range.
    """
    _refuse_parameters(request.parameters())
    values = _values(request)
    if "text_input" not in values:
        raise InvalidRequestError("text_input is missing: it holds the prompt.")
    sampling = {
        name.removeprefix(SAMPLING_PREFIX): value
        for name, value in values.items()
        if name.startswith(SAMPLING_PREFIX)
    }
    exclude_input = sampling.pop("exclude_input_from_output", True)
    sampling["cumulative_logprob"] = values.get("return_cumulative_logprob", False)
    return ClientRequest(
        client_id=request.request_id(),
        prompt=values["text_input"],
        sampling=SamplingParams.parse(sampling, max_tokens_limit=max_tokens_limit),
        streaming=values.get("streaming", False),
        repeat_prompt=not exclude_input,
        return_finish_reason=values.get("return_finish_reason", False),
        return_stop_reason=values.get("return_stop_reason", False),
    )


def _refuse_parameters(parameters: str) -> None:
    """HTTP `generate` makes a parameter of every JSON field that is no input: mostly a misspelt one."""
    for name in json.loads(parameters or "{}"):
        hint = suggestion(name, INPUT_NAMES, prefix=SAMPLING_PREFIX)
        raise InvalidRequestError(f"unknown field or parameter {name}. {hint}")


def _values(request: TritonRequest) -> dict[str, Any]:
    return {tensor.name(): _value(tensor.name(), tensor.as_numpy()) for tensor in request.inputs()}


def _value(name: str, array: Any) -> Any:  # noqa: ANN401 - numpy array in, plain value out
    if name in _MANY:
        return [_text(name, item) for item in array.reshape(-1).tolist()]
    if array.size != 1:
        raise InvalidRequestError(f"{name} has {array.size} values, not one.")
    value = array.reshape(-1).tolist()[0]
    return _text(name, value) if isinstance(value, bytes) else value


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"{name} is not UTF-8: {error}.") from error
