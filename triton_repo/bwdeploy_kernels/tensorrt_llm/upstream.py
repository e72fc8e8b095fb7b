"""What this package relies on in TensorRT-LLM: found by name, and refused where it is not as it was read.

Only releases whose source was read are taken. A class or function with other parameters than those read is
refused too, so that a patched build cannot be changed by mistake.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from bwdeploy_kernels.errors import MisfitError, ReplacementError
from bwdeploy_kernels.tensorrt_llm.limits import FUSED_UPSTREAM, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PACKAGE: Final = "tensorrt_llm"
_EXACT: Final = {
    "_torch.modules.rms_norm:RMSNorm.forward": ("self", "hidden_states", "residual"),
    "_torch.modules.gated_mlp:GatedMLP._apply_activation": ("self", "x", "has_lora"),
    "_torch.pyexecutor.model_loader:ModelLoader.load": ("self", "checkpoint_dir", "checkpoint_loader"),
    "_torch.utils:Fp4QuantizedTensor": ("fp4_tensor", "scaling_factor", "is_sf_swizzled"),
}
"""Module and name → all of its parameters."""
_AMONG: Final = {
    "executor.worker:worker_main": ("_torch_model_class_mapping",),
    "_torch.modules.rms_norm:RMSNorm.__init__": ("hidden_size", "eps", "has_weights", "use_gemma"),
    "_torch.modules.linear:Linear.__init__": ("force_dynamic_quantization", "tensor_parallel_mode"),
}
"""Module and name → parameters that it has among others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The names of TensorRT-LLM that are used."""

    version: str
    model_classes: dict[str, Any]
    """Architecture → model class; handed to every worker process when it starts."""
    model_loader: Any
    rms_norm: Any
    gated_mlp: Any
    linear: Any
    fp4_quantized_tensor: Any


def find_upstream() -> Upstream:
    """Look the names up in the installed TensorRT-LLM.

    Raises:
        MisfitError: it is absent, of another release, or not as its public source.
    """
    try:
        version = str(import_module(_PACKAGE).__version__)
    except ImportError as error:
        raise MisfitError(
            f"tensorrt_llm: got none ({error}), wanted {_any_of(VERSIONS)}. Serve in an image that has it."
        ) from error
    if version not in VERSIONS:
        raise MisfitError(
            f"tensorrt_llm: got {version}, wanted {_any_of(VERSIONS)}, whose source the kernels were written "
            "against. Use that release, or take the kernels out of the recipe."
        )
    problems = [*_differences(_EXACT, whole=True), *_differences(_AMONG, whole=False)]
    if problems:
        raise MisfitError(
            f"tensorrt_llm {version} is not as its public source:\n" + "\n".join(problems) + "\n"
            "Take the kernels out of the recipe, or use NVIDIA's own build."
        )
    return Upstream(
        version=version,
        model_classes=_look_up("_torch.models.modeling_auto:MODEL_CLASS_MAPPING"),
        model_loader=_look_up("_torch.pyexecutor.model_loader:ModelLoader"),
        rms_norm=_look_up("_torch.modules.rms_norm:RMSNorm"),
        gated_mlp=_look_up("_torch.modules.gated_mlp:GatedMLP"),
        linear=_look_up("_torch.modules.linear:Linear"),
        fp4_quantized_tensor=_look_up("_torch.utils:Fp4QuantizedTensor"),
    )


def refuse_fused_upstream(ops: Iterable[str], version: str) -> None:
    """Refuse the ops that TensorRT-LLM needs no help with.

    Raises:
        ReplacementError: with the kernel that it has.
    """
    needless = [f"{op}: {FUSED_UPSTREAM[op]}" for op in ops if op in FUSED_UPSTREAM]
    if needless:
        raise ReplacementError(
            f"kernels: got ops that TensorRT-LLM {version} does by itself, wanted others. "
            f"Take them out of the recipe. {'; '.join(needless)}."
        )


def _differences(contract: Mapping[str, tuple[str, ...]], *, whole: bool) -> list[str]:
    problems = []
    for place, wanted in contract.items():
        got = _parameters(place)
        if got is None or (got != wanted if whole else not set(wanted) <= set(got)):
            among = "" if whole else " among its parameters"
            found = "nothing" if got is None else f"({', '.join(got)})"
            problems.append(
                f"tensorrt_llm.{place.replace(':', '.')}: got {found}, wanted ({', '.join(wanted)}){among}"
            )
    return problems


def _parameters(place: str) -> tuple[str, ...] | None:
    try:
        return tuple(inspect.signature(_look_up(place)).parameters)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


def _look_up(place: str) -> Any:  # noqa: ANN401 - whatever upstream has there
    module, _, name = place.partition(":")
    return attrgetter(name)(import_module(f"{_PACKAGE}.{module}"))


def _any_of(names: Iterable[str]) -> str:
    return "one of " + ", ".join(names)
