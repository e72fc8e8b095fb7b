"""What the quantize section says, and the gate."""

from __future__ import annotations

from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import FP8_BLOCK, LLAMA, MIXTRAL, quantized

FIRES = (
    Fires(
        "quantize-format-missing",
        (
            "quantize={method: ptq}",
            "quantize.format=null",
        ),
        "quantize",
        "method ptq needs a format or a ModelOpt recipe",
        hint="Add quantize.format, for example nvfp4, or set quantize.method: none",
    ),
    Fires(
        "quantize-format-missing",
        (
            "quantize={method: qad}",
            "quantize.format=null",
        ),
        "quantize",
        "method qad needs a format or a ModelOpt recipe",
        hint="Add quantize.format, for example nvfp4, or set quantize.method: none",
    ),
    Fires(
        "quantize-format-and-recipe",
        ("quantize.recipe=general/ptq/x",),
        "quantize.format",
        "a ModelOpt recipe decides the format itself",
        hint="Remove quantize.format or quantize.recipe",
    ),
    Fires(
        "quantize-setting-unused",
        ("quantize.method=none",),
        "quantize.format",
        "method none quantizes nothing, so format has no effect",
        hint="Remove it, or set quantize.method: ptq",
    ),
    Fires(
        "quantize-setting-unused",
        (
            "quantize={method: prequantized, kv_cache: fp8}",
            "quantize.format=null",
        ),
        "quantize.kv_cache",
        "method prequantized quantizes nothing, so kv_cache has no effect",
        hint="Remove it, or set quantize.method: ptq",
    ),
    Fires(
        "quantize-overrides-with-recipe",
        ("quantize={recipe: general/x, format: null, overrides: [{modules: a, format: fp8}]}",),
        "quantize.overrides",
        "overrides change a format, and this recipe hands that to a ModelOpt recipe",
        hint="Write the patterns into the ModelOpt recipe",
    ),
    Fires(
        "quantize-override-shadowed",
        ("quantize.overrides=[{modules: a, format: fp8}, {modules: a, format: nvfp4}]",),
        "quantize.overrides[0]",
        "a later entry covers every module of 'a', so this one has no effect",
        "warning",
        hint="Remove it, or put it after the later one",
    ),
    Fires(
        "quantize-override-shadowed",
        ("quantize.overrides=[{modules: a, format: fp8}, {modules: '*', format: nvfp4}]",),
        "quantize.overrides[0]",
        "a later entry covers every module of 'a', so this one has no effect",
        "warning",
        hint="Remove it, or put it after the later one",
    ),
    Fires(
        "quantize-override-everything",
        ("quantize.overrides=[{modules: '*', format: none}]",),
        "quantize.overrides[0]",
        "this leaves every module unquantized",
        hint="Name the modules, or set quantize.method: none",
    ),
    Fires(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.layers.0.mlp.donw_proj', format: fp8}]",),
        "quantize.overrides[0].modules",
        ("'*.layers.0.mlp.donw_proj' matches no linear layer of the model (<tmp>/model/config.json)"),
        "warning",
        hint="Did you mean a pattern for model.layers.0.mlp.down_proj or model.layers.0.mlp.up_proj",
    ),
    Fires(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.layers.16.*', format: fp8}]",),
        "quantize.overrides[0].modules",
        "'*.layers.16.*' matches no linear layer of the model (<tmp>/model/config.json)",
        "warning",
        hint=(
            "A layer is named, for example, model.layers.0.self_attn.q_proj, and the last one "
            "has the number 15"
        ),
    ),
    Fires(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.experts.8.*', format: fp8}]",),
        "quantize.overrides[0].modules",
        "'*.experts.8.*' matches no linear layer of the model (<tmp>/model/config.json)",
        "warning",
        hint="The last expert is model.layers.3.block_sparse_moe.experts.7.w2",
        config=MIXTRAL,
    ),
    Fires(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.experts.*', format: fp8}]",),
        "quantize.overrides[0].modules",
        "'*.experts.*' matches no linear layer of the model (<tmp>/model/config.json)",
        "warning",
        hint="Remove it: the model has no experts",
    ),
    Fires(
        "quantize-recipe-name",
        ("quantize={format: null, recipe: ../x}",),
        "quantize.recipe",
        "'../x' is neither the name of a ModelOpt recipe nor a file:// path",
        hint="Write a name such as general/ptq/nvfp4_default-kv_fp8_cast, or file://my_recipe.yaml",
    ),
    Fires(
        "quantize-recipe-name",
        ("quantize={format: null, recipe: /etc/x}",),
        "quantize.recipe",
        "'/etc/x' is neither the name of a ModelOpt recipe nor a file:// path",
        hint="Write a name such as general/ptq/nvfp4_default-kv_fp8_cast, or file://my_recipe.yaml",
    ),
    Fires(
        "quantize-source-and-method",
        (),
        "quantize.method",
        "the source is already quantized (FP8 with block scales), so method ptq does not apply",
        hint=(
            "Set quantize.method: prequantized to serve it as it is, or name the bf16 model as model.source"
        ),
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Fires(
        "quantize-source-and-method",
        (
            "quantize={method: none}",
            "quantize.format=null",
        ),
        "quantize.method",
        "the source is already quantized (W4A16 AWQ), so method none does not apply",
        hint=(
            "Set quantize.method: prequantized to serve it as it is, or name the bf16 model as model.source"
        ),
        config=quantized(LLAMA, quant_method="awq", bits=4),
    ),
    Fires(
        "quantize-source-and-method",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
        "quantize.method",
        "the source is not quantized: neither config.json nor hf_quant_config.json says how",
        hint="Set quantize.method: ptq with a format, or method: none",
    ),
    Fires(
        "quantize-experts-on-dense",
        ("quantize.format=nvfp4_experts_only",),
        "quantize.format",
        "nvfp4_experts_only quantizes routed experts only, and LlamaForCausalLM has none",
        hint="Set quantize.format: nvfp4 or nvfp4_mlp_only",
    ),
    Fires(
        "quantize-format-on-gpu",
        ("layout.gpu=H100",),
        "quantize.format",
        "TensorRT-LLM has no nvfp4 kernels for h100 (SM90)",
        hint="Choose one of: fp8, fp8_block_weight_only, fp8_per_channel_per_token",
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.method=qat",
        ),
        "quantize.format",
        "TensorRT-LLM has no nvfp4 kernels for h100 (SM90)",
        hint="Choose one of: fp8, fp8_block_weight_only, fp8_per_channel_per_token",
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=RTX5090",
            "quantize.format=fp8_block_weight_only",
        ),
        "quantize.format",
        "TensorRT-LLM has no fp8_block_weight_only kernels for rtx5090 (SM120)",
        hint=(
            "Choose one of: fp8, nvfp4, nvfp4_awq_lite, nvfp4_experts_only, nvfp4_four_over_six, "
            "nvfp4_mlp_only, nvfp4_mlp_weight_only, nvfp4_omlp_only, nvfp4_weight_only"
        ),
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=RTX5090",
            "quantize.format=fp8_block_weight_only",
            "engine.tensorrt_llm='1.3.0rc20'",
        ),
        "quantize.format",
        ("TensorRT-LLM has no fp8_block_weight_only kernels for rtx5090 (SM120) that upstream documents"),
        "warning",
        hint=(
            "Choose one of: fp8, nvfp4, nvfp4_awq_lite, nvfp4_experts_only, nvfp4_four_over_six, "
            "nvfp4_mlp_only, nvfp4_mlp_weight_only, nvfp4_omlp_only, nvfp4_weight_only"
        ),
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=B300",
            "quantize.format=fp8_per_channel_per_token",
        ),
        "quantize.format",
        "TensorRT-LLM has no fp8_per_channel_per_token kernels for b300 (SM103)",
        hint=(
            "Choose one of: fp8, fp8_block_weight_only, nvfp4, nvfp4_awq_lite, "
            "nvfp4_experts_only, nvfp4_four_over_six, nvfp4_mlp_only, nvfp4_mlp_weight_only, "
            "nvfp4_omlp_only, nvfp4_weight_only, w4a8_mxfp4_fp8, w4a8_nvfp4_fp8"
        ),
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.format=nvfp4_weight_only",
        ),
        "quantize.format",
        "TensorRT-LLM has no nvfp4_weight_only kernels for h100 (SM90) that upstream documents",
        "warning",
        hint="Choose one of: fp8, fp8_block_weight_only, fp8_per_channel_per_token",
    ),
    Fires(
        "quantize-format-on-gpu",
        ("layout.gpu=dgx-spark",),
        "quantize.format",
        "TensorRT-LLM has no nvfp4 kernels for dgx_spark (SM121) that upstream documents",
        "warning",
        hint="Try it there before you rely on it",
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize={format: fp8, overrides: [{modules: a, format: nvfp4}]}",
        ),
        "quantize.overrides[0].format",
        "TensorRT-LLM has no nvfp4 kernels for h100 (SM90)",
        hint="Choose one of: fp8, fp8_block_weight_only, fp8_per_channel_per_token",
    ),
    Fires(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "engine.tensorrt_llm='1.3.0rc20'",
            "engine.llm_args={nvfp4_gemm_config: {allowed_backends: [marlin]}}",
        ),
        "quantize.format",
        "TensorRT-LLM has no nvfp4 kernels for h100 (SM90) that upstream documents",
        "warning",
        hint="Choose one of: fp8, fp8_block_weight_only, fp8_per_channel_per_token",
    ),
    Fires(
        "gate-bits-impossible",
        ("gate.max_bits_per_weight=4.2",),
        "gate.max_bits_per_weight",
        "no checkpoint of this recipe can have fewer than 4.5 bits per weight",
        hint="Raise it to 4.5 or more, or drop the limit",
    ),
)
SILENT = (
    Silent("quantize-format-missing", ()),
    Silent(
        "quantize-format-missing",
        (
            "quantize={method: qat, recipe: general/x}",
            "quantize.format=null",
        ),
    ),
    Silent(
        "quantize-format-missing",
        (
            "quantize={method: none}",
            "quantize.format=null",
        ),
    ),
    Silent(
        "quantize-format-and-recipe",
        (
            "quantize={recipe: general/x}",
            "quantize.format=null",
        ),
    ),
    Silent("quantize-setting-unused", ("quantize={method: qad, kv_cache: fp8}",)),
    Silent(
        "quantize-setting-unused",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
    ),
    Silent("quantize-overrides-with-recipe", ("quantize={recipe: general/x, format: null}",)),
    Silent(
        "quantize-override-shadowed",
        ("quantize.overrides=[{modules: '*', format: fp8}, {modules: a, format: nvfp4}]",),
    ),
    Silent("quantize-override-everything", ("quantize.overrides=[{modules: '*.mlp.*', format: none}]",)),
    Silent("quantize-override-everything", ("quantize.overrides=[{modules: '*', format: fp8}]",)),
    Silent(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.layers.15.mlp.down_proj', format: fp8}]",),
    ),
    Silent(
        "quantize-override-unmatched", ("quantize.overrides=[{modules: '*.layers.[0-3].*', format: fp8}]",)
    ),
    Silent(
        "quantize-override-unmatched",
        ("quantize.overrides=[{modules: '*.experts.7.*', format: fp8}]",),
        config=MIXTRAL,
    ),
    Silent(
        "quantize-override-unmatched",
        (
            "model.source=hf://nobody/knows@0123456789abcdef0123456789abcdef01234567",
            "quantize.overrides=[{modules: a, format: fp8}]",
        ),
    ),
    Silent(
        "quantize-recipe-name", ("quantize={format: null, recipe: general/ptq/nvfp4_default-kv_fp8_cast}",)
    ),
    Silent("quantize-source-and-method", ()),
    Silent(
        "quantize-source-and-method",
        (
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
        config=quantized(LLAMA, **FP8_BLOCK),
    ),
    Silent(
        "quantize-source-and-method",
        (
            "model.source=hf://nobody/knows@0123456789abcdef0123456789abcdef01234567",
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
    ),
    Silent("quantize-experts-on-dense", ("quantize.format=nvfp4_experts_only",), config=MIXTRAL),
    Silent("quantize-experts-on-dense", ("quantize.format=nvfp4_mlp_only",)),
    Silent("quantize-format-on-gpu", ("layout.gpu=RTX5090",)),
    Silent(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.format=fp8",
        ),
    ),
    Silent(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize.format=fp8_block_weight_only",
        ),
    ),
    Silent(
        "quantize-format-on-gpu",
        (
            "layout.gpu=H100",
            "quantize={method: prequantized}",
            "quantize.format=null",
        ),
    ),
    Silent("gate-bits-impossible", ("gate.max_bits_per_weight=4.5",)),
)
