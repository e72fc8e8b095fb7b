"""The tensors of a draft under one set of names (see `shape`), whoever wrote them.

Weights of a quantized draft come back dequantized.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.worker.drafts.shape import canonical_name
from bwdeploy.worker.failures import recipe_error
from bwdeploy_runtime.quantization import CheckpointError, TensorReader, is_scale, layout_of, read_weight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SECTION = "speculative.draft"
_UNUSED = re.compile(r"(^|\.)(t2d|rotary_emb\.inv_freq)$")
"""t2d is d2t seen from the other side; rotary frequencies follow from the configuration."""


class DraftTensors:
    """Tensors by name, each taken once; what is left over at the end was not understood."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = {
            canonical_name(name): tensor for name, tensor in tensors.items() if not _UNUSED.search(name)
        }

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str) -> Tensor:
        """The tensor of that name.

        Raises:
            RecipeError: the draft has none.
        """
        if name not in self._left:
            raise recipe_error(SECTION, f"the draft lacks {name}", hint="Is it an EAGLE3 draft, and whole?")
        return self._left.pop(name)

    def optional(self, name: str) -> Tensor | None:
        """The tensor of that name, if there is one."""
        return self._left.pop(name, None)

    def rest(self) -> dict[str, Tensor]:
        """All that is left."""
        left, self._left = self._left, {}
        return left

    def refuse_rest(self) -> None:
        """Raise for what was not taken: a draft of another make would be measured wrongly.

        Raises:
            RecipeError: tensors are left.
        """
        if self._left:
            names, count = ", ".join(sorted(self._left)[:3]), len(self._left)
            raise recipe_error(
                SECTION,
                f"the draft holds {count} tensors that no EAGLE3 draft of Llama's kind has ({names})",
                hint="Drafts of other kinds cannot be measured here; set draft_len to a number.",
            )


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every weight in the directory, dequantized where it is quantized.

    Raises:
        RecipeError: a file cannot be read.
    """
    try:
        with TensorReader(directory) as reader:
            names = [name for name in reader.names() if not is_scale(name)]
            return {name: read_weight(reader, name, layout_of(reader, name)) for name in names}
    except CheckpointError as error:
        raise recipe_error(SECTION, f"the draft cannot be read: {error}") from error
