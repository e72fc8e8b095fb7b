"""What the ops ask of a place that they take over, and the refusal of an op that found none.

The same for the models of transformers and of TensorRT-LLM; how a place is found differs, and lies there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from bwdeploy_kernels.errors import ReplacementError

if TYPE_CHECKING:
    from collections.abc import Mapping

ACTIVATIONS: Final = {
    "cuda": (torch.bfloat16, torch.float16),
    "cpu": (torch.bfloat16, torch.float16, torch.float32),
}
"""Device of the pack → types of activations that its ops take."""
MULTIPLE_OF: Final = {"fp8": 8, "nvfp4": 16}
"""Format → what the width of a rounded row has to be a multiple of."""
_SHOWN: Final = 5


def refuse_idle(modules: Mapping[str, int], reasons: Mapping[str, str]) -> None:
    """Refuse ops that no place calls; `modules` counts the places of each op, `reasons` has those left alone.

    Raises:
        ReplacementError: with the first of the reasons.
    """
    idle = [op for op, count in modules.items() if not count]
    if not idle:
        return
    shown = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_SHOWN]]
    more = [f"and {len(reasons) - _SHOWN} more"] if len(reasons) > _SHOWN else []
    raise ReplacementError(
        f"kernels: got {', '.join(idle)}, wanted ops that this model has a place for. "
        f"Take them out of the recipe. {'; '.join(shown + more)}."
    )
