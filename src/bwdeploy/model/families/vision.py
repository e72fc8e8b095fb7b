"""The part of a multimodal model that sees: one vision transformer and its projector, as plain weights.

Llama 4, Gemma 3 and Qwen3-VL are written out; of other families nothing is counted, which the shape says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.fields import MAX_LAYERS
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Weight

_COLORS = 3


def vision_weights(fields: Fields, *, family: str, text_hidden: int) -> tuple[Weight, ...]:
    """The weights of the vision tower; none where the family is not written out here.

    Raises:
        ShapeError: a key is missing or impossible.
    """
    reader = _READERS.get(family)
    weights = reader(fields, text_hidden) if reader else ()
    return tuple(weight._replace(role="vision") for weight in weights)


def _llama4(fields: Fields, text_hidden: int) -> tuple[Weight, ...]:
    hidden, patch = fields.number("hidden_size"), fields.number("patch_size")
    patches = (fields.number("image_size") // patch) ** 2 + 1
    wide, out = fields.number("projector_input_dim"), fields.number("projector_output_dim")
    seen = fields.number("vision_output_dim", default=out)
    tower = Place("vision_model.")
    adapter = tower.inside("vision_adapter.mlp")
    pixels = _COLORS * patch * patch
    return (
        *tower.inside("patch_embedding").matrix("linear", role="vision", rows=hidden, columns=pixels),
        *tower.vector("class_embedding", size=hidden, role="vision"),
        *tower.matrix("positional_embedding_vlm", role="vision", rows=patches, columns=hidden),
        *_norms(tower, ("layernorm_pre", "layernorm_post"), hidden),
        *_blocks(tower.inside("model.layers.{layer}"), fields, hidden, output="o_proj"),
        *adapter.matrix("fc1", role="vision", rows=wide, columns=fields.number("intermediate_size")),
        *adapter.matrix("fc2", role="vision", rows=out, columns=wide),
        *Place("multi_modal_projector.").matrix("linear_1", role="vision", rows=text_hidden, columns=seen),
    )


def _gemma3(fields: Fields, text_hidden: int) -> tuple[Weight, ...]:
    hidden, patch = fields.number("hidden_size"), fields.number("patch_size")
    patches = (fields.number("image_size") // patch) ** 2
    tower = Place("vision_tower.vision_model.")
    embeddings = tower.inside("embeddings")
    layers = tower.inside("encoder.layers.{layer}")
    projector = Place("multi_modal_projector.")
    return (
        *embeddings.matrix(
            "patch_embedding", role="vision", rows=hidden, columns=_COLORS * patch * patch, bias=True
        ),
        *embeddings.matrix("position_embedding", role="vision", rows=patches, columns=hidden),
        *_blocks(layers, fields, hidden, output="out_proj", norms=("layer_norm1", "layer_norm2")),
        *_norms(tower, ("post_layernorm",), hidden),
        *projector.vector("mm_input_projection_weight", size=hidden * text_hidden, role="vision"),
        *projector.norm("mm_soft_emb_norm", size=hidden),
    )


def _qwen3(fields: Fields, text_hidden: int) -> tuple[Weight, ...]:
    """Qwen3-VL and Qwen3.5; only the former looks at inner layers too (deepstack)."""
    hidden, patch = fields.number("hidden_size"), fields.number("patch_size")
    out, merged = fields.number("out_hidden_size", default=text_hidden), fields.number("spatial_merge_size")
    pixels = fields.number("in_channels", default=_COLORS) * fields.number("temporal_patch_size") * patch**2
    positions, wide = fields.number("num_position_embeddings"), hidden * merged**2
    width, inner = fields.number("intermediate_size"), fields.integers("deepstack_visual_indexes") or ()
    tower = Place("model.visual.")
    layers = tuple(range(fields.number("depth", maximum=MAX_LAYERS)))
    blocks = tower.inside("blocks.{layer}")._replace(layers=layers)
    deep = tower.inside("deepstack_merger_list.{layer}")._replace(layers=tuple(range(len(inner))))
    sizes = (
        (tower, "patch_embed.proj", hidden, pixels),
        (blocks, "attn.qkv", 3 * hidden, hidden),
        (blocks, "attn.proj", hidden, hidden),
        (blocks, "mlp.linear_fc1", width, hidden),
        (blocks, "mlp.linear_fc2", hidden, width),
        *(
            row
            for place in (tower.inside("merger"), *((deep,) if inner else ()))
            for row in ((place, "linear_fc1", wide, wide), (place, "linear_fc2", out, wide))
        ),
    )
    return (
        *tower.matrix("pos_embed", role="vision", rows=positions, columns=hidden),
        *(
            weight
            for place, name, rows, columns in sizes
            for weight in place.matrix(name, role="vision", rows=rows, columns=columns, bias=True)
        ),
        *_norms(blocks, ("norm1", "norm2"), hidden),
        *_norms(tower, ("merger.norm",), hidden),
        *(_norms(deep, ("norm",), wide) if inner else ()),
    )


def _blocks(
    place: Place,
    fields: Fields,
    hidden: int,
    *,
    output: str,
    norms: tuple[str, str] = ("input_layernorm", "post_attention_layernorm"),
) -> tuple[Weight, ...]:
    """The layers of a vision transformer: every linear layer and norm has a bias."""
    layers = tuple(range(fields.number("num_hidden_layers", maximum=MAX_LAYERS)))
    width = fields.number("intermediate_size")
    inside = place._replace(layers=layers)
    sizes = (
        *((f"self_attn.{name}", hidden, hidden) for name in ("q_proj", "k_proj", "v_proj", output)),
        ("mlp.fc1", width, hidden),
        ("mlp.fc2", hidden, width),
    )
    return (
        *(
            weight
            for name, rows, columns in sizes
            for weight in inside.matrix(name, role="vision", rows=rows, columns=columns, bias=True)
        ),
        *_norms(inside, norms, hidden),
    )


def _norms(place: Place, names: tuple[str, ...], hidden: int) -> tuple[Weight, ...]:
    return tuple(weight for name in names for weight in place.norm(name, size=hidden, bias=True))


_READERS = {
    "llama4": _llama4, "gemma3": _gemma3, "qwen3vl": _qwen3, "qwen3vlmoe": _qwen3, "qwen35": _qwen3,
    "qwen35moe": _qwen3,
}  # fmt: skip
