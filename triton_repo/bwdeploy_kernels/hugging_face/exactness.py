"""When a place of a model may be changed: only where the ops compute what its modules do.

The classes have to be those of the table, and nobody else may have changed their forward or listen to it: a
hook on a norm would no longer be called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy_kernels.eligibility import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from bwdeploy_kernels.architectures import LayerClasses
    from bwdeploy_kernels.fit import Device

_READ = "transformers.models."
_SILU = ("SiLU", "SiLUActivation")


class NotReplaceable(Exception):  # noqa: N818 - an answer, not a failure
    """Why a place keeps its modules."""


def check_layer(layer: Any, classes: LayerClasses) -> None:  # noqa: ANN401 - its children are read by name
    """Refuse a decoder layer of another shape.

    Raises:
        NotReplaceable: with the reason.
    """
    _check_class(layer, classes.layer)
    for norm in (layer.input_layernorm, layer.post_attention_layernorm):
        _check_class(norm, classes.norm)
        _check_unheard(norm)
    if layer.training:
        raise NotReplaceable("the model is in training mode")


def check_mlp(mlp: Any, classes: LayerClasses) -> None:  # noqa: ANN401 - its children are read by name
    """Refuse an MLP that is not down(silu(gate(x)) * up(x)).

    Raises:
        NotReplaceable: with the reason.
    """
    _check_class(mlp, classes.mlp)
    _check_unheard(mlp.act_fn)
    if type(mlp.act_fn).__name__ not in _SILU:
        raise NotReplaceable(f"its activation is {type(mlp.act_fn).__name__}, not SiLU")


def check_tensors(modules: Sequence[nn.Module], device: Device) -> None:
    """Refuse weights that the op cannot be called with; linear layers compute in the type of their weight.

    Raises:
        NotReplaceable: with the reason.
    """
    weights: list[Any] = [module.weight for module in modules]
    dtypes = {weight.dtype for weight in weights}
    if len(dtypes) > 1:
        raise NotReplaceable(f"its weights have different types: {', '.join(sorted(map(str, dtypes)))}")
    if not dtypes <= set(ACTIVATIONS[device]):
        wanted = " or ".join(map(str, ACTIVATIONS[device]))
        raise NotReplaceable(f"its weights are {dtypes.pop()}, not {wanted}")
    places = {weight.device for weight in weights}
    if len(places) > 1 or places.pop().type != device:
        raise NotReplaceable(f"its weights are not on one {device} device")


def _check_class(module: nn.Module, name: str) -> None:
    got = type(module)
    if got.__name__ != name:
        raise NotReplaceable(f"it is a {got.__name__}, not a {name}")
    if not got.__module__.startswith(_READ):
        # Code that lies in a checkpoint likes to keep the names of what it was copied from.
        raise NotReplaceable(f"its {name} is one of {got.__module__}, not of transformers")
    if "forward" in vars(module):
        raise NotReplaceable("its forward was changed by something else")


def _check_unheard(module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001 - there is no public question
        raise NotReplaceable(f"something listens to the forward of its {type(module).__name__}")
