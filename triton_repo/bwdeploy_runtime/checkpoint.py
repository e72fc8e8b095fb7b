"""Load a quantized checkpoint into a Hugging Face model by dequantizing it, tensor by tensor.

What is loaded is what was exported: FP4/FP8 weights are read with their own scales. With
`emulate_activations` the inputs of quantized linear layers are rounded as the checkpoint prescribes, so that
the model's answers are those of the quantized deployment and not of a weight-only copy. The KV cache is not
rounded. Peak memory is one model in `dtype` plus one tensor. Needs torch, transformers and safetensors only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import torch

from bwdeploy_runtime.experts import name_in_model, separate_experts
from bwdeploy_runtime.input_rounding import InputRounding
from bwdeploy_runtime.quantization import (
    CheckpointError,
    QuantizationConfig,
    TensorReader,
    is_scale,
    layout_of,
    module_of,
    read_quantization,
    read_weight,
)

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor, nn

    from bwdeploy_runtime.formats import Activation

_LAYER = re.compile(r"model\.layers\.([0-9]{1,6})\.")

__all__ = ["CheckpointError", "CheckpointInfo", "build_model", "load_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What was found while loading."""

    quant_algo: str | None
    kv_cache_quant_algo: str | None
    quantized_weights: int
    """Tensors that were dequantized."""
    emulated_inputs: int
    """Linear layers whose input is rounded in each forward pass."""
    parameters: int


def build_model(directory: Path, *, dtype: torch.dtype, trust_remote_code: bool = False) -> nn.Module:
    """The model that `config.json` describes, with uninitialized weights on the current default device.

    Raises:
        CheckpointError: transformers does not know the architecture or refuses the configuration.
    """
    transformers = import_module("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        with _no_init_weights():
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=trust_remote_code
            )
    except (ValueError, OSError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise CheckpointError(f"transformers cannot build the model of {directory}: {error}") from error
    model.tie_weights()
    return cast("nn.Module", model.eval())


def load_model(
    directory: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    emulate_activations: bool = True,
    trust_remote_code: bool = False,
) -> tuple[nn.Module, CheckpointInfo]:
    """The dequantized model in evaluation mode, ready for `forward` and `generate`.

    Raises:
        CheckpointError: files are unreadable, tensors are missing, or a layout is unknown.
    """
    quantization = read_quantization(directory)
    with torch.device(device):
        model = build_model(directory, dtype=dtype, trust_remote_code=trust_remote_code)
    with TensorReader(directory) as reader, torch.no_grad():
        separate_experts(model, {name_in_model(name) for name in reader.names()})
        quantized = _fill(model, reader)
        emulated = _attach_inputs(model, reader, quantization, quantized, emulate=emulate_activations)
    info = CheckpointInfo(
        quant_algo=quantization.quant_algo,
        kv_cache_quant_algo=quantization.kv_cache_quant_algo,
        quantized_weights=len(quantized),
        emulated_inputs=emulated,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return model, info


def _no_init_weights() -> AbstractContextManager[None]:
    """Skip the random initialization of weights that are overwritten anyway (it moved in transformers 5)."""
    try:
        module = import_module("transformers.initialization")
    except ModuleNotFoundError:
        module = import_module("transformers.modeling_utils")
    return cast("AbstractContextManager[None]", module.no_init_weights())


def _fill(model: nn.Module, reader: TensorReader) -> list[str]:
    """Copy every stored tensor into the model; the names of those that were quantized.

    Raises:
        CheckpointError: names or shapes of model and checkpoint do not match.
    """
    slots = model.state_dict(keep_vars=True)
    config = cast("dict[str, Any]", model.config.to_dict())
    filled: set[int] = set()
    quantized: list[str] = []
    for name in reader.names():
        if is_scale(name) or is_prediction_layer(name, config):
            continue
        slot = slots.get(name_in_model(name))
        if slot is None:
            raise CheckpointError(
                f"{reader.directory} holds {name}, which the model of its config.json has not"
            )
        layout = layout_of(reader, name)
        value = read_weight(reader, name, layout)
        if value.shape != slot.shape:
            raise CheckpointError(
                f"{name} has shape {tuple(value.shape)}, but config.json asks for {tuple(slot.shape)}"
            )
        slot.copy_(value)
        filled.add(slot.data_ptr())
        if layout != "plain":
            quantized.append(name)
    missing = [name for name, one in slots.items() if one.numel() and one.data_ptr() not in filled]
    if missing:
        raise CheckpointError(f"{reader.directory} lacks {missing[0]} and {len(missing) - 1} other tensors")
    return quantized


def is_prediction_layer(name: str, config: dict[str, Any]) -> bool:
    """Whether a tensor belongs to multi-token prediction layers, which follow the model's own.

    transformers has no modules for them, and plain decoding does not use them.
    """
    layers, extra = config.get("num_hidden_layers"), config.get("num_nextn_predict_layers")
    found = _LAYER.match(name)
    if found is None or not isinstance(layers, int) or not isinstance(extra, int):
        return False
    return layers <= int(found[1]) < layers + extra


def _attach_inputs(
    model: nn.Module,
    reader: TensorReader,
    quantization: QuantizationConfig,
    quantized: list[str],
    *,
    emulate: bool,
) -> int:
    """Make each quantized layer treat its input as the checkpoint says; how many round it."""
    emulated = 0
    for weight_name in quantized:
        name = module_of(weight_name)
        module = model.get_submodule(module_of(name_in_model(weight_name)))
        kind: Activation = quantization.activation_of(name) if emulate else "none"
        smoothing = reader.optional(f"{name}.pre_quant_scale")
        if kind == "none" and smoothing is None:
            continue
        input_scale = reader.optional(f"{name}.input_scale")
        weight = cast("Tensor", module.weight)
        rounding = InputRounding(kind=kind, input_scale=input_scale, smoothing=smoothing, like=weight)
        rounding.attach(module)
        emulated += kind != "none"
    return emulated
