"""A recipe in the words of aiconfigurator: its GPU, its ranks, its number formats. Starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.facts.formats import format_table
from bwdeploy.planner.memory.kv_cache import kv_format
from bwdeploy.tools.aiconfigurator import SYSTEMS, PointsRequest

if TYPE_CHECKING:
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.describe import DescribedModel
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.recipe.schema import Layout, Quantize, Recipe

_FORMATS = {
    "nvfp4": "nvfp4",
    "nvfp4_awq_lite": "nvfp4",
    "nvfp4_four_over_six": "nvfp4",
    "nvfp4_mlp_only": "nvfp4",
    "nvfp4_omlp_only": "nvfp4",
    "nvfp4_experts_only": "nvfp4",
    "nvfp4_weight_only": "nvfp4_wo",
    "nvfp4_mlp_weight_only": "nvfp4_wo",
    "fp8": "fp8",
    "fp8_per_channel_per_token": "fp8",
    "fp8_block_weight_only": "fp8_block",
    "w4a8_mxfp4_fp8": "w4a16_mxfp4",
}
"""Format of a recipe → the tool's word; what it does not know it cannot predict."""
_PARTIAL = frozenset({"nvfp4_mlp_only", "nvfp4_omlp_only", "nvfp4_mlp_weight_only"})
_EXPERTS_ONLY = "nvfp4_experts_only"


def why_not(recipe: Recipe, described: DescribedModel, gpu: Gpu) -> str | None:
    """Why the tool cannot be asked about this recipe, None when it can."""
    if gpu.id not in SYSTEMS:
        return f"aiconfigurator has no tables for {gpu.id}"
    if described.config is None:
        return "the model's configuration is not known on this machine"
    word = recipe.quantize.format
    if word is not None and word not in _FORMATS:
        return f"aiconfigurator does not know the format {word}"
    return None


def points_request(
    recipe: Recipe, described: DescribedModel, gpu: Gpu, load: Load, concurrency: tuple[int, ...]
) -> PointsRequest:
    """The request for a recipe that `why_not` has nothing against; batch sizes are those of one rank."""
    layout = recipe.layout
    ranks = layout.pp * (layout.tp if layout.attention_dp else 1)
    gemm, moe = _formats(recipe.quantize)
    return PointsRequest(
        config=_config(recipe, described),
        quantization=_quantization(recipe, described),
        system=SYSTEMS[gpu.id],
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        batch_sizes=tuple(dict.fromkeys(-(-count // ranks) for count in concurrency)),
        tp=1 if layout.attention_dp else layout.tp,
        pp=layout.pp,
        attention_dp=layout.tp if layout.attention_dp else 1,
        moe_tp=_moe_tp(layout),
        moe_ep=layout.ep,
        gemm=gemm,
        moe=moe,
        kv_cache=_kv_cache(recipe, described),
    )


def _config(recipe: Recipe, described: DescribedModel) -> dict[str, Any]:
    """Without the source's own quantization when the recipe makes another one."""
    config = described.config or {}
    if recipe.quantize.format is None:
        return config
    return {key: value for key, value in config.items() if key != "quantization_config"}


def _quantization(recipe: Recipe, described: DescribedModel) -> dict[str, Any] | None:
    """What the export will say of itself, as far as the tool reads it for its own layouts."""
    word = recipe.quantize.format
    if word is None:
        return described.quantization
    cache = _kv_cache(recipe, described)
    return {
        "quant_algo": format_table().formats[word].quant_algo,
        "kv_cache_quant_algo": "FP8" if cache == "fp8" else None,
    }


def simplifications(recipe: Recipe, described: DescribedModel) -> tuple[str, ...]:
    """Where the tool's words are coarser than the recipe."""
    said = []
    if recipe.quantize.format in _PARTIAL:
        said.append("aiconfigurator counts every linear layer as quantized, attention too")
    if recipe.quantize.overrides:
        said.append("aiconfigurator does not see quantize.overrides")
    if _kv_word(recipe, described) == "nvfp4":
        said.append("aiconfigurator has no NVFP4 KV cache: FP8 was asked for")
    return tuple(said)


def _formats(quantize: Quantize) -> tuple[str | None, str | None]:
    """Of dense layers and of experts; None: as the tool reads them from the source."""
    if quantize.format is None:
        return ("bfloat16", "bfloat16") if quantize.method == "none" else (None, None)
    word = _FORMATS[quantize.format]
    return ("bfloat16" if quantize.format == _EXPERTS_ONLY else word), word


def _moe_tp(layout: Layout) -> int:
    return max(1, layout.tp // layout.ep)


def _kv_cache(recipe: Recipe, described: DescribedModel) -> str:
    return {"fp8": "fp8", "nvfp4": "fp8"}.get(_kv_word(recipe, described), "bfloat16")


def _kv_word(recipe: Recipe, described: DescribedModel) -> str:
    dtype = described.shape.dtype if described.shape else "bfloat16"
    return kv_format(recipe, dtype, described.quantization).name
