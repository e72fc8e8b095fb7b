"""Rules on the model's configuration."""

from __future__ import annotations

from typing import Any

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

_COMPARE = "Compare with the config.json that the model's publisher ships"
_SOURCE = "model.source"


def llama(**changes: Any) -> dict[str, Any]:
    """The small Llama with other keys; None takes one away."""
    return {key: value for key, value in (SMALL_LLAMA | changes).items() if value is not None}


def impossible(config: dict[str, Any], message: str) -> Fires:
    return Fires("model-config-impossible", (), _SOURCE, message, hint=_COMPARE, config=config)


_HUB = "model.source=hf://org/name@0123456789abcdef0123456789abcdef01234567"
_FLUX = {
    "_class_name": "FluxTransformer2DModel",
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 64,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}

FIRES = (
    Fires(
        "model-not-here",
        (_HUB,),
        _SOURCE,
        "its configuration is not on this machine: layers, memory and layout are not looked at",
        "info",
        "Fetch its configuration: `hf download org/name config.json --revision "
        "0123456789abcdef0123456789abcdef01234567`",
    ),
    Fires(
        "model-diffusion",
        (),
        _SOURCE,
        "FluxTransformer2DModel makes pictures: its memory is planned, nothing of it is built",
        "warning",
        "Use `bwdeploy plan`; NVIDIA/TensorRT demo/Diffusion builds and runs such pipelines",
        config=_FLUX,
    ),
    Fires(
        "model-config-unreadable",
        (),
        _SOURCE,
        "<tmp>/model/config.json has 5.0 MiB; no configuration is larger than 4 MiB",
        hint="Copy it again from the model's publisher",
        config={"padding": " " * (5 * 2**20)},
    ),
    Fires(
        "model-config-incomplete",
        (),
        _SOURCE,
        "num_hidden_layers is missing",
        hint=_COMPARE,
        config=llama(num_hidden_layers=None),
    ),
    Fires(
        "model-config-incomplete", (), _SOURCE, "architectures is missing", config={"hidden_size": 2048}
    ),
    impossible(llama(num_hidden_layers=-3), "num_hidden_layers is -3; it must be at least 1"),
    impossible(llama(hidden_size="2048"), "hidden_size is '2048', not a whole number"),
    impossible(llama(num_attention_heads=True), "num_attention_heads is true, not a whole number"),
    impossible(llama(vocab_size=10**12), "vocab_size is 1000000000000; it must be at most 16777216"),
    impossible(
        llama(num_key_value_heads=5), "num_key_value_heads is 5, which does not divide 32 heads"
    ),
    impossible(
        llama(num_attention_heads=24),
        "num_attention_heads is 24, which does not divide hidden_size 2048, and there is no head_dim",
    ),
    impossible(
        llama(architectures=["MixtralForCausalLM"], num_local_experts=8, num_experts_per_tok=9),
        "num_experts_per_tok is 9, but there are 8 experts",
    ),
    impossible(llama(layer_types=["full_attention"]), "layer_types has 1 entries for 16 layers"),
    impossible(llama(architectures="LlamaForCausalLM"), "architectures is 'LlamaForCausalLM', not a list"),
    Fires(
        "model-not-a-language-model",
        (),
        _SOURCE,
        "BertModel is no model that writes text token by token",
        hint="Name a decoder-only language model (…ForCausalLM) or a diffusion transformer",
        config=llama(architectures=["BertModel"], model_type="bert"),
    ),
    Fires(
        "model-not-a-language-model",
        (),
        _SOURCE,
        "T5ForConditionalGeneration is an encoder-decoder model",
        config={
            "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "is_encoder_decoder": True
        },
    ),
    Fires(
        "model-unknown",
        (),
        _SOURCE,
        "FooForCausalLM is not known here, and hidden_size is missing to read it by the usual keys",
        severity="warning",
        hint="Name a directory with its safetensors files: their headers are read instead",
        config={"architectures": ["FooForCausalLM"]},
    ),
    Fires(
        "model-assumed",
        (),
        _SOURCE,
        "the architecture FooForCausalLM is not known here: read by the usual keys "
        "(hidden_size, num_attention_heads, intermediate_size …)",
        severity="warning",
        hint="Compare the plan's number of parameters with the publisher's before you trust its memory",
        config=llama(architectures=["FooForCausalLM"], model_type="foo"),
    ),
    Fires(
        "model-positions-exceeded",
        ("engine.max_seq_len=131073",),
        "engine.max_seq_len",
        "131073 tokens, but the model's positions end at 131072",
        severity="warning",
        hint="Lower it to 131072, or write the rope scaling that the model is made for into config.json",
    ),
)  # fmt: skip

_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
SILENT = (
    Silent("model-not-here", ("model.source=hf://meta-llama/Llama-3.1-8B-Instruct@main",)),
    Silent("model-not-here", ()),
    Silent("model-diffusion", ()),
    Silent("model-config-unreadable", (), config=llama(padding=" " * (3 * 2**20))),
    Silent("model-config-incomplete", ()),
    Silent("model-config-incomplete", (), config=llama(architectures=None)),
    Silent("model-config-impossible", ()),
    Silent("model-config-impossible", (), config=llama(num_attention_heads=24, head_dim=128)),
    Silent("model-not-a-language-model", ()),
    Silent("model-unknown", ()),
    Silent("model-unknown", ("model.source=hf://some/model@" + "0" * 40,)),
    Silent("model-assumed", ()),
    Silent("model-positions-exceeded", ("engine.max_seq_len=131072",)),
    Silent(
        "model-positions-exceeded",
        ("engine.max_seq_len=131072",),
        config=llama(max_position_embeddings=40960, rope_scaling=_YARN),
    ),
)
