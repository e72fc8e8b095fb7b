"""config.pbtxt as a protobuf message: built from the runtime's tensors, printed, parsed back, compared.

Also the rules that only a Triton server checks, applied here so that a wrong configuration is found where
it is written. The message class is loaded without the rest of tritonclient, which would cost half a second.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import text_format

from bwdeploy_runtime import tensors

if TYPE_CHECKING:
    from types import ModuleType

    from bwdeploy_runtime.tensors import Tensor

_MESSAGES: Final = "tritonclient.grpc.model_config_pb2"
_ENGINE_BACKEND: Final = "tensorrtllm"


def build_model_config(name: str, *, decoupled: bool) -> Any:  # noqa: ANN401 - generated message class
    """The ModelConfig of our Python model.

    `max_batch_size` is 0 because the engine batches, not Triton; auto-completion is off when we launch, so
    everything that the model could complete stands here.
    """
    messages = config_messages()
    config = messages.ModelConfig(name=name, backend="python", max_batch_size=0)
    config.input.extend(_tensor(messages.ModelInput, item, optional=item.optional) for item in tensors.INPUTS)
    config.output.extend(_tensor(messages.ModelOutput, item) for item in tensors.OUTPUTS)
    config.instance_group.add(count=1, kind=messages.ModelInstanceGroup.KIND_CPU)
    config.model_transaction_policy.decoupled = decoupled
    return config


def to_pbtxt(config: Any) -> str:  # noqa: ANN401 - generated message class
    """The text of config.pbtxt, proved to mean the same as the message.

    Raises:
        ValueError: the text does not parse back to the same message (a bug of protobuf or ours).
    """
    text = str(text_format.MessageToString(config, as_utf8=True))
    if parse_pbtxt(text) != config:
        raise ValueError("config.pbtxt does not read back as it was written.")
    return text


def parse_pbtxt(text: str) -> Any:  # noqa: ANN401 - generated message class
    """The ModelConfig message of a config.pbtxt.

    Raises:
        google.protobuf.text_format.ParseError: with line and column.
    """
    return text_format.Parse(text, config_messages().ModelConfig())


def pbtxt_names(message: str) -> tuple[str, ...]:
    """The fields of a message of config.pbtxt, or the values of an enumeration; empty for an unknown one."""
    file = config_messages().ModelConfig.DESCRIPTOR.file
    if message in file.message_types_by_name:
        return tuple(field.name for field in file.message_types_by_name[message].fields)
    found = file.enum_types_by_name.get(message)
    return tuple(value.name for value in found.values) if found is not None else ()


def refusals(config: Any, *, directory_name: str) -> tuple[str, ...]:  # noqa: ANN401 - generated message class
    """What a server would refuse, or accept although it is wrong; empty when it is fine."""
    return (
        *_name_refusals(config, directory_name),
        *_tensor_refusals("input", config.input),
        *_tensor_refusals("output", config.output),
        *_instance_refusals(config),
        *_scheduling_refusals(config),
    )


def _name_refusals(config: Any, directory_name: str) -> list[str]:  # noqa: ANN401
    found = []
    if config.name != directory_name:
        found.append(f"model name {config.name!r} differs from its directory {directory_name!r}")
    if config.max_batch_size < 0:
        found.append(f"max_batch_size is {config.max_batch_size}, below 0")
    if not config.backend and config.platform != "ensemble":
        found.append("no backend is named")
    return found


def _tensor_refusals(kind: str, items: Any) -> list[str]:  # noqa: ANN401
    found = [] if items else [f"the model has no {kind}"]
    for name, count in Counter(item.name for item in items).items():
        if count > 1:
            found.append(f"{kind} {name!r} stands there {count} times")
    for item in items:
        if not item.data_type:
            found.append(f"{kind} {item.name!r} has no data_type")
        if not item.dims or 0 in item.dims:
            found.append(f"{kind} {item.name!r} has dims {list(item.dims)}")
    return found


def _instance_refusals(config: Any) -> list[str]:  # noqa: ANN401
    kinds = config_messages().ModelInstanceGroup
    found = []
    for group in config.instance_group:
        if group.count < 1:
            found.append(f"an instance group has count {group.count}")
        if group.kind == kinds.KIND_CPU and group.gpus:
            found.append("an instance group is KIND_CPU and names gpus")
    return found


def _scheduling_refusals(config: Any) -> list[str]:  # noqa: ANN401
    decoupled = config.model_transaction_policy.decoupled
    found = []
    # The engine's own backend reads the queue limit there, whatever Triton does with it.
    batches = config.HasField("dynamic_batching") and config.backend != _ENGINE_BACKEND
    if batches and (decoupled or config.max_batch_size == 0):
        found.append("dynamic_batching does nothing for a decoupled model or with max_batch_size 0")
    if config.response_cache.enable and decoupled:
        found.append("response_cache is refused for a decoupled model")
    preferred = max(config.dynamic_batching.preferred_batch_size, default=0)
    if preferred > config.max_batch_size:
        found.append(f"preferred_batch_size {preferred} is above max_batch_size {config.max_batch_size}")
    return found


def _tensor(message: Any, item: Tensor, **more: bool) -> Any:  # noqa: ANN401
    data_type = config_messages().DataType.Value(item.data_type)
    return message(name=item.name, data_type=data_type, dims=list(item.dims), **more)


@cache
def config_messages() -> ModuleType:
    """The generated module of messages; under its own name, so that tritonclient later finds this one."""
    loaded = sys.modules.get(_MESSAGES)
    if loaded is not None:
        return loaded
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("tritonclient is not installed", name="tritonclient")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location(_MESSAGES, path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{path} cannot be loaded", name=_MESSAGES)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MESSAGES] = module
    spec.loader.exec_module(module)
    return module
