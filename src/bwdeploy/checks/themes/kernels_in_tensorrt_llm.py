"""Rules on `kernels` in TensorRT-LLM: what its PyTorch backend lets us swap, what an engine can call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy_kernels.tensorrt_llm.limits import (
    ALL_REDUCE_ABOVE,
    FUSED_UPSTREAM,
    LAYERS,
    VERSIONS,
    refused_arguments,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath
    from bwdeploy.recipe.schema import Recipe

_TAKEN_BY_LINEAR = {"FP8", "NVFP4"}
"""quant_algo whose linear layers take an input that is rounded already (_torch/modules/linear.py)."""
_MODEL_CLASS = ("model_cls_file", "model_cls_name")


def _swaps(recipe: Recipe) -> bool:
    """Whether modules of the PyTorch backend are swapped."""
    return recipe.engine.backend == "pytorch" and recipe.serve.runtime == "tensorrt_llm"


def _places(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    for index, name in enumerate(recipe.kernels):
        yield ("kernels", index), name


def _version(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    version = recipe.engine.tensorrt_llm
    if _swaps(recipe) and version not in VERSIONS:
        read = " and ".join(VERSIONS)
        message = f"the kernels know the modules of TensorRT-LLM {read}, not of {version}"
        yield Problem(
            ("kernels",), message, f"set engine.tensorrt_llm: {VERSIONS[-1]}, or remove the kernels"
        )


def _fused(subject: Subject) -> Iterator[Problem]:
    if not _swaps(subject.recipe):
        return
    for path, name in _places(subject.recipe):
        if name in FUSED_UPSTREAM:
            message = f"TensorRT-LLM has no place for {name}: {FUSED_UPSTREAM[name]}"
            yield Problem(path, message, "remove it; TensorRT-LLM's own kernel runs")


def _layers(subject: Subject) -> Iterator[Problem]:
    recipe, shape = subject.recipe, subject.shape
    if _swaps(recipe) and shape is not None and shape.model_type not in LAYERS:
        message = f"no decoder layer of a {shape.model_type} model is known to call kernels in TensorRT-LLM"
        yield Problem(("kernels",), message, f"remove them; known are {', '.join(LAYERS)}")


def _all_reduce(subject: Subject) -> Iterator[Problem]:
    recipe, shape = subject.recipe, subject.shape
    layout = recipe.layout
    if not _swaps(recipe) or shape is None or layout.tp == 1 or layout.attention_dp:
        return
    layer = LAYERS.get(shape.model_type)
    if layer is None or not layer.calls_next_norm or shape.hidden <= ALL_REDUCE_ABOVE:
        return
    ops = shipped_ops()
    for path, name in _places(recipe):
        if name in ops and ops[name].replaces == "norm":
            message = f"with tp {layout.tp} TensorRT-LLM fuses this norm into its all-reduce"
            yield Problem(path, message, "remove it, or set layout.tp: 1")


def _ranks(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if not _swaps(recipe):
        return
    if recipe.layout.pp > 1:
        message = "a norm at the border of two pipeline stages would send rounded values"
        yield Problem(("layout", "pp"), message, "set layout.pp: 1, or remove the kernels")
    if recipe.layout.nodes > 1:
        message = "workers on other machines would not import the kernels"
        yield Problem(("layout", "nodes"), message, "use one node, or remove the kernels")


def _arguments(subject: Subject) -> Iterator[Problem]:
    if _swaps(subject.recipe):
        for name, reason in refused_arguments(subject.recipe.engine.llm_args).items():
            message = f"the kernels do not run with this argument: {reason}"
            yield Problem(("engine", "llm_args", name), message, "remove it, or remove the kernels")


def _linear(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    word = recipe.quantize.format
    if not _swaps(recipe) or word is None:
        return
    facts = format_table().formats[word]
    if facts.activations != "none" and facts.quant_algo not in _TAKEN_BY_LINEAR:
        message = f"with format {word} TensorRT-LLM's linear layers round their own input"
        yield Problem(("kernels",), message, "use format fp8 or nvfp4, or remove the kernels")


def _model_class(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if recipe.builds_engine and not all(name in recipe.engine.build_flags for name in _MODEL_CLASS):
        message = (
            "an engine calls plugins where its model class does, and upstream's classes call none of ours"
        )
        hint = (
            f"name your own class with engine.build_flags {' and '.join(_MODEL_CLASS)}, or remove the kernels"
        )
        yield Problem(("kernels",), message, hint)


def _engine_workers(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    ranks = recipe.layout.tp * recipe.layout.pp
    if recipe.builds_engine and ranks > 1 and recipe.engine.build_flags.get("workers") != 1:
        message = "trtllm-build's worker processes cannot import a model class of your own"
        yield Problem(("kernels",), message, "set engine.build_flags.workers: 1")


def _no_plugin(subject: Subject) -> Iterator[Problem]:
    ops = shipped_ops()
    if subject.recipe.builds_engine:
        for path, name in _places(subject.recipe):
            if name in ops and ops[name].replaces == "allreduce":
                yield Problem(path, f"there is no TensorRT plugin of {name}", "remove it")


RULES = (
    Rule(
        id="kernels-trtllm-version",
        severity="error",
        summary="kernels with a TensorRT-LLM whose modules are not known",
        find=_version,
        source="tensorrt_llm/version.py",
        why="Modules are swapped by name and interface; another release may have changed both: the pack is "
        "refused there.",
    ),
    Rule(
        id="kernels-trtllm-fused",
        severity="error",
        summary="a kernel that TensorRT-LLM has itself",
        find=_fused,
        source="tensorrt_llm/_torch/modules/swiglu.py · tensorrt_llm/_torch/distributed/ops.py",
        why="There is nothing left to swap, so the kernel would never be called and smoke would fail.",
    ),
    Rule(
        id="kernels-trtllm-model",
        severity="error",
        summary="kernels for a model whose TensorRT-LLM layers are not known",
        find=_layers,
        source="tensorrt_llm/_torch/models/modeling_llama.py",
        why="Whether a layer reads its norm unrounded (a router does) stands in the model's own code.",
    ),
    Rule(
        id="kernels-trtllm-all-reduce",
        severity="error",
        summary="a norm that TensorRT-LLM fuses into its all-reduce",
        find=_all_reduce,
        source="tensorrt_llm/_torch/models/modeling_llama.py",
        why="With tensor parallelism the norm runs inside the all-reduce; the kernel would never be called.",
    ),
    Rule(
        id="kernels-trtllm-ranks",
        severity="error",
        summary="kernels over pipeline stages or machines",
        find=_ranks,
        source="tensorrt_llm/executor/proxy.py",
        why="Only the workers that the server's process starts are given the pack.",
    ),
    Rule(
        id="kernels-trtllm-arguments",
        severity="error",
        summary="an LLM argument that kernels do not run with",
        find=_arguments,
        source="tensorrt_llm/llmapi/llm_args.py",
        why="The server would refuse to start, with the same reason.",
    ),
    Rule(
        id="kernels-trtllm-format",
        severity="error",
        summary="a format whose linear layers take no rounded input",
        find=_linear,
        source="tensorrt_llm/_torch/modules/linear.py",
        why="Rounding twice would change the answers.",
    ),
    Rule(
        id="kernels-engine-model-class",
        severity="error",
        summary="kernels for an engine whose model calls no plugin",
        find=_model_class,
        source="tensorrt_llm/commands/build.py",
        why="The plugin library would be loaded and never called.",
    ),
    Rule(
        id="kernels-engine-workers",
        severity="error",
        summary="a model class of one's own with several build processes",
        find=_engine_workers,
        source="tensorrt_llm/commands/build.py",
        why="The class is loaded under the module name `models`, which a spawned process cannot import.",
    ),
    Rule(
        id="kernels-engine-plugin",
        severity="error",
        summary="a kernel without a TensorRT plugin",
        find=_no_plugin,
        why="The plugin library has the ops that run on one GPU.",
    ),
)
