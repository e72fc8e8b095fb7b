"""The shape of a model whose architecture is not known: its weights, grouped from the names of its tensors.

Layers and experts are the numbers in a name. What the headers cannot say, above all the KV cache, stays
unknown, which the shape says. Packed four-bit weights are counted as elements, their scales not at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.model.headers import tensor_sizes
from bwdeploy.model.shape import ModelShape, Weight

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bwdeploy.model.headers import TensorHeader
    from bwdeploy.model.shape import Role

_EXPERT = re.compile(r"(?<=experts\.)\d+(?=\.)")
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")
_SCALES = re.compile(
    r"(weight_scale(_2|_inv)?|input_scale|[kv]_scale|pre_quant_scale|_scales|scale_inv|[kv]_proj\.output_scale)$"
)
_PACKED = frozenset({"U8", "I8"})
_DTYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_ROLES: tuple[tuple[str, Role], ...] = (
    (r"vision|visual|multi_modal_projector|image", "vision"),
    (r"shared_expert", "shared_expert"),
    (r"\.bias$", "bias"),
    (r"experts", "expert"),
    (r"(^|\.)(gate|router)(\.|$)", "router"),
    (r"lm_head|embed_out|^output$", "head"),
    (r"embed|\bwte\b|\bwpe\b", "embedding"),
    (r"norm|\bln_", "norm"),
    (r"(o_proj|out_proj|to_out\.0|attn\.c_proj|attention\.dense)$", "attention_output"),
    (r"attn|attention|mixer", "attention"),
    (r"mlp|feed_forward|ffn|\bff\b", "ffn"),
)


def shape_from_headers(directory: Path, config: Mapping[str, Any] | None = None) -> ModelShape | None:
    """The shape that the safetensors files of a directory show; None when it has none with a header.

    Raises:
        ShapeError: a file is damaged.
    """
    tensors = tensor_sizes(directory)
    if not tensors:
        return None
    weights = grouped_weights(tensors)
    names = (config or {}).get("architectures")
    architecture = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else "unknown"
    embedding = max(
        (one for one in weights if one.role == "embedding"), key=lambda one: one.rows, default=None
    )
    positions = (config or {}).get("max_position_embeddings")
    return ModelShape(
        architecture=architecture,
        model_type=str((config or {}).get("model_type", "")),
        kind="unknown",
        hidden=embedding.columns if embedding else 0,
        vocab=embedding.rows if embedding else 0,
        layers=(),
        mtp_layers=(),
        weights=weights,
        tied_embeddings=not any(one.role == "head" for one in weights),
        max_positions=positions if type(positions) is int and positions > 0 else None,
        dtype=_main_dtype(tensors.values()),
        origin=f"tensor headers of {directory}",
        assumptions=(
            f"the architecture {architecture} is not known here: read from the tensor headers",
            "its KV cache is not known and not counted",
        ),
        known=False,
    )


def grouped_weights(tensors: Mapping[str, TensorHeader]) -> tuple[Weight, ...]:
    """Tensors of one name but for the numbers of layer and expert, and of one size, become one group."""
    groups: dict[tuple[str, int, int], dict[int, int]] = {}
    for name, header in tensors.items():
        if _SCALES.search(name):
            continue
        module, layer = _module_of(name)
        rows, columns = _matrix(name, header, tensors)
        layers = groups.setdefault((module, rows, columns), {})
        layers[layer] = layers.get(layer, 0) + _stacked(header)
    return tuple(_weight(*key, layers) for key, layers in groups.items())


def _module_of(name: str) -> tuple[str, int]:
    """The module with `{layer}` and `{expert}`, and the number of the layer; -1 outside layers."""
    module = _EXPERT.sub("{expert}", name.removesuffix(".weight"))
    found = _LAYER.search(module)
    if found is None:
        return module, -1
    return f"{module[: found.start()]}{{layer}}{module[found.end() :]}", int(found[0])


def _matrix(name: str, header: TensorHeader, tensors: Mapping[str, TensorHeader]) -> tuple[int, int]:
    """Rows and columns of one matrix; a stack of matrices counts as copies of its last two dimensions."""
    if len(header.shape) <= 1:
        return max(1, header.elements), 1
    rows, columns = header.shape[-2:]
    scale = tensors.get(f"{name}_scale")
    packed = header.dtype in _PACKED and scale is not None and scale.dtype.startswith("F8")
    return rows, columns * 2 if packed else columns


def _stacked(header: TensorHeader) -> int:
    count = 1
    for size in header.shape[:-2]:
        count *= size
    return count


def _weight(module: str, rows: int, columns: int, layers: dict[int, int]) -> Weight:
    numbers = tuple(sorted(number for number in layers if number >= 0))
    copies = max(layers.values())
    if len(set(layers.values())) > 1:
        # Layers with different numbers of experts: one group cannot say it, so all of them stand in one.
        numbers, copies = (), sum(layers.values())
    role = _role(module, columns)
    return Weight(module, role, rows, columns, numbers, copies)


def _role(module: str, columns: int) -> Role:
    role: Role = next((role for pattern, role in _ROLES if re.search(pattern, module)), "other")
    return "norm" if columns == 1 and role == "ffn" else role


def _main_dtype(headers: Iterable[TensorHeader]) -> str:
    sizes: dict[str, int] = {}
    for header in headers:
        if header.dtype in _DTYPES:
            sizes[header.dtype] = sizes.get(header.dtype, 0) + header.bytes
    return _DTYPES[max(sizes, key=lambda name: sizes[name])] if sizes else "bfloat16"
