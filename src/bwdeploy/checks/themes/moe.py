"""Rules on mixture-of-experts backends and the options that only some of them have.

The names that a version accepts come from its argument schema and are checked there. A model whose shape is
not known counts as one with experts: nobody names a backend for a dense model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.checks.arguments import (
    PREFIX,
    argument,
    at_least,
    is_reported,
    mapping_argument,
    text_argument,
)
from bwdeploy.checks.checkpoint_format import checkpoint_format, is_moe, model_type
from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.algorithms import title_of
from bwdeploy.facts.moe_backends import (
    AUTO,
    UNQUANTIZED,
    VANILLA,
    MoeBackend,
    default_backend,
    fitting_backends,
    moe_backends,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.recipe.places import KeyPath

_KEY = "moe_config"
_BACKEND: KeyPath = (*PREFIX, _KEY, "backend")
_SM120_FAMILY = frozenset({120, 121})


def _is_gpt_oss(subject: Subject) -> bool:
    return model_type(subject) == "gpt_oss"


def _is_dense(subject: Subject) -> bool:
    return subject.shape is not None and not is_moe(subject.shape)


def _named_backend(subject: Subject) -> MoeBackend | None:
    """The backend that the recipe names, when it is in our table and has a model to run for."""
    name = text_argument(subject, _KEY, "backend")
    if name is None or _is_dense(subject) or is_reported(subject, _KEY, "backend"):
        return None
    return moe_backends().get(name)


def _expert_format(subject: Subject) -> str | None:
    found = checkpoint_format(subject)
    return found.experts if found is not None else None


def _write(names: tuple[str, ...]) -> str:
    key = "engine.llm_args.moe_config.backend"
    if not names:
        return f"remove {key}, or choose another format or GPU"
    return f"write {key}: {names[0]}" + (f" (or {', '.join(names[1:])})" if names[1:] else "")


def _fitting(subject: Subject, algorithm: str | None) -> tuple[str, ...]:
    if subject.gpu is None:
        return ("CUTLASS",)
    version = subject.recipe.engine.tensorrt_llm
    return fitting_backends(algorithm, subject.gpu.sm, gpt_oss=_is_gpt_oss(subject), version=version)


def _words(algorithm: str) -> str:
    return "bf16" if algorithm == UNQUANTIZED else title_of(algorithm)


def _on_gpu(subject: Subject) -> Iterator[Problem]:
    gpu, backend = subject.gpu, _named_backend(subject)
    if gpu is None or backend is None:
        return
    if not backend.runs_on(gpu.sm):
        known = sorted({sm for cells in backend.formats.values() for sm in cells or ()})
        message = (
            f"the {backend.name} backend has kernels only for {', '.join(f'SM{sm}' for sm in known)}, "
            f"and {gpu.id} is SM{gpu.sm}"
        )
        yield Problem(_BACKEND, message, _write(_fitting(subject, _expert_format(subject))))
    elif gpu.sm in _SM120_FAMILY and backend.name != "CUTLASS":
        message = f"on SM{gpu.sm} only CUTLASS runs experts in every version, and this names {backend.name}"
        hint = f"{_write(('CUTLASS',))}; late 1.3 versions have {backend.name} kernels for one GPU without ep"
        yield Problem(_BACKEND, message, hint, "warning" if at_least(subject, "1.3") else None)


def _format(subject: Subject) -> Iterator[Problem]:
    gpu, backend, algorithm = subject.gpu, _named_backend(subject), _expert_format(subject)
    if backend is None or algorithm is None or (_is_gpt_oss(subject) and not backend.gpt_oss):
        return
    sm = gpu.sm if gpu is not None else None
    if backend.has(algorithm, sm) or (sm is not None and not backend.runs_on(sm)):
        return
    if sm in _SM120_FAMILY and backend.name != "CUTLASS":
        return
    if all(algorithm not in {**other.formats, **other.maybe} for other in moe_backends().values()):
        return  # no table speaks about it
    what = f"experts in {_words(algorithm)}" + (f" on {gpu.id} (SM{gpu.sm})" if gpu is not None else "")
    hint = _write(_fitting(subject, algorithm))
    if backend.may_have(algorithm, sm):
        message = f"the {backend.name} backend has kernels for {what} in some versions only"
        yield Problem(_BACKEND, message, hint, "warning")
        return
    in_place = backend.name != "CUTLASS" and moe_backends()["CUTLASS"].has(algorithm, sm)
    follows = ": CUTLASS runs in its place with one line in the log, or" if in_place else ", so"
    message = f"the {backend.name} backend has no kernels for {what}{follows} the server stops"
    yield Problem(_BACKEND, message, hint)


class _Implied(NamedTuple):
    """What runs because the recipe names no backend."""

    gpu: Gpu
    algorithm: str
    backend: MoeBackend
    path: KeyPath
    why: str


def _implied(subject: Subject) -> _Implied | None:
    """None as well when it cannot be told, or when no MoE backend of the LLM API is used at all."""
    gpu, shape, algorithm = subject.gpu, subject.shape, _expert_format(subject)
    recipe = subject.recipe
    if gpu is None or shape is None or algorithm is None or not is_moe(shape):
        return None
    if recipe.engine.backend != "pytorch" or recipe.serve.runtime != "tensorrt_llm":
        return None
    if text_argument(subject, _KEY, "backend") not in {None, AUTO} or is_reported(subject, _KEY):
        return None
    name = default_backend(version=recipe.engine.tensorrt_llm, architecture=shape.architecture, sm=gpu.sm)
    path = _BACKEND if mapping_argument(subject, _KEY) else ("engine",)
    named = text_argument(subject, _KEY, "backend")
    why = f"{named} names no MoE backend" if named else "no MoE backend is named"
    return _Implied(gpu, algorithm, moe_backends()[name], path, why)


def _default(subject: Subject) -> Iterator[Problem]:
    implied = _implied(subject)
    if implied is None:
        return
    gpu, algorithm, backend, path, _ = implied
    fitting = _fitting(subject, algorithm)
    if backend.has(algorithm, gpu.sm) or not fitting:
        return
    what = f"experts in {_words(algorithm)} on {gpu.id} (SM{gpu.sm})"
    if at_least(subject, "1.3") or backend.may_have(algorithm, gpu.sm):
        message = f"{implied.why}, and not every version then chooses one with kernels for {what}"
        yield Problem(path, message, _write(fitting), "warning")
    else:
        message = f"{implied.why}, so {backend.name} runs, which has no kernels for {what}"
        yield Problem(path, message, _write(fitting))


def _slow(subject: Subject) -> Iterator[Problem]:
    is_plain = text_argument(subject, _KEY, "backend") == VANILLA
    if is_plain and not _is_dense(subject) and not _is_gpt_oss(subject):
        message = "VANILLA computes expert after expert in plain PyTorch, to compare numbers with"
        yield Problem(_BACKEND, message, _write(("CUTLASS",)))
    implied = _implied(subject)
    if implied is None or subject.recipe.layout.attention_dp or implied.backend.name != "CUTLASS":
        return
    gpu, algorithm, backend, path, _ = implied
    if backend.has(algorithm, gpu.sm) and moe_backends()["TRTLLM"].has(algorithm, gpu.sm):
        message = (
            f"{implied.why}, so CUTLASS runs; without attention DP upstream's own configurations "
            f"take TRTLLM for {_words(algorithm)} on {gpu.id}"
        )
        yield Problem(path, message, f"{_write(('TRTLLM',))} and measure, or name CUTLASS to keep it")


def _gpt_oss(subject: Subject) -> Iterator[Problem]:
    backend, is_plain = _named_backend(subject), text_argument(subject, _KEY, "backend") == VANILLA
    if _is_gpt_oss(subject) and (is_plain or (backend is not None and not backend.gpt_oss)):
        name = backend.name if backend else VANILLA
        message = f"{name} does not know the expert bias and SwiGLU constants of gpt-oss"
        names = _fitting(subject, _expert_format(subject)) if subject.gpu else ("TRTLLM", "CUTLASS", "TRITON")
        yield Problem(_BACKEND, message, _write(names))


def _low_precision_combine(subject: Subject) -> Iterator[Problem]:
    algorithm = _expert_format(subject)
    if argument(subject, _KEY, "use_low_precision_moe_combine") is not True or algorithm in {None, "NVFP4"}:
        return
    message = f"only NVFP4 experts can be combined in low precision, and these are {_words(algorithm or '')}"
    path = (*PREFIX, _KEY, "use_low_precision_moe_combine")
    yield Problem(path, message, "remove use_low_precision_moe_combine, or use an NVFP4 checkpoint")


def _retired(subject: Subject) -> Iterator[Problem]:
    backend = _named_backend(subject)
    if backend is not None and backend.name == "WIDEEP" and at_least(subject, "1.3"):
        message = "upstream has retired WIDEEP: late 1.3 versions refuse the name at start"
        yield Problem(_BACKEND, message, _write(_fitting(subject, _expert_format(subject))))


def _on_dense(subject: Subject) -> Iterator[Problem]:
    if _is_dense(subject) and mapping_argument(subject, _KEY):
        kind = model_type(subject) or "this model"
        message = f"{kind} has no experts, so moe_config has no effect"
        yield Problem((*PREFIX, _KEY), message, "remove moe_config")


def _min_latency(subject: Subject) -> Iterator[Problem]:
    kind = model_type(subject)
    if argument(subject, "enable_min_latency") is True and kind and not kind.startswith("llama4"):
        message = f"the minimum-latency path is written for Llama 4, and this model is {kind}"
        yield Problem((*PREFIX, "enable_min_latency"), message, "remove enable_min_latency")


_CREATE_MOE = "tensorrt_llm/_torch/modules/fused_moe/create_moe.py"
_LLM_ARGS = "tensorrt_llm/llmapi/llm_args.py"

RULES = (
    Rule(
        id="moe-backend-on-gpu",
        severity="error",
        summary="a MoE backend without kernels for this GPU",
        find=_on_gpu,
        source="https://github.com/NVIDIA/TensorRT-LLM/pull/17570 "
        "· https://github.com/NVIDIA/TensorRT-LLM/pull/12309 · https://github.com/NVIDIA/TensorRT-LLM/pull/11997",
        why="Older versions crash in the autotuner; newer ones run CUTLASS in its place and only log it, so "
        "that your choice has no effect.",
    ),
    Rule(
        id="moe-backend-format",
        severity="error",
        summary="a MoE backend without kernels for the experts' format",
        find=_format,
        source=_CREATE_MOE,
        why="Your choice would have no effect: upstream warns in the log and runs CUTLASS, or fails to load.",
    ),
    Rule(
        id="moe-backend-default",
        severity="error",
        summary="the default MoE backend cannot run the experts' format",
        find=_default,
        source="TensorRT-LLM docs/source/deployment-guide/deployment-guide-for-deepseek-r1-on-trtllm.md",
        why="The server loads all weights and fails at the first step; this pair needs a named backend.",
    ),
    Rule(
        id="moe-backend-slow",
        severity="warning",
        summary="a MoE backend that does not fit what the GPU is for",
        find=_slow,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/9218 "
        "· https://github.com/NVIDIA/TensorRT-LLM/issues/4043 · https://github.com/NVIDIA/TensorRT-LLM/issues/5929",
        why="B200 and B300 were reported slower than the generation before with the wrong backend: that "
        "decides more than the name of the GPU.",
    ),
    Rule(
        id="moe-gpt-oss-backend",
        severity="error",
        summary="gpt-oss with a MoE backend that lacks its activation",
        find=_gpt_oss,
        source=_CREATE_MOE,
        why="The server stops at an assertion: bias and SwiGLU constants exist in three backends only.",
    ),
    Rule(
        id="moe-low-precision-combine",
        severity="error",
        summary="low-precision combine of experts that are not NVFP4",
        find=_low_precision_combine,
        source=_LLM_ARGS,
        why="The combine path is written for NVFP4; elsewhere the option is ignored or fails.",
    ),
    Rule(
        id="moe-backend-retired",
        severity="warning",
        summary="a MoE backend that upstream has retired",
        find=_retired,
        source="tensorrt_llm/_torch/modules/fused_moe/MOE_DEVELOPER_GUIDE.md",
        why="The recipe stops working with the next version, at start.",
    ),
    Rule(
        id="moe-config-on-dense",
        severity="warning",
        summary="MoE options for a model without experts",
        find=_on_dense,
        source=_CREATE_MOE,
        why="Nothing reads them; whoever tunes them measures noise.",
    ),
    Rule(
        id="moe-min-latency-model",
        severity="error",
        summary="the minimum-latency path on another model than Llama 4",
        find=_min_latency,
        source=_LLM_ARGS,
        why="Upstream wrote the fused path for Llama 4; elsewhere the flag does nothing or breaks loading.",
    ),
)
