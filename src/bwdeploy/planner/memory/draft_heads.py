"""Draft heads inside an engine: their weights, and the KV cache of EAGLE's layer.

EAGLE has a whole small network for each token of its longest path, with embedding and head
(tensorrt_llm/models/eagle/model.py @89fd9b74ab7a); all share one cache. Medusa has a residual layer and a
head for each token and no cache. Whether TensorRT keeps equal weights once is not known: each is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.facts.draft_trees import draft_tree
from bwdeploy.model.describe import describe_source
from bwdeploy.model.shape import Attention, Weight

if TYPE_CHECKING:
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe, Speculative

_OUTSIDE = frozenset({"embedding", "head"})


class HeadsPlan(NamedTuple):
    """The heads of an engine."""

    weights: tuple[Weight, ...]
    attention: tuple[Attention, ...]
    """One for each layer with a cache."""
    note: str


def plan_heads(recipe: Recipe, section: Speculative, shape: ModelShape) -> HeadsPlan:
    """What the heads of `section` add to an engine of the model `shape`."""
    depth = draft_tree(section.method, section.longest_draft, recipe.serve.engine_parameters).depth
    if section.method == "medusa":
        return HeadsPlan(_medusa(section, shape) * depth, (), f"{depth} Medusa heads are counted")
    found = describe_source(section.draft).shape if section.draft is not None else None
    eagle = found if found is not None and found.layers else None
    weights = eagle.weights if eagle is not None else _layer_like(shape)
    attention = (eagle or shape).layers[:1]
    origin = "as configured" if eagle is not None else "one layer like the target's each"
    return HeadsPlan(
        weights=(*weights, *_joint(shape, weights)) * depth,
        attention=tuple(layer.attention for layer in attention),
        note=f"{depth} EAGLE networks are counted, {origin}, with embedding and head",
    )


def _layer_like(shape: ModelShape) -> tuple[Weight, ...]:
    """The first layer of the target, its embedding and its head."""
    return tuple(
        one._replace(layers=one.layers[:1])
        for one in shape.weights
        if not one.mtp and (one.role in _OUTSIDE or 0 in one.layers)
    )


def _joint(shape: ModelShape, weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """What joins embedding and hidden state, and a head where the target's is tied to its embedding."""
    joint = Weight("fc", "other", shape.hidden, 2 * shape.hidden)
    if any(one.role == "head" for one in weights):
        return (joint,)
    return (joint, Weight("lm_head", "head", shape.vocab, shape.hidden, split="rows"))


def _medusa(section: Speculative, shape: ModelShape) -> tuple[Weight, ...]:
    said = (describe_source(section.draft).config or {}).get("medusa_num_layers") if section.draft else 1
    layers = said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else 1
    layer = Weight("medusa_layers", "other", shape.hidden, shape.hidden, split="rows")
    return (*(layer,) * layers, Weight("lm_head", "head", shape.vocab, shape.hidden, split="rows"))
