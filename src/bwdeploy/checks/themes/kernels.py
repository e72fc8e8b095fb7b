"""Rules on `kernels`: whether the named ops exist, and whether this model would ever call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.formats import format_table
from bwdeploy.kernels.ops import OpDeclaration, shipped_ops
from bwdeploy.recipe.words import nearest
from bwdeploy_kernels.architectures import NOT_REPLACEABLE, REPLACEABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_ACTIVATION_WORDS = {"fp8": "FP8", "nvfp4": "NVFP4", "none": "not quantized"}
_FORMAT_WORDS = {"fp8": "FP8", "nvfp4": "NVFP4"}
_MULTIPLES = {"fp8": 8, "nvfp4": 16}
"""Columns that one 16-byte access, or one block with a scale of its own, takes."""

_OWN_CODE = "remove it; TensorRT-LLM fuses this all-reduce itself, and the op is there for code of your own"


def _named(subject: Subject) -> Iterator[tuple[KeyPath, OpDeclaration]]:
    """The ops of the recipe that exist, each with its place."""
    ops = shipped_ops()
    for index, name in enumerate(subject.recipe.kernels):
        if name in ops:
            yield ("kernels", index), ops[name]


def _unknown(subject: Subject) -> Iterator[Problem]:
    ops = shipped_ops()
    for index, name in enumerate(subject.recipe.kernels):
        if name not in ops:
            near = nearest(name, ops)
            hint = f"did you mean {near}" if near else f"the ops are {', '.join(ops)}"
            yield Problem(("kernels", index), f"there is no kernel {name}", hint)


def _twice(subject: Subject) -> Iterator[Problem]:
    names = subject.recipe.kernels
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(("kernels", index), f"{name} is named twice", "remove one of them")


def _other_format(subject: Subject) -> Iterator[Problem]:
    quantize = subject.recipe.quantize
    if quantize.method == "none":
        used, what = {"none"}, "quantize.method none"
    elif quantize.format is None:
        return  # a ModelOpt recipe or the checkpoint itself decides
    else:
        formats = format_table().formats
        words = {quantize.format, *(one.format for one in quantize.overrides if one.format != "none")}
        used = {formats[word].activations for word in words}
        what = f"format {quantize.format}"
    for path, op in _named(subject):
        if used.isdisjoint(op.quantizes):
            made = " or ".join(_FORMAT_WORDS[one] for one in op.quantizes)
            taken = " and ".join(sorted(_ACTIVATION_WORDS[one] for one in used))
            message = f"{op.name} writes {made}, but with {what} the inputs of linear layers are {taken}"
            yield Problem(path, message, "name an op of that format, or remove it")


def _gpu(subject: Subject) -> Iterator[Problem]:
    if subject.gpu is None:
        return
    sm = f"sm_{subject.gpu.sm}a"
    for path, op in _named(subject):
        if sm not in op.sms:
            message = f"{op.name} is compiled for {', '.join(op.sms)}; {subject.gpu.name} is {sm}"
            yield Problem(path, message, "remove it, or set another layout.gpu")


def _gpus(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    for path, op in _named(subject):
        if op.replaces != "allreduce":
            continue
        counts = ", ".join(map(str, op.gpus))
        if recipe.serve.runtime == "reference":
            message = f"{op.name} works over {counts} GPUs, and the runtime reference runs on one"
            yield Problem(path, message, _OWN_CODE)
        elif recipe.layout.tp not in op.gpus:
            message = f"{op.name} works over {counts} GPUs, not over tp {recipe.layout.tp}"
            yield Problem(path, message, _OWN_CODE)


def _model(subject: Subject) -> Iterator[Problem]:
    shape = subject.shape
    if shape is None or subject.recipe.serve.runtime != "reference" or shape.model_type in REPLACEABLE:
        return
    reason = NOT_REPLACEABLE.get(shape.model_type, "nobody has looked at its layers")
    for path, op in _named(subject):
        message = f"no layer of a {shape.model_type} model can call {op.name}: {reason}"
        yield Problem(path, message, f"remove it; the runtime reference knows {', '.join(REPLACEABLE)}")


def _width(subject: Subject) -> Iterator[Problem]:
    shape = subject.shape
    if shape is None or not shape.layers:
        return
    for path, op in _named(subject):
        is_mlp = op.replaces == "mlp"
        width = shape.layers[0].ffn.width if is_mlp else shape.hidden
        share = width // subject.recipe.layout.tp if is_mlp else width
        step = max(_MULTIPLES[one] for one in op.quantizes)
        if share and share % step:
            what = "intermediate size of a rank" if is_mlp else "hidden size"
            yield Problem(
                path, f"{op.name} takes rows of a multiple of {step}; the {what} is {share}", "remove it"
            )


RULES = (
    Rule(
        id="kernels-unknown",
        severity="error",
        summary="a kernel that does not exist",
        find=_unknown,
        why="Nothing would be compiled under that name.",
    ),
    Rule(
        id="kernels-twice",
        severity="error",
        summary="a kernel that is named twice",
        find=_twice,
        why="Each op stands once in a pack; the second name is a slip of another one.",
    ),
    Rule(
        id="kernels-format",
        severity="error",
        summary="a kernel that writes another format than the checkpoint reads",
        find=_other_format,
        why="No layer of the model could take what the op writes, so it would never be called.",
    ),
    Rule(
        id="kernels-gpu",
        severity="error",
        summary="a GPU that a kernel is not compiled for",
        find=_gpu,
        source="https://docs.nvidia.com/cuda/cuda-compiler-driver-nvcc/",
        why="Code for one architecture with the suffix a runs on no other: the pack would be refused when "
        "the server starts.",
    ),
    Rule(
        id="kernels-gpus",
        severity="error",
        summary="an all-reduce kernel without the GPUs for it",
        find=_gpus,
        why="The op is written for 2, 4 or 8 GPUs with peer access; it would never be called.",
    ),
    Rule(
        id="kernels-model",
        severity="error",
        summary="a model whose layers cannot call a kernel",
        find=_model,
        why="The runtime reference replaces pieces of a layer only where the answers stay the same.",
    ),
    Rule(
        id="kernels-width",
        severity="error",
        summary="a row that a kernel cannot take",
        find=_width,
        why="The kernels read 16 bytes at a time and scale NVFP4 in blocks of 16.",
    ),
)
