"""Rules on memory: whether weights, requests and CUDA graphs have room on the recipe's GPUs.

The figures are the planner's own. Silent while the model's shape or the GPU is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.planner.memory.settings import drafting, kv_settings
from bwdeploy.planner.weights.prequantized import general_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.planner.memory import MemoryPlan
    from bwdeploy.planner.memory.diffusion import PipelineMemory

_GIB = 2**30
_FEW_REQUESTS = 32
_SMALL_POOL_BYTES = 10 * 10**9
"""Where trtllm-bench warns: tensorrt_llm/bench/build/tuning.py."""
_MUCH_TOO_LARGE = 4
"""A batch of so many times the requests that fit is worth a remark: a judgement, since most requests are far
from the longest."""
_TIGHT_GRAPHS = 0.25
"""Share of the graphs' upper bound below which there may be trouble: a judgement, graphs rarely reach it."""
_DEEPGEMM_FRACTION = 0.5
_FRACTION = ("engine", "llm_args", "kv_cache_config", "free_gpu_memory_fraction")


def _weights(subject: Subject) -> Iterator[Problem]:
    memory, gpu = subject.memory, subject.gpu
    if memory is None or gpu is None:
        return
    fullest = memory.fullest
    pipeline = memory.pipeline
    needed = pipeline.default_bytes if pipeline else fullest.weights_bytes + fullest.draft_bytes
    if fullest.capacity_bytes is None or needed <= fullest.capacity_bytes:
        return
    shown = f"but {gpu.id} shows {_gib(fullest.capacity_bytes)}"
    if pipeline is not None:
        message = f"the whole pipeline takes {_gib(needed)}, {shown}"
        yield Problem(("layout", "gpu"), message, _pipeline_hint(pipeline, fullest.capacity_bytes))
        return
    message = f"the weights take {_gib(needed)} on each GPU, {shown}"
    yield Problem(("layout",), message, _remedy_hint(subject))


def _kv_room(subject: Subject) -> Iterator[Problem]:
    memory, engine = subject.memory, subject.recipe.engine
    requests = _requests(memory)
    if memory is None or requests is None or not _weights_fit(memory):
        return
    pool = memory.fullest.kv_pool_bytes or 0
    if requests < 1:
        needed = _gib(memory.fullest.kv_request_bytes)
        message = (
            f"no room for one request of {engine.max_seq_len} tokens: "
            f"it needs {needed} of KV cache on each GPU, and {_gib(pool)} are left for it"
        )
        shorter = memory.max_tokens_in_kv or 0
        first = f"lower it to {shorter}; " if shorter else ""
        yield Problem(("engine", "max_seq_len"), message, first + _remedy_hint(subject))
        return
    if requests < _full_batch(subject) and (requests < _FEW_REQUESTS or pool < _SMALL_POOL_BYTES):
        message = (
            f"room for {requests} of {_full_batch(subject)} requests of {engine.max_seq_len} tokens: "
            f"{_gib(pool)} of KV cache on each GPU"
        )
        hint = f"lower max_seq_len or max_batch_size, or {_smaller_cache(subject, memory)}"
        yield Problem(("engine", "max_seq_len"), message, hint, "warning")


def _batch_beyond_room(subject: Subject) -> Iterator[Problem]:
    memory, engine = subject.memory, subject.recipe.engine
    requests = _requests(memory)
    if memory is None or requests is None or requests < _FEW_REQUESTS:
        return
    if requests * _MUCH_TOO_LARGE > _full_batch(subject):
        return
    if (memory.fullest.kv_pool_bytes or 0) >= _SMALL_POOL_BYTES:
        message = (
            f"the KV cache holds {requests} of {_full_batch(subject)} requests "
            f"of {engine.max_seq_len} tokens; the others will wait"
        )
        yield Problem(
            ("engine", "max_batch_size"), message, f"right when most requests are shorter; else {requests}"
        )


def _cuda_graphs(subject: Subject) -> Iterator[Problem]:
    memory = subject.memory
    if memory is None or not _weights_fit(memory) or memory.fullest.kv_pool_bytes is None:
        return
    fullest, limit = memory.fullest, memory.cuda_graph_limit_bytes
    if fullest.cuda_graph_bytes < limit * _TIGHT_GRAPHS and memory.fits:
        message = (
            f"{memory.cuda_graphs} CUDA graphs may take up to {_gib(limit)}, "
            f"and {_gib(fullest.cuda_graph_bytes)} are left beside the KV cache"
        )
        hint = "name fewer cuda_graph_config.batch_sizes, or lower kv_cache_config.free_gpu_memory_fraction"
        yield Problem(("engine",), message, hint)


def _deepgemm_with_mtp(subject: Subject) -> Iterator[Problem]:
    recipe, shape, gpu = subject.recipe, subject.shape, subject.gpu
    moe = recipe.engine.llm_args.get("moe_config")
    backend = moe.get("backend") if isinstance(moe, dict) else None
    draft = drafting(recipe)
    fraction = kv_settings(recipe).fraction
    if (
        backend == "DEEPGEMM"
        and (draft is not None and draft.method == "mtp")
        and (shape is not None and shape.model_type == "deepseek_v3" and _is_fp8(subject))
        and (gpu is not None and gpu.id == "b200")
        and fraction > _DEEPGEMM_FRACTION
    ):
        message = (
            f"{fraction} of the free memory for the KV cache: FP8 DeepSeek with DEEPGEMM and MTP "
            "ran out of memory on B200 at 0.6"
        )
        yield Problem(
            _FRACTION, message, f"set it to {_DEEPGEMM_FRACTION}, or use moe_config.backend: TRTLLM"
        )


def _unified(subject: Subject) -> Iterator[Problem]:
    gpu = subject.gpu
    if gpu is not None and gpu.unified_memory:
        fraction = kv_settings(subject.recipe).fraction
        message = (
            f"{gpu.id} shares its {gpu.memory_visible_gib} GiB with the CPU: a KV share of {fraction} "
            "also takes what the system needs"
        )
        hint = (
            "read MemAvailable in /proc/meminfo there (nvidia-smi shows none) and set "
            "kv_cache_config.free_gpu_memory_fraction accordingly"
        )
        yield Problem(("layout", "gpu"), message, hint)


def _requests(memory: MemoryPlan | None) -> int | None:
    return memory.max_requests if memory is not None else None


def _full_batch(subject: Subject) -> int:
    """Requests of a full step; under attention DP every rank has its own."""
    layout = subject.recipe.layout
    return subject.recipe.engine.max_batch_size * (layout.tp if layout.attention_dp else 1)


def _weights_fit(memory: MemoryPlan) -> bool:
    fullest = memory.fullest
    return (
        fullest.capacity_bytes is None
        or fullest.weights_bytes + fullest.draft_bytes <= fullest.capacity_bytes
    )


def _is_fp8(subject: Subject) -> bool:
    quantize, said = subject.recipe.quantize, subject.model.quantization
    if quantize.method in {"none", "prequantized"}:
        stored = general_storage(said) if said else None
        return stored is not None and stored.name.startswith("fp8")
    return quantize.format is not None and quantize.format.startswith("fp8")


def _remedy_hint(subject: Subject) -> str:
    from bwdeploy.planner.memory.remedies import remedies  # noqa: PLC0415 - only on the way to a finding

    found = remedies(subject.recipe, subject.model)
    if not found:
        return "no tp, pp or format alone makes it fit: choose GPUs with more memory, or combine them"
    listed = [f"{remedy.change} ({_gib(remedy.weights_bytes)} of weights each)" for remedy in found]
    return "fits with " + " or ".join(listed)


def _pipeline_hint(pipeline: PipelineMemory, capacity: int) -> str:
    low = pipeline.low_vram_bytes
    if low <= capacity:
        return f"load one engine at a time (--low-vram): {_gib(low)}"
    return "choose a smaller format or a GPU with more memory"


def _smaller_cache(subject: Subject, memory: MemoryPlan) -> str:
    if memory.kv_format in {"fp8", "nvfp4"}:
        return "spread the model over more GPUs"
    if subject.recipe.quantize.method in {"none", "prequantized"}:
        return "set engine.llm_args.kv_cache_config.dtype: fp8"
    return "set quantize.kv_cache: fp8"


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


RULES = (
    Rule(
        id="memory-weights",
        severity="error",
        summary="the weights do not fit the GPUs",
        find=_weights,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/2773",
        why="The engine runs out of memory while it loads, after minutes of download and conversion.",
    ),
    Rule(
        id="memory-kv-room",
        severity="error",
        summary="little or no room for the KV cache",
        find=_kv_room,
        source="tensorrt_llm/bench/build/tuning.py",
        why="Without room for one request the engine refuses to start; with room for a few, requests wait "
        "for each other and throughput stays far below what the GPU could do.",
    ),
    Rule(
        id="memory-batch-beyond-room",
        severity="info",
        summary="max_batch_size is far more than the KV cache holds at full length",
        find=_batch_beyond_room,
        source="tensorrt_llm/bench/build/tuning.py",
        why="The scheduler keeps requests waiting until others have finished, however large the batch is.",
    ),
    Rule(
        id="memory-cuda-graphs",
        severity="info",
        summary="CUDA graphs may need more than is left",
        find=_cuda_graphs,
        source="tensorrt_llm/llmapi/llm_args.py",
        why="Graphs are captured after the KV cache took its share: start-up can still run out of memory.",
    ),
    Rule(
        id="memory-deepgemm-mtp",
        severity="warning",
        summary="FP8 DeepSeek with DEEPGEMM, MTP and a large KV share on B200",
        find=_deepgemm_with_mtp,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/13357",
        why="The engine starts and runs out of memory under load; with the TRTLLM backend it did not.",
    ),
    Rule(
        id="memory-unified",
        severity="info",
        summary="the GPU shares its memory with the CPU",
        find=_unified,
        source="https://raw.githubusercontent.com/Niko1221/Strata/master/docs/DGX_SPARK_LINUX.md",
        why="The share of the KV cache is taken from memory that the system and other programs use as well.",
    ),
)
