"""What is deployed, and the stages that made it."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from bwdeploy.report.html.blocks import Facts, Section, Table
from bwdeploy.report.html.numbers import duration, file_size, large_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.schema import Recipe
    from bwdeploy.report.html.data import ReportData

_SHORT_KEY = 12


def plan_section(data: ReportData) -> Section:
    """The deployment in words, and a table of its stages."""
    facts = Facts((*_model(data), *_deployment(data.recipe)))
    return Section("plan", "Plan", (facts, _stages(data)) if data.stages else (facts,))


def shown_source(recipe: Recipe) -> str:
    """Where the model comes from; of a path on the machine that built, only its last name."""
    scheme, _, rest = recipe.model.source.partition("://")
    return f"{scheme}://…/{PurePath(rest).name}" if scheme == "file" else recipe.model.source


def _model(data: ReportData) -> Iterator[tuple[str, str]]:
    yield "Model", shown_source(data.recipe)
    shape = data.needs.model.shape if data.needs else None
    if shape is None:
        return
    yield "Architecture", shape.architecture
    if shape.layers:
        yield "Layers", str(len(shape.layers))
    active = shape.active_parameters
    each = f", {large_count(active)} for each token" if active < shape.parameters else ""
    yield "Parameters", large_count(shape.parameters) + each


def _deployment(recipe: Recipe) -> Iterator[tuple[str, str]]:
    quantize, engine, layout, serve = recipe.quantize, recipe.engine, recipe.layout, recipe.serve
    what = quantize.format or quantize.recipe
    yield "Quantization", f"{quantize.method} {what}" if what else quantize.method
    yield "KV cache", quantize.kv_cache
    if recipe.speculative is not None:
        yield (
            "Speculative decoding",
            f"{recipe.speculative.method}, draft length {recipe.speculative.draft_len}",
        )
    gpus = layout.nodes * layout.gpus_per_node
    ranks = [
        f"{name} {size}"
        for name, size in (("tp", layout.tp), ("pp", layout.pp), ("ep", layout.ep))
        if size > 1
    ]
    yield "GPUs", " · ".join([f"{gpus} × {layout.gpu or 'any GPU'}", *ranks])
    yield "Runtime", f"{serve.runtime} on {serve.server}"
    if serve.runtime == "tensorrt_llm":
        yield "TensorRT-LLM", f"{engine.tensorrt_llm}, backend {engine.backend}"
    yield "Requests in one step", f"{engine.max_batch_size:,}"
    yield "Longest request", f"{engine.max_seq_len:,} tokens"
    if recipe.kernels:
        yield "Fused kernels", ", ".join(recipe.kernels)


def _stages(data: ReportData) -> Table:
    return Table(
        "Stages",
        ("Stage", "Time to make", "Size", "Key"),
        tuple(
            (stage.name, duration(stage.seconds), file_size(stage.size_bytes), stage.key[:_SHORT_KEY])
            for stage in data.stages
        ),
        texts=frozenset({0, 3}),
    )
