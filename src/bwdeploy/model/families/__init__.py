"""A model's shape from its configuration: the family is found, its reader asked, what was assumed is noted.

Sizes come from the configuration, names and habits of a family from `table`. An architecture that is not
known is read by the usual keys and says so in `assumptions`; what is no language model is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.model.families.decoder import NO_DTYPE, dtype_of, read_decoder
from bwdeploy.model.families.table import FAMILIES, ROOTS
from bwdeploy.model.families.traits import Experts, Traits, family_of
from bwdeploy.model.fields import Fields
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.model.shape import ModelShape

__all__ = ["ShapeError", "read_shape"]

_DECODER_NAMES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_HYBRID = "nemotronh"
_MIXED_HEADS = "gemma4"
_OTHER_LAYERS = (
    "mamba", "ssm_", "attn_layer_period", "rwkv", "block_types", "block_configs", "compress_ratios",
    "linear_attn_config", "global_head_dim", "num_global_key_value_heads", "hidden_size_per_layer_input",
    "swa_", "conv_", "multi_query", "new_decoder_architecture", "type_vocab_size", "zero_expert_num",
    "keep_window_size", "sparse_attention_config", "shared_expert_dim", "share_expert_dim", "kv_channels",
    "moe_layers_enum", "full_attn_alpha_factor", "n_positions", "n_embd", "expand_ratio", "L_layers",
    "H_layers",
)  # fmt: skip
"""Starts of keys that tell of layers which the usual keys do not describe."""
_DRAFT = "Eagle3"
_USUAL = "the usual keys (hidden_size, num_attention_heads, intermediate_size …)"
_GENERIC = Traits(
    qkv_bias=("attention_bias", False), o_bias=("attention_bias", False), ffn_bias=("mlp_bias", False),
    experts=Experts(other_width_keys=("intermediate_size", "ffn_hidden_size")),
)  # fmt: skip


def read_shape(config: Mapping[str, Any], *, origin: str) -> ModelShape:
    """The shape that a Hugging Face or diffusers configuration describes; `origin` is for messages.

    Raises:
        ShapeError: a key is missing or impossible, or it is no language or diffusion model.
    """
    fields = Fields(config)
    diffusion = fields.text("_class_name")
    if diffusion:
        from bwdeploy.model.families.diffusion import read_diffusion  # noqa: PLC0415 - few recipes need it

        return read_diffusion(fields, architecture=diffusion, origin=origin)
    architecture = _architecture(fields)
    text = fields.section("text_config") or fields.section("llm_config") or fields
    family = family_of(architecture)
    if _DRAFT in architecture:
        from bwdeploy.model.families.draft import read_draft  # noqa: PLC0415 - few recipes need it

        return read_draft(fields, architecture=architecture, origin=origin)
    if family == _HYBRID:
        from bwdeploy.model.families.hybrid import read_hybrid  # noqa: PLC0415 - few recipes need it

        return read_hybrid(fields, architecture=architecture, origin=origin)
    if family == _MIXED_HEADS:
        from bwdeploy.model.families.gemma4 import read_gemma4  # noqa: PLC0415 - few recipes need it

        root = "model." if text is fields else "model.language_model."
        model_type = fields.text("model_type")
        shape = read_gemma4(text, architecture=architecture, model_type=model_type, origin=origin, root=root)
        return _with_vision(fields, shape, (), family=family)
    return _read_text(fields, text, architecture=architecture, origin=origin)


def _architecture(fields: Fields) -> str:
    names = fields.words("architectures") or ()
    model_type = fields.text("model_type")
    if not names:
        if family_of(model_type) in FAMILIES:
            return model_type
        raise fields.missing("architectures")
    name = names[0]
    if fields.flag("is_encoder_decoder", default=False):
        raise _not_a_language_model(name, "an encoder-decoder model")
    if not (any(name.endswith(end) for end in _DECODER_NAMES) or _DRAFT in name):
        raise _not_a_language_model(name, "no model that writes text token by token")
    return name


def _not_a_language_model(name: str, what: str) -> ShapeError:
    return ShapeError(
        "architectures",
        f"{name} is {what}",
        "name a decoder-only language model (…ForCausalLM) or a diffusion transformer",
        kind="not-a-language-model",
    )


def _read_text(fields: Fields, text: Fields, *, architecture: str, origin: str) -> ModelShape:
    traits, notes, known = _traits(fields, text, architecture)
    if not known:
        _require_usual_layers(text, architecture)
    nested = text is not fields
    text = text.with_defaults(traits.sizes)
    model_type = fields.text("model_type") or text.text("model_type")
    tied, tie_note = _tied(fields, text, default=traits.tied)
    notes = (*notes, *tie_note)
    try:
        shape = read_decoder(
            text, traits, architecture=architecture, model_type=model_type, origin=origin, tied=tied
        )
    except ShapeError as error:
        if error.kind != "missing-field" or known:
            raise
        raise _unknown(architecture, f"{error.field} is missing to read it by the usual keys") from None
    if nested and not text.has("dtype", "torch_dtype") and fields.has("dtype", "torch_dtype"):
        kept = tuple(note for note in shape.assumptions if note != NO_DTYPE)
        shape = shape._replace(dtype=dtype_of(fields), assumptions=kept)
    if not known and any(layer.attention.kind == "none" for layer in shape.layers):
        raise _unknown(architecture, "its key layer_types tells of layers without attention")
    shape = shape._replace(known=known)
    return _with_vision(fields, shape, notes, family=family_of(architecture))


def _tied(fields: Fields, text: Fields, *, default: bool) -> tuple[bool, tuple[str, ...]]:
    """Whether the head is the embedding: transformers 5 asks the whole model's key, 4 the text model's."""
    inner = text.flag("tie_word_embeddings", default=fields.flag("tie_word_embeddings", default=default))
    tied = fields.flag("tie_word_embeddings", default=inner)
    if tied == inner:
        return tied, ()
    word = "the embedding itself" if tied else "a matrix of its own"
    return tied, (f"tie_word_embeddings differs inside text_config: the head is taken to be {word}",)


def _require_usual_layers(text: Fields, architecture: str) -> None:
    for key in text.config:
        if key.startswith(_OTHER_LAYERS) and text.config[key]:
            raise _unknown(architecture, f"its key {key} tells of layers that the usual keys do not describe")


def _unknown(architecture: str, why: str) -> ShapeError:
    return ShapeError(
        "architectures",
        f"{architecture} is not known here, and {why}",
        "name a directory with its safetensors files: their headers are read instead",
        kind="unknown-architecture",
    )


def _traits(fields: Fields, text: Fields, architecture: str) -> tuple[Traits, tuple[str, ...], bool]:
    """The family's traits, with its root in a model that sees; what was assumed; whether it is known."""
    family = family_of(architecture)
    nested = text is not fields
    inner = (*(text.words("architectures") or ()), text.text("model_type")) if nested else ()
    known = next(
        (FAMILIES[word] for word in map(family_of, (*inner, architecture)) if word in FAMILIES), None
    )
    notes = () if known else (f"the architecture {architecture} is not known here: read by {_USUAL}",)
    traits = known or _GENERIC
    if not nested:
        return traits, notes, known is not None
    root = ROOTS.get(family)
    if root is None and known:
        notes = (f"the names of {architecture}'s modules are not known here: read as language_model.model…",)
    prefix, head = root or ("language_model.model.", "language_model.lm_head")
    return traits._replace(names=traits.names._replace(root=prefix, head=head)), notes, known is not None


def _with_vision(fields: Fields, shape: ModelShape, notes: tuple[str, ...], *, family: str) -> ModelShape:
    vision = fields.section("vision_config")
    if vision is None:
        if fields.has("text_config", "llm_config"):
            notes = (*notes, "there is no vision_config: its weights are not counted")
        return shape._replace(assumptions=(*notes, *shape.assumptions))
    from bwdeploy.model.families.vision import vision_weights  # noqa: PLC0415 - few recipes need it

    weights = vision_weights(vision, family=family, text_hidden=shape.hidden)
    if not weights:
        notes = (*notes, f"the vision weights of {shape.architecture} are not counted")
    return shape._replace(weights=(*shape.weights, *weights), assumptions=(*notes, *shape.assumptions))
