"""Rules on CUDA graph sizes and on hidden state capture, which allows no graphs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Problem, Rule, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"
_DEFAULT_LARGEST = 128
_PATH: KeyPath = ("engine", "llm_args", "cuda_graph_config")


def _sizes(subject: Subject) -> Iterator[Problem]:
    engine, graphs = subject.recipe.engine, _graphs(subject)
    sizes, largest = _listed(graphs), graphs.get("max_batch_size")
    if sizes and min(sizes) < 1:
        message = f"there is no batch of {min(sizes)} requests"
        yield Problem((*_PATH, "batch_sizes"), message, "write sizes of 1 or more")
    fits = max(sizes, default=0) <= engine.max_batch_size  # else cutting the list settles both
    if sizes and fits and isinstance(largest, int) and largest and largest != max(sizes):
        message = f"max_batch_size {largest} is not the largest of batch_sizes, {max(sizes)}"
        yield Problem((*_PATH, "max_batch_size"), message, f"set it to {max(sizes)} or leave it out")
    top = max([*sizes, largest if isinstance(largest, int) else 0])
    if top > engine.max_batch_size:
        key = "batch_sizes" if sizes and max(sizes) == top else "max_batch_size"
        message = f"CUDA graphs for {top} requests, but engine.max_batch_size is {engine.max_batch_size}"
        yield Problem((*_PATH, key), message, f"cut it to {engine.max_batch_size}")


def _gaps(subject: Subject) -> Iterator[Problem]:
    graphs = _graphs(subject)
    sizes = sorted(set(_listed(graphs)))
    if graphs.get("enable_padding") is True or not sizes:
        return
    missing = [size for size in range(1, sizes[-1]) if size not in sizes] if sizes[-1] < 1 << 16 else []
    if missing:
        message = f"batches of {_first_run(missing)} requests have no graph of their own and run without one"
        yield Problem((*_PATH, "batch_sizes"), message, "add enable_padding: true, or list every size")


def _uncovered(subject: Subject) -> Iterator[Problem]:
    engine, graphs = subject.recipe.engine, _graphs(subject)
    given = engine.llm_args.get("cuda_graph_config", {})
    if engine.backend != "pytorch" or not isinstance(given, dict):
        return
    largest = graphs.get("max_batch_size")
    top = max([*_listed(graphs), largest if isinstance(largest, int) else 0]) or _DEFAULT_LARGEST
    if top < engine.max_batch_size:
        message = (
            f"CUDA graphs end at {top} requests; batches of {top + 1} to {engine.max_batch_size} run without"
        )
        hint = (
            f"set cuda_graph_config: {{max_batch_size: {engine.max_batch_size}, enable_padding: true}}; "
            "a graph takes up to 200 MB"
        )
        yield Problem(_PATH, message, hint)


def _saves_states(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    config = engine.llm_args.get("speculative_config")
    if (
        engine.backend != "pytorch"
        or not isinstance(config, dict)
        or config.get("decoding_type") != "SaveState"
    ):
        return
    args = engine.llm_args
    why = "hidden states are saved for one request at a time"
    if engine.max_batch_size > 1:
        yield Problem(
            ("engine", "max_batch_size"), f"{why}: TensorRT-LLM forces 1", "write max_batch_size: 1"
        )
    if args.get("disable_overlap_scheduler") is not True:
        path = ("engine", "llm_args", "speculative_config")
        message = f"{why}: TensorRT-LLM switches the overlap scheduler off"
        yield Problem(path, message, "add engine.llm_args.disable_overlap_scheduler: true")
    if args.get("cuda_graph_config", {}) is not None:
        graphs = "cuda_graph_config" if "cuda_graph_config" in args else "speculative_config"
        message = f"{why}: TensorRT-LLM switches CUDA graphs off"
        yield Problem(
            ("engine", "llm_args", graphs), message, "write engine.llm_args.cuda_graph_config: null"
        )


def _graphs(subject: Subject) -> dict[str, Any]:
    engine = subject.recipe.engine
    graphs = engine.llm_args.get("cuda_graph_config")
    return graphs if isinstance(graphs, dict) and engine.backend == "pytorch" else {}


def _listed(graphs: dict[str, Any]) -> list[int]:
    listed = graphs.get("batch_sizes")
    return [size for size in listed if _is_whole(size)] if isinstance(listed, list) else []


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _first_run(sizes: list[int]) -> str:
    """The first sizes without a gap, as `3` or `3 to 7`."""
    end = next((one for one, after in pairwise(sizes) if after != one + 1), sizes[-1])
    return str(sizes[0]) if end == sizes[0] else f"{sizes[0]} to {end}"


RULES = (
    Rule(
        id="engine-graph-sizes",
        severity="error",
        summary="CUDA graph sizes that do not fit",
        find=_sizes,
        source=f"https://github.com/SemiAnalysisAI/InferenceX/pull/2596 · {_LLM_ARGS}",
        why="Graphs beyond the batch limit are captured and never used, up to 200 MB each; two different "
        "maxima "
        "are refused.",
    ),
    Rule(
        id="engine-graph-gaps",
        severity="warning",
        summary="batch sizes between the CUDA graphs",
        find=_gaps,
        source=_LLM_ARGS,
        why="Without padding a batch that has no graph of exactly its size is launched kernel by kernel, "
        "which at "
        "small batches costs several times the latency.",
    ),
    Rule(
        id="engine-graph-coverage",
        severity="info",
        summary="batches beyond the CUDA graphs",
        find=_uncovered,
        source=_LLM_ARGS,
        why="Speed falls at the size where graphs end; it looks like a limit of the GPU and is a setting.",
    ),
    Rule(
        id="engine-save-state",
        severity="error",
        summary="hidden states of more than one request",
        find=_saves_states,
        source=_LLM_ARGS,
        why="TensorRT-LLM changes these settings by force; memory and time then differ from the plan.",
    ),
)
