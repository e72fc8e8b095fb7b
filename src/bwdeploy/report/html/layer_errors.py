"""Weight errors by layer and by kind of module: what a tensor's name says of where it stands.

`model.layers.12.mlp.experts.7.up_proj.weight` is of layer 12 and of the kind `mlp.experts.*.up_proj`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bwdeploy.pipeline.jobs import AuditReport, TensorError

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|transformer_blocks|single_transformer_blocks)\.(\d+)\.(.+)$")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_ENDING = ".weight"


class LayerError(NamedTuple):
    """The error of one tensor, and where it stands."""

    kind: str
    layer: int | None
    """None outside the layers."""
    name: str
    error: float


class KindError(NamedTuple):
    """The errors of all tensors of one kind."""

    kind: str
    tensors: int
    mean: float
    worst: float
    worst_name: str


def errors_of(audit: AuditReport) -> tuple[LayerError, ...]:
    """Of every tensor that quantization changed."""
    known = audit.tensor_errors or audit.worst_tensors
    return tuple(
        _placed(one) for one in known if one.relative_error > 0 and math.isfinite(one.relative_error)
    )


def by_layer(errors: Iterable[LayerError]) -> dict[tuple[str, int], float]:
    """The worst error by kind and layer, in the order of the model's first layer."""
    found: dict[tuple[str, int], float] = {}
    for one in errors:
        if one.layer is not None:
            place = (one.kind, one.layer)
            found[place] = max(found.get(place, 0.0), one.error)
    return found


def by_kind(errors: Sequence[LayerError]) -> tuple[KindError, ...]:
    """A row for each kind, the worst first."""
    kinds: dict[str, list[LayerError]] = {}
    for one in errors:
        kinds.setdefault(one.kind, []).append(one)
    rows = []
    for kind, members in kinds.items():
        worst = max(members, key=lambda one: one.error)
        mean = sum(one.error for one in members) / len(members)
        rows.append(KindError(kind, len(members), mean, worst.error, worst.name))
    return tuple(sorted(rows, key=lambda row: -row.worst))


def _placed(one: TensorError) -> LayerError:
    name = one.name.removesuffix(_ENDING)
    found = _LAYER.search(name)
    if found is None:
        return LayerError(_NUMBER.sub("*", name), None, one.name, one.relative_error)
    kind = _NUMBER.sub("*", f".{found[2]}.").strip(".")
    return LayerError(kind, int(found[1]), one.name, one.relative_error)
