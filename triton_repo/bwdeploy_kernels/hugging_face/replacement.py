"""Change a loaded Hugging Face model so that its decoder layers call the ops of a pack.

A place is changed only where the answer stays the same, bit for bit but for the order in which a GPU sums a
row; everywhere else the model is left as it is and the reason is kept. The changed modules stay where they
are, under their names and with their weights: only their forward is another.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy_kernels.architectures import NOT_REPLACEABLE, REPLACEABLE, TRANSFORMERS
from bwdeploy_kernels.eligibility import refuse_idle
from bwdeploy_kernels.errors import ReplacementError
from bwdeploy_kernels.hugging_face.exactness import NotReplaceable, check_layer, check_mlp, check_tensors
from bwdeploy_kernels.hugging_face.input_rounding import shared_rounding
from bwdeploy_kernels.hugging_face.layers import Border, FusedLayer
from bwdeploy_kernels.hugging_face.sites import FusedMlp, FusedNorm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from bwdeploy_kernels.architectures import LayerClasses
    from bwdeploy_kernels.hugging_face.input_rounding import SharedRounding
    from bwdeploy_kernels.pack import Pack

_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GATE_UP = ("mlp.gate_proj", "mlp.up_proj")
_DOWN = ("mlp.down_proj",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What calls the ops now, and what does not."""

    modules: Mapping[str, int]
    """Op → places of the model that call it, each once in a forward."""
    reasons: Mapping[str, str]
    """Path of a module that no op took over → why."""


def replace_modules(model: nn.Module, pack: Pack) -> Replaced:
    """Make the decoder layers of a `transformers` model in evaluation mode call the ops of `pack`.

    Raises:
        ReplacementError: the model is unknown, or has no place for one of the ops.
    """
    replacement = _Replacement(model, pack, _classes(model))
    replacement.replace_mlps()
    replacement.replace_norms()
    replaced = Replaced(modules=replacement.modules, reasons=replacement.reasons)
    refuse_idle(replaced.modules, replaced.reasons)
    return replaced


def _classes(model: nn.Module) -> LayerClasses:
    """The entry of the table for this model.

    Raises:
        ReplacementError: it has none, or this release of transformers may have other layers.
    """
    version = str(import_module("transformers").__version__)
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found or not TRANSFORMERS[0] <= (int(found[1]), int(found[2])) < TRANSFORMERS[1]:
        wanted = " to below ".join(f"{major}.{minor}" for major, minor in TRANSFORMERS)
        raise ReplacementError(f"transformers: got {version}, wanted {wanted}. Install one of those.")
    kind = str(getattr(getattr(model, "config", None), "model_type", None))
    if kind not in REPLACEABLE:
        reason = f" ({NOT_REPLACEABLE[kind]})" if kind in NOT_REPLACEABLE else ""
        raise ReplacementError(
            f"model: got {kind}{reason}, wanted one of {', '.join(REPLACEABLE)}. "
            "Take the kernels out of the recipe."
        )
    return REPLACEABLE[kind]


def _decoder_layers(model: nn.Module) -> nn.Module:
    try:
        return model.get_submodule("model.layers")
    except AttributeError as error:
        raise ReplacementError(
            f"model: got a {type(model).__name__} without model.layers, wanted one of transformers' own. "
            "Take the kernels out of the recipe."
        ) from error


class _Replacement:
    """One walk over the decoder layers of one model."""

    def __init__(self, model: nn.Module, pack: Pack, classes: LayerClasses) -> None:
        self._layers: Any = _decoder_layers(model)
        self._device = pack.device
        self._classes = classes
        self.modules = dict.fromkeys(pack.ops, 0)
        self.reasons: dict[str, str] = {}

    def replace_mlps(self) -> None:
        """Fuse silu(gate) * up with the rounding of what down_proj reads."""
        for index, layer in enumerate(self._layers):
            try:
                check_mlp(getattr(layer, "mlp", None), self._classes)
                rounding = self._take_over(index, _DOWN, "silu_mul_quant")
            except NotReplaceable as reason:
                self.reasons[f"model.layers.{index}.mlp"] = str(reason)
            else:
                layer.mlp.forward = FusedMlp(layer.mlp, rounding).forward

    def replace_norms(self) -> None:
        """Fuse each norm with the add before it and the rounding of what is read behind it."""
        self.reasons["model.layers.0.input_layernorm"] = "nothing is added before the first norm"
        count = len(self._layers)
        inputs = [self._fused_norm(index, "input_layernorm", _QKV) for index in range(1, count)]
        borders = [None, *(Border(norm) if norm else None for norm in inputs), None]
        for index, layer in enumerate(self._layers):
            middle = self._fused_norm(index, "post_attention_layernorm", _GATE_UP)
            before, after = borders[index : index + 2]
            if before or middle or after:
                layer.forward = FusedLayer(layer, before=before, middle=middle, after=after).forward

    def _fused_norm(self, index: int, name: str, readers: Sequence[str]) -> FusedNorm | None:
        """One norm; that of a layer's input is computed at the end of the layer before."""
        layer = self._layers[index]
        try:
            check_layer(layer, self._classes)
            if name == "input_layernorm":
                check_layer(self._layers[index - 1], self._classes)
            rounding = self._take_over(index, readers, "add_rmsnorm_quant", getattr(layer, name))
        except NotReplaceable as reason:
            self.reasons[f"model.layers.{index}.{name}"] = str(reason)
            return None
        return FusedNorm(getattr(layer, name), rounding)

    def _take_over(
        self, index: int, readers: Sequence[str], family: str, *norms: nn.Module
    ) -> SharedRounding:
        """The rounding of what these linear layers read, taken off them and counted for its op.

        Raises:
            NotReplaceable: with the reason.
        """
        linears = [self._layers[index].get_submodule(reader) for reader in readers]
        check_tensors([*norms, *linears], self._device)
        rounding = shared_rounding(linears, readers)
        op = f"{family}_{rounding.format}"
        if op not in self.modules:
            raise NotReplaceable(f"{op} could do it, but was not asked for")
        rounding.take_over()
        self.modules[op] += 1
        return rounding
