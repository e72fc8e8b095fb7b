"""Rules on whether the model can be cut into the layout's ranks: heads, experts, stages, widths.

What fits is decided in `planner.fitting`, which layout suggestions use too; here stand the severities and
the reasons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.planner.layout.fitting import layout_args, layout_conflicts, scale_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Recipe


def is_for_latency(recipe: Recipe) -> bool:
    """Whether the speed of one user is all that the recipe says it is for."""
    metrics = {one.metric for one in recipe.expect.values()}
    alone = recipe.engine.max_batch_size == 1
    return recipe.layout.auto == "latency" or metrics == {"tokens_per_s_per_user"} or alone


def cannot_cut_heads(subject: Subject) -> bool:
    """Whether the heads of the model exclude this tp, so that nothing else need be said of it."""
    recipe, keys = subject.recipe, {"tp-heads", "tp-kv-heads", "llama4-tp"}
    found = layout_conflicts(subject.shape, recipe.layout, args=layout_args(recipe))
    return any(conflict.key in keys for conflict in found)


def most_experts(shape: ModelShape | None) -> int:
    """Routed experts of a layer, 0 for a model without or of unknown shape."""
    return max((layer.ffn.experts for layer in shape.layers), default=0) if shape is not None else 0


def _mla_replicated(subject: Subject) -> Iterator[Problem]:
    if not is_for_latency(subject.recipe):
        yield from _conflict("mla-replicated")(subject)


def _conflict(*keys: str) -> Callable[[Subject], Iterator[Problem]]:
    """Finds the conflicts of `planner.fitting` that have one of these keys."""

    def find(subject: Subject) -> Iterator[Problem]:
        recipe = subject.recipe
        conflicts = layout_conflicts(
            subject.shape,
            recipe.layout,
            args=layout_args(recipe),
            block=scale_block(recipe, subject.model.quantization),
        )
        for conflict in conflicts:
            if conflict.key == "block-width" and cannot_cut_heads(subject):
                continue
            if conflict.key in keys:
                yield Problem(conflict.path, conflict.message, conflict.hint, conflict.severity)

    return find


RULES = (
    Rule(
        id="layout-world-size",
        severity="error",
        summary="ranks and GPUs differ",
        find=_conflict("world-size"),
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/2813"
        " · https://github.com/triton-inference-server/tensorrtllm_backend/issues/377",
        why="The ranks wait for each other: with too few tasks the start hangs or MPI aborts,"
        " with too many a GPU is left idle.",
    ),
    Rule(
        id="layout-heads",
        severity="error",
        summary="attention heads do not divide by tp",
        find=_conflict("tp-heads"),
        source="https://github.com/vllm-project/vllm/issues/52435"
        " · https://github.com/pytorch/torchtitan/pull/2577",
        why="Heads are whole on each rank, so the model does not load; the error comes only after minutes"
        " of reading weights.",
    ),
    Rule(
        id="layout-kv-heads",
        severity="error",
        summary="KV heads do not fit tp",
        find=_conflict("tp-kv-heads"),
        source="tensorrt_llm/mapping.py",
        why="A rank holds whole KV heads, or several ranks hold the same one; no other split exists.",
    ),
    Rule(
        id="layout-kv-heads-replicated",
        severity="warning",
        summary="KV heads are kept several times",
        find=_conflict("kv-heads-replicated"),
        source="tensorrt_llm/mapping.py",
        why="Each copy takes its own KV memory, so fewer requests fit than the memory of all GPUs suggests.",
    ),
    Rule(
        id="layout-llama4-tp",
        severity="error",
        summary="Llama 4 runs with tp 1, 2, 4 or 8",
        find=_conflict("llama4-tp"),
        source="config.json of Llama 4: 40 attention heads, 8 KV heads",
        why="Its 40 heads and 8 KV heads have to divide alike, so other splits do not load.",
    ),
    Rule(
        id="layout-ep-divides-tp",
        severity="error",
        summary="ep must divide tp",
        find=_conflict("ep-divides-tp"),
        source="tensorrt_llm/mapping.py",
        why="Expert ranks group the tensor parallel ranks; TensorRT-LLM refuses other layouts at start.",
    ),
    Rule(
        id="layout-moe-product",
        severity="error",
        summary="ranks of the experts do not multiply to tp",
        find=_conflict("moe-product"),
        source="tensorrt_llm/mapping.py",
        why="TensorRT-LLM refuses to start: moe_tp · moe_ep · moe_cluster has to be tp.",
    ),
    Rule(
        id="layout-moe-cluster",
        severity="error",
        summary="cluster parallelism together with expert parallelism",
        find=_conflict("moe-cluster-with-ep"),
        source="tensorrt_llm/mapping.py",
        why="TensorRT-LLM refuses to start; the argument is deprecated from 1.3 on.",
    ),
    Rule(
        id="layout-experts",
        severity="error",
        summary="experts do not divide by ep",
        find=_conflict("experts-ep"),
        source="tensorrt_llm/mapping.py · https://github.com/vllm-project/vllm/issues/52435",
        why="TensorRT-LLM rounds the experts of a rank down without an error: the rest are never served and"
        " answers get worse.",
    ),
    Rule(
        id="layout-ep-without-experts",
        severity="warning",
        summary="expert parallelism for a model without experts",
        find=_conflict("ep-without-experts"),
        source="tensorrt_llm/mapping.py",
        why="It has no effect, and whoever reads the recipe takes the model for a mixture of experts.",
    ),
    Rule(
        id="layout-context-parallel",
        severity="error",
        summary="context parallelism together with expert parallelism",
        find=_conflict("cp-with-ep"),
        source="tensorrt_llm/mapping.py",
        why="TensorRT-LLM does not support the two together and refuses to start.",
    ),
    Rule(
        id="layout-stages",
        severity="error",
        summary="pipeline stages and layers do not fit",
        find=_conflict("pp-layers", "pp-partition"),
        source="tensorrt_llm/mapping.py",
        why="A stage without layers, or layers without a stage: the model does not load.",
    ),
    Rule(
        id="layout-uneven-stages",
        severity="info",
        summary="pipeline stages of unequal size",
        find=_conflict("uneven-stages"),
        source="tensorrt_llm/mapping.py · https://github.com/ai-dynamo/aiconfigurator",
        why="The first stages hold one layer more: they fill up first and the others wait for them.",
    ),
    Rule(
        id="layout-block-width",
        severity="warning",
        summary="a rank's share of a width is not a multiple of the scale block",
        find=_conflict("block-width"),
        source="https://github.com/NVIDIA/TensorRT-LLM/blob/main/docs/source/features/quantization.md",
        why="Block scales cannot be cut: the kernels pad each share, which costs memory and time.",
    ),
    Rule(
        id="layout-mla-replicated",
        severity="info",
        summary="every rank keeps the whole KV cache",
        find=_mla_replicated,
        source="TensorRT-LLM docs/source/blogs/tech_blog/blog3 (DeepSeek-R1 throughput on B200)",
        why="The latents of MLA are not split by tensor parallelism: 8 B200 held 500 requests of DeepSeek-R1"
        " with it and 4,000 with data parallel attention.",
    ),
)
