"""Rules on options of trtllm-build that do not fit the model, its checkpoint or the GPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Subject
from bwdeploy.checks.themes.build_flag_values import (
    PATH,
    PLUGIN,
    algorithm_of,
    architecture_of,
    flag_rule,
    flags_of,
    is_on,
    mode_place,
    number_of,
)
from bwdeploy.facts.build_flags import engine_architectures, plugins_refused_on

if TYPE_CHECKING:
    from collections.abc import Iterator

_FUSED_MLP_ALGORITHMS = frozenset({"FP8", "MIXED_PRECISION"})
_PYTORCH_DRAFTS = {
    "eagle3": "EAGLE-3",
    "eagle3onemodel": "EAGLE-3",
    "pard": "PARD",
    "mtp": "MTP",
    "ngram": "NGram",
}
"""Plain spelling → name, of drafts that only the PyTorch backend has."""
_INTEGER_WEIGHTS = ("W4A16", "W8A16", "W8A8", "W4A8_AWQ", "INT8", "INT4")


def _banned(subject: Subject) -> Iterator[Problem]:
    if subject.gpu is None or not flags_of(subject):
        return
    banned, stated = plugins_refused_on(subject.gpu.sm)
    for name in flags_of(subject):
        if name in banned and is_on(subject, name):
            how = "TensorRT-LLM refuses it (NotImplementedError)" if stated else "no kernel of it is known"
            message = f"on {subject.recipe.layout.gpu} (SM{subject.gpu.sm}) {how}"
            yield Problem((*PATH, name), message, "write disable, or remove it")


def _reduce_scatter(subject: Subject) -> Iterator[Problem]:
    architecture = architecture_of(subject)
    if is_on(subject, "pp_reduce_scatter") and architecture not in {None, "MixtralForCausalLM"}:
        message = f"only Mixtral has it; this model is {architecture}"
        yield Problem((*PATH, "pp_reduce_scatter"), message, "remove it, or write disable")


def _unknown_architecture(subject: Subject) -> Iterator[Problem]:
    architecture, backend = architecture_of(subject), subject.recipe.engine.backend
    if backend != "tensorrt" or architecture is None or architecture in engine_architectures():
        return
    if not {"model_cls_file", "model_cls_name"} & set(flags_of(subject)):
        message = f"trtllm-build has no model class for {architecture}"
        hint = "set engine.backend: pytorch, or give build_flags model_cls_file and model_cls_name"
        yield Problem(("engine", "backend"), message, hint)


def _model_class(subject: Subject) -> Iterator[Problem]:
    pair = ("model_cls_file", "model_cls_name")
    given = [name for name in pair if name in flags_of(subject)]
    if len(given) == 1:
        other = next(name for name in pair if name not in given)
        yield Problem((*PATH, given[0]), f"{given[0]} needs {other} beside it", f"add {other}")


def _user_buffer(subject: Subject) -> Iterator[Problem]:
    if not is_on(subject, "user_buffer"):
        return
    path = (*PATH, "user_buffer")
    architecture, algorithm = architecture_of(subject), algorithm_of(subject)
    if not is_on(subject, "reduce_fusion"):
        yield Problem(path, "user_buffer needs reduce_fusion", "add reduce_fusion: enable, or remove it")
    if architecture not in {None, "LlamaForCausalLM"} or algorithm not in {None, "FP8"}:
        message = (
            f"only FP8 Llama models have it; this one is {algorithm or 'unquantized'} {architecture or ''}"
        )
        yield Problem(path, message.rstrip(), "remove it")


def _fused_mlp(subject: Subject) -> Iterator[Problem]:
    algorithm = algorithm_of(subject)
    if flags_of(subject).get("use_fused_mlp") == "enable" and algorithm not in {None, *_FUSED_MLP_ALGORITHMS}:
        message = f"trtllm-build switches it off for {algorithm}; only FP8 and mixed precision keep it"
        yield Problem((*PATH, "use_fused_mlp"), message, "remove it, so that the recipe says what happens")


def _gemm_plugin(subject: Subject) -> Iterator[Problem]:
    recipe, flags = subject.recipe, flags_of(subject)
    if recipe.engine.backend != "tensorrt" or algorithm_of(subject) != "NVFP4":
        return
    if "gemm_plugin" not in flags:
        message = "unset on an NVFP4 checkpoint, gemm_plugin becomes nvfp4"
        yield Problem(("engine", "build_flags"), message, "write gemm_plugin: nvfp4 to say so, or disable")
    elif flags["gemm_plugin"] not in ("nvfp4", "disable"):
        message = f"{flags['gemm_plugin']} becomes nvfp4 on an NVFP4 checkpoint; only disable stays"
        yield Problem((*PATH, "gemm_plugin"), message, "write nvfp4")


def _workers(subject: Subject) -> Iterator[Problem]:
    workers, gpus = number_of(flags_of(subject), "workers"), subject.recipe.layout.gpus_per_node
    if workers > gpus:
        message = f"{workers} workers for {gpus} visible GPUs (layout.gpus_per_node): capped at {gpus}"
        yield Problem((*PATH, "workers"), message, f"write {gpus}")


def _fast_build(subject: Subject) -> Iterator[Problem]:
    algorithm = algorithm_of(subject) or ""
    if flags_of(subject).get("fast_build") is True and algorithm.startswith(_INTEGER_WEIGHTS):
        if is_on(subject, "gemm_plugin"):
            return
        message = f"fast_build does not fit {algorithm} weights without plugins"
        yield Problem((*PATH, "fast_build"), message, "add gemm_plugin: auto, or remove it")


def _tokens(subject: Subject) -> Iterator[Problem]:
    engine = subject.recipe.engine
    most = engine.max_batch_size * engine.max_seq_len
    if engine.backend == "tensorrt" and engine.max_num_tokens > most:
        message = (
            f"{engine.max_num_tokens} tokens, but {engine.max_batch_size} requests of {engine.max_seq_len} "
            f"have {most}: trtllm-build lowers it to that"
        )
        yield Problem(("engine", "max_num_tokens"), message, f"write {most}, or raise engine.max_batch_size")
    flags = flags_of(subject)
    drafted = number_of(flags, "max_draft_len") if flags.get("speculative_decoding_mode") else 0
    least = engine.max_batch_size * (drafted + 1)
    if drafted and engine.max_num_tokens < least:
        message = (
            f"{engine.max_num_tokens} tokens, but {engine.max_batch_size} requests with {drafted} drafts"
            f" each have {least}: trtllm-build raises it to that"
        )
        yield Problem(("engine", "max_num_tokens"), message, f"write {least}, or lower engine.max_batch_size")


def is_pytorch_draft(mode: str) -> bool:
    """Whether `mode` names a draft that trtllm-build never had."""
    return _plain(mode) in _PYTORCH_DRAFTS


def _plain(mode: str) -> str:
    return mode.lower().replace("_", "").replace("-", "")


def _eagle(subject: Subject) -> Iterator[Problem]:
    mode = flags_of(subject).get("speculative_decoding_mode")
    if isinstance(mode, str) and is_pytorch_draft(mode):
        message = f"{_PYTORCH_DRAFTS[_plain(mode)]} runs with the PyTorch backend only"
        hint = "set engine.backend: pytorch and draft with the section speculative"
        yield Problem(mode_place(subject), message, hint)
        return
    architecture = architecture_of(subject)
    if flags_of(subject).get("speculative_decoding_mode") != "eagle" or architecture in {
        None, "LlamaForCausalLM", "EagleForCausalLM",
    }:  # fmt: skip
        return
    message = f"EAGLE of the engine backend knows Llama models only; this one is {architecture}"
    hint = "set engine.backend: pytorch, and draft there with method: eagle3"
    yield Problem(mode_place(subject), message, hint)


RULES = (
    flag_rule(
        "banned-on-gpu",
        "error",
        "a plugin that this GPU does not have",
        _banned,
        source=PLUGIN,
        why="trtllm-build raises NotImplementedError on SM100; on 103, 120 and 121 its table has no row "
        "at all.",
    ),
    flag_rule(
        "pp-reduce-scatter",
        "error",
        "pp_reduce_scatter on another model than Mixtral",
        _reduce_scatter,
        why="trtllm-build asserts that the architecture is MixtralForCausalLM.",
    ),
    flag_rule(
        "architecture",
        "error",
        "a model that trtllm-build does not know",
        _unknown_architecture,
        source="tensorrt_llm/models/__init__.py (MODEL_MAP)",
        why="Newer architectures were added to the PyTorch backend only; conversion and build end in an "
        "error.",
    ),
    flag_rule(
        "model-class",
        "error",
        "one of model_cls_file and model_cls_name alone",
        _model_class,
        why="trtllm-build asserts that a class file comes with the name of its class.",
    ),
    flag_rule(
        "user-buffer",
        "error",
        "user_buffer without what it needs",
        _user_buffer,
        source=PLUGIN,
        why="The option saves a copy in one fused path; anywhere else the build fails.",
    ),
    flag_rule(
        "fused-mlp",
        "info",
        "use_fused_mlp that is dropped",
        _fused_mlp,
        why="trtllm-build drops it without a message; a figure would be credited to an option that was off.",
    ),
    flag_rule(
        "gemm-plugin",
        "info",
        "the effective GEMM plugin",
        _gemm_plugin,
        source=f"{PLUGIN} · https://github.com/NVIDIA/TensorRT-LLM/issues/3259",
        why="The value that counts is chosen by the checkpoint, so that the plan has to show it.",
    ),
    flag_rule(
        "workers",
        "warning",
        "more build workers than GPUs",
        _workers,
        why="The build takes longer than the number of workers promises.",
    ),
    flag_rule(
        "tokens",
        "warning",
        "another number of tokens in a step than requests have",
        _tokens,
        source="tensorrt_llm/builder.py (check_max_num_tokens, build)",
        why="The engine is built with the other number, and the plan speaks of steps that it never runs.",
    ),
    flag_rule(
        "fast-build",
        "warning",
        "fast_build with integer weights",
        _fast_build,
        why="The mix is not supported without plugins: the build fails, or the engine is slow.",
    ),
    flag_rule(
        "eagle-model",
        "error",
        "a draft that engines do not have, or not for this model",
        _eagle,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/10396",
        why="EagleForCausalLM derives from the Llama class; other weights do not fit into it.",
    ),
)
