"""A model's shape from its configuration: the family is found, its reader asked, what was assumed is noted.

Sizes come from the configuration, names and habits of a family from `table`. An architecture that is not
known is read by the usual keys and says so in `assumptions`; what is no language model is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.model.families.decoder import read_decoder
from bwdeploy.model.families.table import FAMILIES, ROOTS
from bwdeploy.model.families.traits import Traits, family_of
from bwdeploy.model.fields import Fields
from bwdeploy.model.problem import ShapeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.model.shape import ModelShape

__all__ = ["ShapeError", "read_shape"]

_DECODER_NAMES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_HYBRID = "nemotronh"
_OTHER_MIXERS = (
    "mamba", "ssm_", "attn_layer_period", "rwkv", "block_types", "block_configs", "compress_ratios",
    "linear_attn_config",
)  # fmt: skip
"""Starts of keys that tell of layers which the usual keys do not describe."""
_DRAFT = "Eagle3"
_USUAL = "the usual keys (hidden_size, num_attention_heads, intermediate_size …)"
_GENERIC = Traits(
    qkv_bias=("attention_bias", False), o_bias=("attention_bias", False), ffn_bias=("mlp_bias", False)
)


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
    model_type = fields.text("model_type") or text.text("model_type")
    tied = text.flag("tie_word_embeddings", default=fields.flag("tie_word_embeddings", default=traits.tied))
    try:
        shape = read_decoder(
            text, traits, architecture=architecture, model_type=model_type, origin=origin, tied=tied
        )
    except ShapeError as error:
        if error.kind != "missing-field" or known:
            raise
        raise _unknown(architecture, f"{error.field} is missing to read it by the usual keys") from None
    if nested and not text.has("dtype", "torch_dtype") and fields.has("dtype", "torch_dtype"):
        from bwdeploy.model.families.decoder import dtype_of  # noqa: PLC0415

        shape = shape._replace(dtype=dtype_of(fields), assumptions=())
    shape = shape._replace(known=known)
    return _with_vision(fields, shape, notes, family=family_of(architecture))


def _require_usual_layers(text: Fields, architecture: str) -> None:
    for key in text.config:
        if key.startswith(_OTHER_MIXERS) and text.has(key):
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
        if family == "llama4" and fields.has("text_config"):
            notes = (*notes, "there is no vision_config: its weights are not counted")
        return shape._replace(assumptions=(*notes, *shape.assumptions))
    from bwdeploy.model.families.vision import vision_weights  # noqa: PLC0415 - few recipes need it

    weights = vision_weights(vision, family=family, text_hidden=shape.hidden)
    if not weights:
        notes = (*notes, f"the vision weights of {shape.architecture} are not counted")
    return shape._replace(weights=(*shape.weights, *weights), assumptions=(*notes, *shape.assumptions))
