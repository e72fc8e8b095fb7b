"""FLUX.1's diffusion transformer: double-stream blocks for text and image, then single-stream blocks.

Follows the module names of diffusers' FluxTransformer2DModel. It keeps no KV cache; text encoders and the
image decoder of the pipeline are models of their own and not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.model.fields import MAX_LAYERS
from bwdeploy.model.problem import ShapeError
from bwdeploy.model.shape import Attention, FeedForward, Layer, ModelShape
from bwdeploy.model.weights import Place

if TYPE_CHECKING:
    from bwdeploy.model.fields import Fields
    from bwdeploy.model.shape import Role, Split, Weight

_FLUX = "FluxTransformer2DModel"
_TIME_CHANNELS = 256
_WIDENING = 4


def read_diffusion(fields: Fields, *, architecture: str, origin: str) -> ModelShape:
    """The shape of a FLUX transformer.

    Raises:
        ShapeError: another diffusers class, or a key is missing or impossible.
    """
    if architecture != _FLUX:
        raise ShapeError(
            "_class_name",
            f"{architecture} is not known here; of diffusers' models {_FLUX} is",
            "name a directory with its safetensors files: their headers are read instead",
            kind="unknown-architecture",
        )
    heads, head_dim = fields.number("num_attention_heads"), fields.number("attention_head_dim")
    hidden = heads * head_dim
    double, single = (fields.number(name, maximum=MAX_LAYERS) for name in ("num_layers", "num_single_layers"))
    # No cache, hence kind none; the heads stay for whoever splits them.
    attention = Attention("none", heads=heads, kv_heads=heads, head_dim=head_dim, value_dim=head_dim)
    layer = Layer(attention, FeedForward("dense", width=_WIDENING * hidden, gated=False))
    return ModelShape(
        architecture=architecture,
        model_type="flux",
        kind="diffusion",
        hidden=hidden,
        vocab=0,
        layers=(layer,) * (double + single),
        mtp_layers=(),
        weights=(
            *_inputs(fields, hidden),
            *_double_blocks(tuple(range(double)), hidden, head_dim),
            *_single_blocks(tuple(range(single)), hidden, head_dim),
            *_outputs(fields, hidden),
        ),
        tied_embeddings=False,
        max_positions=None,
        dtype="bfloat16",
        origin=origin,
        assumptions=("the text encoders and the image decoder of the pipeline are not counted",),
    )


def _linear(place: Place, name: str, role: Role, rows: int, columns: int) -> tuple[Weight, ...]:
    """Every linear layer of FLUX has a bias; its blocks are split as in a language model."""
    split: Split = "none"
    if role in {"attention", "ffn"}:
        split = "rows" if rows >= columns else "columns"
    if role == "attention_output":
        split = "columns"
    return place.matrix(name, role=role, rows=rows, columns=columns, split=split, bias=True)


def _inputs(fields: Fields, hidden: int) -> tuple[Weight, ...]:
    root, times = Place(""), Place("time_text_embed.")
    embedders = [
        ("timestep_embedder", _TIME_CHANNELS), ("text_embedder", fields.number("pooled_projection_dim")),
    ]  # fmt: skip
    if fields.flag("guidance_embeds", default=False):
        embedders.append(("guidance_embedder", _TIME_CHANNELS))
    return (
        *_linear(root, "x_embedder", "other", hidden, fields.number("in_channels")),
        *_linear(root, "context_embedder", "other", hidden, fields.number("joint_attention_dim")),
        *(
            weight
            for name, channels in embedders
            for weight in (
                *_linear(times.inside(name), "linear_1", "other", hidden, channels),
                *_linear(times.inside(name), "linear_2", "other", hidden, hidden),
            )
        ),
    )


def _double_blocks(layers: tuple[int, ...], hidden: int, head_dim: int) -> tuple[Weight, ...]:
    block = Place("transformer_blocks.{layer}.", layers)
    attention, wide = block.inside("attn"), _WIDENING * hidden
    weights: list[Weight] = []
    for name in ("norm1", "norm1_context"):
        weights += _linear(block, f"{name}.linear", "modulation", 6 * hidden, hidden)
    for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
        weights += _linear(attention, name, "attention", hidden, hidden)
    for name in ("to_out.0", "to_add_out"):
        weights += _linear(attention, name, "attention_output", hidden, hidden)
    for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
        weights += attention.norm(name, size=head_dim)
    for name in ("ff", "ff_context"):
        weights += _linear(block, f"{name}.net.0.proj", "ffn", wide, hidden)
        weights += _linear(block, f"{name}.net.2", "ffn", hidden, wide)
    return tuple(weights)


def _single_blocks(layers: tuple[int, ...], hidden: int, head_dim: int) -> tuple[Weight, ...]:
    block = Place("single_transformer_blocks.{layer}.", layers)
    attention, wide = block.inside("attn"), _WIDENING * hidden
    weights = list(_linear(block, "norm.linear", "modulation", 3 * hidden, hidden))
    for name in ("to_q", "to_k", "to_v"):
        weights += _linear(attention, name, "attention", hidden, hidden)
    for name in ("norm_q", "norm_k"):
        weights += attention.norm(name, size=head_dim)
    weights += _linear(block, "proj_mlp", "ffn", wide, hidden)
    weights += _linear(block, "proj_out", "ffn", hidden, hidden + wide)
    return tuple(weights)


def _outputs(fields: Fields, hidden: int) -> tuple[Weight, ...]:
    patch = fields.number("patch_size", default=1)
    channels = fields.number("out_channels", "in_channels")
    return (
        *_linear(Place("norm_out."), "linear", "other", 2 * hidden, hidden),
        *_linear(Place(""), "proj_out", "other", patch * patch * channels, hidden),
    )
