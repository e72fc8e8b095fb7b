"""The five models as ModelConfig messages, from the facts on templates and the values of a build; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.template_values import as_text
from bwdeploy.facts.triton_templates import (
    EngineModel,
    EngineTensor,
    engine_models,
    ensemble_steps,
    key_in,
    template_keys,
)
from bwdeploy.serving.engine_repository.values import TOKENIZER_FOLDER
from bwdeploy.serving.model_config import config_messages

if TYPE_CHECKING:
    from bwdeploy.serving.engine_repository.values import TemplateValues

_ENSEMBLE = "ensemble"
_NEWEST = -1
_PYTHON_TOKENIZER = ("preprocessing", "postprocessing")
"""The engine's own parameter tokenizer_dir is not read by the C++ backend."""
_ONLY_WHEN_SET = ("recv_poll_period_ms",)
"""Read by the backend, though upstream's template does not have it."""


def model_config(name: str, values: TemplateValues, *, version: str) -> Any:  # noqa: ANN401 - message class
    """The configuration of one model for TensorRT-LLM `version`."""
    model, messages = engine_models()[name], config_messages()
    config = messages.ModelConfig(name=name, max_batch_size=values.keys["triton_max_batch_size"])
    config.backend = _filled(model.backend, values)
    _add_tensors(config, model, values, version=version)
    _add_batching(config, model, values)
    if model.decoupled:
        config.model_transaction_policy.decoupled = values.keys["decoupled_mode"]
    if model.instances:
        count = values.keys.get(model.instances) or int(model.instances)
        config.instance_group.add(count=count, kind=messages.ModelInstanceGroup.KIND_CPU)
    if name == _ENSEMBLE:
        config.platform = _ENSEMBLE
        _add_steps(config, version=version)
    for parameter, text in _parameters(model, values).items():
        config.parameters[parameter].string_value = text
    return config


def _add_tensors(config: Any, model: EngineModel, values: TemplateValues, *, version: str) -> None:  # noqa: ANN401
    messages = config_messages()
    for tensor in _written(model.inputs, version):
        added = config.input.add(
            name=tensor.name, dims=tensor.dims, optional=tensor.optional, allow_ragged_batch=tensor.ragged
        )
        added.data_type = messages.DataType.Value(_filled(tensor.type, values))
        if tensor.scalar:
            added.reshape.SetInParent()  # an empty shape
    for tensor in _written(model.outputs, version):
        added = config.output.add(name=tensor.name, dims=tensor.dims)
        added.data_type = messages.DataType.Value(_filled(tensor.type, values))


def _written(tensors: tuple[EngineTensor, ...], version: str) -> list[EngineTensor]:
    return [tensor for tensor in tensors if tensor.is_in(version) and not tensor.vision]


def _add_batching(config: Any, model: EngineModel, values: TemplateValues) -> None:  # noqa: ANN401
    if model.queue == "none":
        return
    batching = config.dynamic_batching
    batching.SetInParent()
    if model.queue == "bounded":
        batching.preferred_batch_size.append(config.max_batch_size)
        batching.max_queue_delay_microseconds = values.keys["max_queue_delay_microseconds"]
        batching.default_queue_policy.max_queue_size = values.keys["max_queue_size"]


def _add_steps(config: Any, *, version: str) -> None:  # noqa: ANN401
    """What this version's models and the ensemble both have."""
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    for step in ensemble_steps():
        model = engine_models()[step.model]
        takes = {tensor.name for tensor in _written(model.inputs, version)}
        gives = {tensor.name for tensor in _written(model.outputs, version)}
        added = config.ensemble_scheduling.step.add(model_name=step.model, model_version=_NEWEST)
        for name, tensor in step.inputs.items():
            if name in takes and (tensor in inputs or tensor.startswith("_")):
                added.input_map[name] = tensor
        for name, tensor in step.outputs.items():
            if name in gives and (tensor in outputs or tensor.startswith("_")):
                added.output_map[name] = tensor


def _parameters(model: EngineModel, values: TemplateValues) -> dict[str, str]:
    """Every parameter of the template; an unset one is empty, which the backend takes for unset."""
    found = {}
    for parameter, template in model.parameters.items():
        key = key_in(template)
        if key == "tokenizer_dir" and model.name in _PYTHON_TOKENIZER:
            found[parameter] = str(values.keys.get(key, TOKENIZER_FOLDER))
        elif key not in _ONLY_WHEN_SET or key in values.keys:
            found[parameter] = _filled(template, values)
    return {**found, **values.own.get(model.name, {})}


def _filled(template: str, values: TemplateValues) -> str:
    key = key_in(template)
    if key is None:
        return template
    value = values.keys.get(key)
    return "" if value is None else as_text(template_keys()[key], value)
