"""What config.json and quant_cfg.json say of the quantization, from what the ranks really store.

ModelOpt writes these files from the last rank alone. All stages share them and number their layers from 0, so
stages that differ cannot be described at all and are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.rank_export import NVFP4_BLOCK, PER_CHANNEL, mixing_problem, rank_export
from bwdeploy.worker.failures import recipe_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIXED = "MIXED_PRECISION"


class RankQuantization(NamedTuple):
    """The two descriptions."""

    section: dict[str, Any]
    """`quantization` of config.json."""
    layers: dict[str, Any] | None
    """Content of quant_cfg.json; None: no such file."""

    @property
    def algorithm(self) -> str | None:
        """quant_algo."""
        return None if self.section["quant_algo"] is None else str(self.section["quant_algo"])


def describe_quantization(
    stages: Sequence[Mapping[str, str | None]], kv_cache: str | None
) -> RankQuantization:
    """The description of stages that map each linear layer to its quant_algo, None where it has none.

    Raises:
        RecipeError: stages differ, or an algorithm or a mixture has no engine.
    """
    layers = _same_on_all(stages)
    algorithms = {algorithm for algorithm in layers.values() if algorithm is not None}
    refuse_algorithms(algorithms)
    if not algorithms:
        return RankQuantization({"quant_algo": None, "kv_cache_quant_algo": kv_cache}, None)
    if len(algorithms) > 1:
        head = {"quant_algo": MIXED, "kv_cache_quant_algo": kv_cache}
        listed = {name: _words(algorithm) for name, algorithm in sorted(layers.items()) if algorithm}
        return RankQuantization(head, head | {"quantized_layers": listed})
    algorithm = algorithms.pop()
    excluded = _excluded(layers)
    if algorithm == PER_CHANNEL:
        _refuse_half_blocks(excluded)
        # Norms of this kind give FP8 rows. Without a list, TensorRT-LLM leaves out the last one by itself.
        excluded += [*_norms_before(excluded), "*ln_f"]
    section = _words(algorithm) | {"kv_cache_quant_algo": kv_cache, "exclude_modules": [*excluded, "lm_head"]}
    return RankQuantization(section, None)


def _same_on_all(stages: Sequence[Mapping[str, str | None]]) -> dict[str, str | None]:
    merged: dict[str, str | None] = dict(stages[0])
    for number, stage in enumerate(stages):
        for name, algorithm in stage.items():
            if merged.setdefault(name, algorithm) != algorithm:
                first, other = merged[name] or "not quantized", algorithm or "not quantized"
                raise recipe_error(
                    "layout.pp",
                    f"{name} is {first} in stage 0 and {other} in stage {number},"
                    " but all stages share one description",
                    hint="Use pp: 1, or let quantize.overrides treat the layers of all stages alike.",
                )
    return merged


def refuse_algorithms(algorithms: set[str]) -> None:
    """Refuse what has no engine.

    Raises:
        RecipeError: an algorithm or a mixture of several.
    """
    unknown = algorithms - rank_export().algorithms
    message = (
        f"{', '.join(sorted(unknown))} has no engine, or none that was checked"
        if unknown
        else mixing_problem(algorithms)
    )
    if message:
        known = ", ".join(sorted(rank_export().algorithms))
        raise recipe_error("quantize", message, hint=f"Choose formats among {known}.")


def _words(algorithm: str) -> dict[str, Any]:
    return {"quant_algo": algorithm} | ({"group_size": NVFP4_BLOCK} if algorithm == "NVFP4" else {})


def _excluded(layers: Mapping[str, str | None]) -> list[str]:
    """Layers that are not quantized, a whole attention or feed-forward block as one pattern."""
    patterns: list[str] = []
    for name, algorithm in sorted(layers.items()):
        block = name.rpartition(".")[0]
        whole = all(other is None for key, other in layers.items() if key.startswith(f"{block}."))
        pattern = f"{block}*" if whole else name
        if algorithm is None and pattern not in patterns:
            patterns.append(pattern)
    return patterns


def _norms_before(excluded: Sequence[str]) -> list[str]:
    """The norm of each excluded block, which must not give it FP8 rows."""
    norms = {"attention*": "input_layernorm", "mlp*": "post_layernorm"}
    blocks = (pattern.rpartition(".") for pattern in excluded)
    return [f"{layer}.{norms[block]}" for layer, _, block in blocks if block in norms]


def _refuse_half_blocks(excluded: list[str]) -> None:
    single = [name for name in excluded if not name.endswith("*")]
    if single:
        raise recipe_error(
            "quantize.overrides",
            f"{single[0]} alone stays in bf16, but {PER_CHANNEL} replaces whole blocks of an engine",
            hint="Let the pattern match all of self_attn or all of mlp.",
        )
