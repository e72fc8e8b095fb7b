"""Which convert_checkpoint.py of TensorRT-LLM's examples converts a model, and how its options are spelled.

Only scripts whose parser was read are listed. Paths start at the examples' directory (1.0 to 1.2).
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Script(NamedTuple):
    """One script."""

    name: str
    path: str
    dtype: str = "auto"
    """What to ask for: auto follows the model, where the script has it; the others keep bf16."""
    pipeline: bool = True
    """Whether it takes --pp_size."""
    experts: bool = False
    """Whether it takes --moe_tp_size and --moe_ep_size."""
    reads: frozenset[str] = frozenset()
    """Quantized sources that it reads: quant_algo of ModelOpt, quant_method of others."""
    fixed: tuple[str, ...] = ()
    model_flag: str = "--model_dir"
    out_flag: str = "--output_dir"
    tp_flag: str = "--tp_size"
    heads: Literal["", "eagle", "medusa"] = ""
    """The draft heads that it converts with the model."""
    heads_flag: str = ""
    """How their directory is spelled."""
    draft_flag: str = ""
    """How the number of drafted tokens is spelled."""
    depth_flag: str = ""
    """How the tokens that one step can accept are spelled."""


_LLAMA = Script(
    "llama",
    "models/core/llama/convert_checkpoint.py",
    experts=True,
    reads=frozenset({"FP8", "NVFP4", "awq", "gptq", "fbgemm_fp8"}),
)
_QWEN = Script(
    "qwen", "models/core/qwen/convert_checkpoint.py", experts=True, reads=frozenset({"awq", "gptq"})
)
_PHI = Script("phi", "models/core/phi/convert_checkpoint.py", experts=True, pipeline=False)
_GPT = Script("gpt", "models/core/gpt/convert_checkpoint.py", reads=frozenset({"FP8"}))
_GEMMA = Script(
    "gemma",
    "models/core/gemma/convert_checkpoint.py",
    pipeline=False,
    fixed=("--ckpt-type", "hf"),
    tp_flag="--world-size",
)
_INTERNLM2 = Script("internlm2", "models/core/internlm2/convert_checkpoint.py", dtype="bfloat16")
_COMMANDR = Script("commandr", "models/core/commandr/convert_checkpoint.py")
_DEEPSEEK_V2 = Script(
    "deepseek_v2", "models/contrib/deepseek_v2/convert_checkpoint.py", dtype="bfloat16", experts=True
)
_MEDUSA = Script(
    "medusa",
    "medusa/convert_checkpoint.py",
    dtype="bfloat16",
    heads="medusa",
    heads_flag="--medusa_model_dir",
    draft_flag="--max_medusa_token_len",
    depth_flag="--num_medusa_heads",
)
"""@b93e14ca093e. A source that ModelOpt quantized with its heads (config.json has `medusa`) is recognized."""
_EAGLE = Script(
    "eagle",
    "eagle/convert_checkpoint.py",
    dtype="bfloat16",
    pipeline=False,
    heads="eagle",
    heads_flag="--eagle_model_dir",
    draft_flag="--max_draft_len",
    depth_flag="--num_eagle_layers",
)
"""@65b31db1b401. Without --eagle_model_dir it reads heads and quantization of the model (`eagle`)."""

_BY_ARCHITECTURE = {
    **dict.fromkeys(
        (
            "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "GraniteForCausalLM",
            "GraniteMoeForCausalLM", "ExaoneForCausalLM", "InternLMForCausalLM", "SkyworkForCausalLM",
            "ArcticForCausalLM",
        ),
        _LLAMA,
    ),
    **dict.fromkeys(
        (
            "QWenLMHeadModel", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM",
            "Qwen3MoeForCausalLM",
        ),
        _QWEN,
    ),
    **dict.fromkeys(
        ("PhiForCausalLM", "Phi3ForCausalLM", "Phi3SmallForCausalLM", "PhiMoEForCausalLM"), _PHI
    ),
    **dict.fromkeys(
        ("GPT2LMHeadModel", "GPTBigCodeForCausalLM", "Starcoder2ForCausalLM", "NemotronForCausalLM"), _GPT
    ),
    **dict.fromkeys(("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"), _GEMMA),
    "InternLM2ForCausalLM": _INTERNLM2,
    "CohereForCausalLM": _COMMANDR,
    "DeepseekV2ForCausalLM": _DEEPSEEK_V2,
}  # fmt: skip
MEDUSA_BASES = {"LlamaForCausalLM": "llama", "MixtralForCausalLM": "mixtral", "Qwen2ForCausalLM": "qwen2"}
"""Architecture → --model_type of the Medusa script."""


def script_of(architecture: str | None, *, heads: str = "") -> Script | None:
    """The script that converts models of this architecture, None when none is known.

    Whether EAGLE has a model class for it is not judged here: `checks` says it of every recipe.
    """
    if heads == "eagle":
        return _EAGLE
    if heads == "medusa":
        return _MEDUSA if architecture in MEDUSA_BASES else None
    return _BY_ARCHITECTURE.get(architecture or "")


def scripts() -> tuple[Script, ...]:
    """Every script that is known."""
    return tuple(dict.fromkeys((*_BY_ARCHITECTURE.values(), _MEDUSA, _EAGLE)))
