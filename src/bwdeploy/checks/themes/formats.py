"""Rules on number formats: which GPU, which runtime and which model have kernels for which format.

Formats that a recipe makes are held against the GPU in `quantize`; here stand the formats of prequantized
sources, and everything that also needs the model, the runtime or the arguments.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bwdeploy.checks.arguments import (
    MARLIN_SM,
    PREFIX,
    argument,
    at_least,
    is_reported,
    names_marlin,
    number_argument,
    text_argument,
)
from bwdeploy.checks.checkpoint_format import checkpoint_format, model_type
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.algorithms import INT8_PREFIX, Algorithm, algorithms, title_of
from bwdeploy.facts.gpus import all_gpus
from bwdeploy.facts.model_formats import known_bad, listed_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.errors import Severity
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.recipe.places import KeyPath

_SM100_FAMILY = frozenset({100, 103})
_SM120_FAMILY = frozenset({120, 121})
_UNDOCUMENTED_SM = frozenset({121})
"""Upstream's table has no row for these."""
_NEAR_SM100 = frozenset({110, 120, 121})
"""Upstream's check of the options lets these pass; the kernels are written for SM100."""
_KNOWN_WORD = re.compile(r"(W\d+A\d|INT8|(NV|MX)?FP[48]|BF16|MIXED_PRECISION|NO_QUANT)")
"""How the words of TensorRT-LLM's QuantAlgo start, also of those that no table here speaks about."""
_SLOW_INT8 = 0.1
"""Of the FP8 rate; B300 and GB300 have about 1/29."""
_INDEX_HEAD_DIM = 128


def _source_on_gpu(subject: Subject) -> Iterator[Problem]:
    gpu, found = subject.gpu, checkpoint_format(subject)
    if gpu is None or found is None or subject.recipe.quantize.method != "prequantized":
        return
    for name in found.algorithms:
        facts = algorithms().get(name)
        if facts is None or gpu.sm in facts.sm:
            continue
        message = (
            f"the source is {facts.title}, for which TensorRT-LLM has no kernels on {gpu.id} (SM{gpu.sm})"
        )
        if _may_run(subject, facts, gpu):
            unsure = f"{message} that upstream documents"
            yield Problem(found.path, unsure, "try it there before you rely on it", "warning")
        else:
            yield Problem(found.path, message, _other_source_hint(facts, gpu))


def _source_unknown(subject: Subject) -> Iterator[Problem]:
    said, found = subject.model.quantization, checkpoint_format(subject)
    if subject.recipe.quantize.method != "prequantized" or not said:
        return
    unknown = [name for name in found.algorithms if not _KNOWN_WORD.match(name)] if found is not None else []
    if found is None:
        given = said.get("quant_algo", said.get("quant_method"))
        mixed = given is None or _KNOWN_WORD.match(str(given))
        unknown = [] if mixed else [str(given)[:60]]
    for name in unknown:
        message = f"the source says that it is quantized as {name!r}, of which nothing is known here"
        yield Problem(("model", "source"), message, "make sure that your TensorRT-LLM version reads it")


def _may_run(subject: Subject, facts: Algorithm, gpu: Gpu) -> bool:
    """Whether upstream's silence proves nothing: it has no such column, or newer source has kernels."""
    if gpu.sm in _UNDOCUMENTED_SM:
        return gpu.sm in facts.maybe_sm
    if facts.column == "NVFP4" and gpu.sm in MARLIN_SM and names_marlin(subject):
        return True
    return not facts.documented or (gpu.sm in facts.maybe_sm and at_least(subject, "1.3"))


def _other_source_hint(facts: Algorithm, gpu: Gpu) -> str:
    word = "nvfp4" if gpu.sm in algorithms()["NVFP4"].sm else "fp8"
    gpus = ", ".join(other.id for other in all_gpus() if other.sm in facts.sm)
    requantize = f"name the bf16 model as model.source with quantize: {{method: ptq, format: {word}}}"
    return f"{requantize}, or choose one of the GPUs {gpus}" if gpus else requantize


def _engine_nvfp4(subject: Subject) -> Iterator[Problem]:
    gpu, found = subject.gpu, checkpoint_format(subject)
    if gpu is None or found is None or subject.recipe.engine.backend != "tensorrt":
        return
    if gpu.sm not in _SM120_FAMILY:
        return
    fp4 = next((name for name in found.algorithms if _column(name) in {"NVFP4", "MXFP4"}), None)
    if fp4 is not None:
        message = f"trtllm-build makes no {title_of(fp4)} engines for {gpu.id} (SM{gpu.sm})"
        yield Problem(
            ("engine", "backend"),
            message,
            "set engine.backend: pytorch, or take FP8 weights for an engine",
        )


def _int8_slow(subject: Subject) -> Iterator[Problem]:
    gpu, found = subject.gpu, checkpoint_format(subject)
    if gpu is None or found is None:
        return
    int8, fp8 = gpu.dense_tflops.get("int8"), gpu.dense_tflops.get("fp8")
    if not any(name.startswith(INT8_PREFIX) for name in found.algorithms) or not int8 or not fp8:
        return
    if int8 < fp8 * _SLOW_INT8:
        message = (
            f"the source is INT8 (SmoothQuant), and {gpu.id} computes INT8 at 1/{fp8 / int8:.0f} "
            f"of its FP8 rate ({int8:g} against {fp8:g} TFLOPS)"
        )
        hint = "name the bf16 model as model.source with quantize: {method: ptq, format: fp8}"
        yield Problem(found.path, message, hint)


def _column(name: str | None) -> str:
    facts = algorithms().get(name or "")
    return facts.column if facts else ""


def _known_bad_model(subject: Subject) -> Iterator[Problem]:
    gpu, found, kind = subject.gpu, checkpoint_format(subject), model_type(subject)
    if gpu is None or found is None or not kind:
        return
    row = known_bad(kind, _column(found.main), gpu.sm)
    if row is not None:
        message = f"{row.seen} on SM120, where kernels are made model by model; this model is {kind}"
        hint = "take FP8 weights, or try this pair with your TensorRT-LLM version before you build on it"
        yield Problem(found.path, message, hint)


def _unlisted_model(subject: Subject) -> Iterator[Problem]:
    found, kind = checkpoint_format(subject), model_type(subject)
    column = _column(found.main) if found is not None else ""
    if found is None or not kind or not column or _is_refused(subject):
        return
    if subject.gpu is not None and known_bad(kind, column, subject.gpu.sm) is not None:
        return
    listed = listed_model(kind)
    if listed is not None and column in listed.columns:
        return
    title = title_of(column)
    who = f"{kind} models" if listed is None else listed.name
    message = f"TensorRT-LLM's table of models and formats (about 1.2) does not list {title} for {who}"
    hint = "the table may lag: serve one checkpoint with the pinned version and measure its accuracy first"
    if listed is not None and listed.columns:
        words = ", ".join(sorted(title_of(name) for name in listed.columns))
        hint = f"{hint}; listed: {words}"
    yield Problem(found.path, message, hint)


def _is_refused(subject: Subject) -> bool:
    problem = subject.model.problem
    return problem is not None and problem.kind == "not-a-language-model"


def _cute_dsl(subject: Subject) -> Iterator[Problem]:
    gpu = subject.gpu
    if gpu is None or gpu.sm in _SM100_FAMILY:
        return
    for path in _cute_dsl_paths(subject):
        if is_reported(subject, *path[len(PREFIX) :]):
            continue  # this version does not know it at all
        message = f"{path[-1]} uses kernels of SM100 and SM103, and {gpu.id} is SM{gpu.sm}"
        severity: Severity | None = "warning" if gpu.sm in _NEAR_SM100 else None
        yield Problem(path, message, f"remove {path[-1]}, or choose B200, B300, GB200 or GB300", severity)


def _cute_dsl_paths(subject: Subject) -> Iterator[KeyPath]:
    for key, value in subject.recipe.engine.llm_args.items():
        if key.startswith("use_cute_dsl_") and value is True:
            yield (*PREFIX, key)
    sparse = argument(subject, "sparse_attention_config")
    for key, value in sparse.items() if isinstance(sparse, dict) else ():
        if isinstance(key, str) and key.startswith("use_cute_dsl_") and value is True:
            yield (*PREFIX, "sparse_attention_config", key)


def _indexer(subject: Subject) -> Iterator[Problem]:
    if text_argument(subject, "sparse_attention_config", "indexer_k_dtype") != "fp4":
        return
    path = (*PREFIX, "sparse_attention_config", "indexer_k_dtype")
    gpu = subject.gpu
    if gpu is not None and gpu.sm not in _SM100_FAMILY:
        message = f"the fp4 indexer has kernels for SM100 and SM103 only, and {gpu.id} is SM{gpu.sm}"
        yield Problem(path, message, "write indexer_k_dtype: fp8")
    given = number_argument(subject, "sparse_attention_config", "index_head_dim")
    said = given if given is not None else (subject.model.config or {}).get("index_head_dim")
    if isinstance(said, int | float) and said != _INDEX_HEAD_DIM:
        message = f"the fp4 indexer needs index_head_dim {_INDEX_HEAD_DIM}, and this one is {said}"
        yield Problem(path, message, "write indexer_k_dtype: fp8")


_TABLE = "TensorRT-LLM docs/source/features/quantization.md"
_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"

RULES = (
    Rule(
        id="format-source-on-gpu",
        severity="error",
        summary="no kernels for the source's format on this GPU",
        find=_source_on_gpu,
        source=_TABLE,
        why="AWQ, GPTQ and row-wise FP8 checkpoints were made for Hopper and older; on Blackwell the engine "
        "refuses them after loading hundreds of gigabytes.",
    ),
    Rule(
        id="format-source-unknown",
        severity="warning",
        summary="a quantization of the source that is not known",
        find=_source_unknown,
        source="tensorrt_llm/quantization/mode.py",
        why="Kernels and memory cannot be checked, and TensorRT-LLM refuses words that it does not know.",
    ),
    Rule(
        id="format-fp4-engine-on-sm120",
        severity="error",
        summary="no FP4 engines for SM120 and SM121",
        find=_engine_nvfp4,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/3259",
        why="trtllm-build fails after minutes: FP4 engines exist for the SM100 family only, and the PyTorch "
        "backend serves the same checkpoint.",
    ),
    Rule(
        id="format-int8-slow",
        severity="error",
        summary="INT8 on a GPU that hardly computes it",
        find=_int8_slow,
        source="ai-dynamo/aiconfigurator aic-core/src/aiconfigurator_core/systems/b300_sxm.yaml",
        why="B300 and GB300 gave up INT8 units for FP4: the deployment would be slower than in bf16.",
    ),
    Rule(
        id="format-known-bad-model",
        severity="warning",
        summary="a model and format that failed on this GPU",
        find=_known_bad_model,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/17052 "
        "· https://github.com/NVIDIA/TensorRT-LLM/issues/5018",
        why="The checkpoint builds, and the server stops at start with an unsupported kernel.",
    ),
    Rule(
        id="format-unlisted-model",
        severity="warning",
        summary="a model and format that upstream does not list",
        find=_unlisted_model,
        source=_TABLE,
        why="Upstream tests the pairs of its table; another may load and answer wrongly.",
    ),
    Rule(
        id="format-cute-dsl-on-gpu",
        severity="error",
        summary="CuTe DSL kernels on a GPU that has none",
        find=_cute_dsl,
        source=_LLM_ARGS,
        why="The option is refused, or kernels for another GPU are compiled and fail in the first step.",
    ),
    Rule(
        id="format-indexer-fp4",
        severity="error",
        summary="an fp4 indexer where none can run",
        find=_indexer,
        source=_LLM_ARGS,
        why="DeepGEMM's kernel asserts the GPU and the head size at its first launch, with the model loaded.",
    ),
)
