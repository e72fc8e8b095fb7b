"""What a checkpoint directory says about its quantization, and how its weights are read back.

Reads `config.json` / `hf_quant_config.json` and the safetensors headers; recognizes each weight's layout by
the dtype and shape of the weight and its scales, so that it does not depend on how a tool spells its
`quant_algo`. It opens safetensors only: no pickle, no code from the checkpoint. No model is built here.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from bwdeploy_runtime import formats

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from torch import Tensor

Layout = Literal["plain", "nvfp4", "mxfp4", "mxfp8", "fp8", "fp8_channel", "fp8_block"]

_ACTIVATIONS: dict[str, formats.Activation] = {
    "nvfp4": "nvfp4",
    "nvfp4_awq": "nvfp4",
    "w4a16_nvfp4": "none",
    "w4a8_nvfp4_fp8": "fp8",
    "w4a8_mxfp4_fp8": "fp8",
    "fp8": "fp8",
    "fp8_per_channel_per_token": "fp8_token",
    "fp8_pb_wo": "none",
    "mxfp4": "mxfp4",
    "mxfp8": "mxfp8",
}
SCALE_SUFFIXES = ("weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale", "k_scale", "v_scale")
_SCALE_ON_ROWS_DIMS = 1
_MATRIX_DIMS = 2


class CheckpointError(Exception):
    """A checkpoint cannot be read; the message names the file or tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationConfig:
    """The parts of `quantization` in hf_quant_config.json that matter to a reader."""

    quant_algo: str | None = None
    kv_cache_quant_algo: str | None = None
    exclude_modules: tuple[str, ...] = ()
    layers: dict[str, str]
    """Module name → quant_algo, in a mixed-precision checkpoint."""

    def algorithm_of(self, module: str) -> str | None:
        """The algorithm that `module` is labelled with; routed experts have that of their block."""
        if not self.layers:
            return self.quant_algo
        while module and module not in self.layers:
            module = module_of(module)
        return self.layers.get(module)

    def activation_of(self, module: str) -> formats.Activation:
        """How the input of `module` is rounded.

        Raises:
            CheckpointError: the checkpoint names an algorithm that is not known here.
        """
        algo = self.algorithm_of(module) or self.quant_algo
        if algo is None:
            return "none"
        if algo.lower() not in _ACTIVATIONS:
            raise CheckpointError(f"quantization algorithm {algo!r} of {module} cannot be read back here")
        return _ACTIVATIONS[algo.lower()]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: missing, unreadable, or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def read_quantization(directory: Path) -> QuantizationConfig:
    """The quantization of the checkpoint in `directory`; all fields empty when it has none.

    Raises:
        CheckpointError: a configuration file is unreadable or malformed.
    """
    separate = directory / "hf_quant_config.json"
    if separate.is_file():
        section = read_json(separate).get("quantization")
    else:
        section = read_json(directory / "config.json").get("quantization_config")
    if section is not None and not isinstance(section, dict):
        raise CheckpointError(f"the quantization section of {directory} is not an object")
    return parse_quantization(section or {})


def parse_quantization(section: dict[str, Any]) -> QuantizationConfig:
    """`quantization` of hf_quant_config.json, or `quantization_config` of config.json; empty: none."""
    layers = section.get("quantized_layers") or {}
    return QuantizationConfig(
        quant_algo=section.get("quant_algo"),
        kv_cache_quant_algo=section.get("kv_cache_quant_algo"),
        exclude_modules=tuple(section.get("exclude_modules") or section.get("ignore") or ()),
        layers={name: str(layer.get("quant_algo")) for name, layer in layers.items()},
    )


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, by its index or by name.

    Raises:
        CheckpointError: there are none, or the index names a file that is missing or outside.
    """
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        files = tuple(sorted(directory.glob("*.safetensors")))
        if not files:
            raise CheckpointError(f"{directory} holds no *.safetensors file")
        return files
    names = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
    for name in names:
        if Path(name).name != name or not (directory / name).is_file():
            raise CheckpointError(f"{index} names {name!r}, which is not a file of that directory")
    return tuple(directory / name for name in names)


class TensorReader:
    """Random access to the tensors of a checkpoint, one at a time; use as a context manager.

    Raises:
        CheckpointError: on entry, when a file is truncated or is no safetensors file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self._where: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for path in weight_files(self.directory):
            try:
                handle = self._stack.enter_context(safe_open(path, framework="pt", device="cpu"))
            except (SafetensorError, OSError, ValueError) as error:
                self._stack.close()
                raise CheckpointError(f"{path} is truncated or is no safetensors file: {error}") from error
            self._where.update(dict.fromkeys(handle.keys(), handle))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._where.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def names(self) -> Iterable[str]:
        """All tensor names, in the order of the files."""
        return self._where.keys()

    def dtype(self, name: str) -> str:
        """The safetensors dtype word, for example `F8_E4M3`."""
        return str(self._where[name].get_slice(name).get_dtype())

    def shape(self, name: str) -> tuple[int, ...]:
        """The stored shape."""
        return tuple(self._where[name].get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        """The stored tensor, as it is."""
        return self._where[name].get_tensor(name)

    def optional(self, name: str) -> Tensor | None:
        """The stored tensor in float32, or None when the checkpoint has none of that name."""
        return self.tensor(name).to(torch.float32) if name in self else None


def module_of(weight_name: str) -> str:
    """`model.x.weight` → `model.x`."""
    return weight_name.rpartition(".")[0]


def is_scale(name: str) -> bool:
    """Whether the tensor belongs to the quantization and not to the model."""
    return name.rpartition(".")[2] in SCALE_SUFFIXES


def layout_of(reader: TensorReader, weight_name: str) -> Layout:
    """How a stored tensor is encoded, from dtypes and shapes alone.

    Raises:
        CheckpointError: a combination that this reader does not know.
    """
    dtype = reader.dtype(weight_name)
    scale_name = f"{weight_name}_scale"
    if scale_name not in reader:
        if dtype in {"U8", "F8_E4M3", "I8"}:
            raise CheckpointError(f"{weight_name} is stored as {dtype} but has no {scale_name}")
        return "plain"
    pair = (dtype, reader.dtype(scale_name))
    if pair == ("U8", "F8_E4M3"):
        return "nvfp4"
    if pair == ("U8", "U8"):
        return "mxfp4"
    if pair == ("F8_E4M3", "U8"):
        return "mxfp8"
    if dtype == "F8_E4M3":
        return _fp8_layout(reader.shape(weight_name), reader.shape(scale_name))
    raise CheckpointError(f"{weight_name} is stored as {pair[0]} with scales in {pair[1]}: an unknown layout")


def _fp8_layout(shape: tuple[int, ...], scale: tuple[int, ...]) -> Layout:
    squeezed = [size for size in scale if size != 1]
    if not squeezed and len(scale) < _MATRIX_DIMS:
        return "fp8"
    if squeezed == [shape[0]] and len(scale) <= _MATRIX_DIMS:
        return "fp8_channel"
    return "fp8_block" if len(scale) > _SCALE_ON_ROWS_DIMS else "fp8"


def logical_shape(reader: TensorReader, weight_name: str, layout: Layout) -> tuple[int, ...]:
    """The shape of the weight after unpacking."""
    shape = reader.shape(weight_name)
    return (*shape[:-1], shape[-1] * 2) if layout in {"nvfp4", "mxfp4"} else shape


def read_weight(reader: TensorReader, weight_name: str, layout: Layout) -> Tensor:
    """One weight, dequantized to float32 (a plain tensor keeps its dtype).

    Raises:
        CheckpointError: a scale that the layout needs is missing or does not fit.
    """
    weight = reader.tensor(weight_name)
    if layout == "plain":
        return weight
    scale = reader.tensor(f"{weight_name}_scale")
    try:
        if layout == "nvfp4":
            scale_2 = reader.optional(f"{weight_name}_scale_2")
            if scale_2 is None:
                raise CheckpointError(f"{weight_name}_scale_2 is missing")
            return formats.dequantize_nvfp4(weight, scale, scale_2)
        if layout == "mxfp4":
            return formats.dequantize_mxfp4(weight, scale)
        if layout == "mxfp8":
            return formats.dequantize_mxfp8(weight, scale)
        if layout == "fp8_block":
            return formats.dequantize_fp8_blocks(weight, scale)
        return formats.dequantize_fp8(weight, scale)
    except RuntimeError as error:
        raise CheckpointError(
            f"{weight_name}: weight {tuple(weight.shape)} and scale {tuple(scale.shape)} do not fit together"
        ) from error
