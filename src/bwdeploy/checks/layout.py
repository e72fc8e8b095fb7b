"""Rules on `layout`: GPUs, nodes and parallel ranks. Rules that need the model's shape are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.facts.gpus import all_gpus
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator


def _world_size(subject: Subject) -> Iterator[Problem]:
    layout = subject.recipe.layout
    ranks, gpus = layout.tp * layout.pp, layout.nodes * layout.gpus_per_node
    if ranks != gpus:
        message = (
            f"tp {layout.tp} · pp {layout.pp} = {ranks} ranks, "
            f"but nodes {layout.nodes} · gpus_per_node {layout.gpus_per_node} = {gpus} GPUs"
        )
        yield Problem(("layout",), message, "make the two products equal")


def _ep_divides_tp(subject: Subject) -> Iterator[Problem]:
    layout = subject.recipe.layout
    if layout.tp % layout.ep:
        message = f"ep {layout.ep} does not divide tp {layout.tp}"
        fitting = ", ".join(str(ep) for ep in range(1, layout.tp + 1) if layout.tp % ep == 0)
        yield Problem(("layout", "ep"), message, f"choose one of: {fitting}")


def _gpu_unknown(subject: Subject) -> Iterator[Problem]:
    name = subject.recipe.layout.gpu
    if name is None or subject.gpu is not None:
        return
    known = [gpu.id for gpu in all_gpus()]
    near = nearest(name, known)
    hint = f"did you mean {near}" if near else "known: " + ", ".join(known)
    yield Problem(("layout", "gpu"), f"no facts about a GPU called {name!r}", hint)


def _runtime(subject: Subject) -> Iterator[Problem]:
    gpu = subject.gpu
    if gpu is None or subject.recipe.serve.runtime != "tensorrt_llm" or "pytorch" in gpu.runtimes:
        return
    if "pytorch_beta" in gpu.runtimes:
        message = f"TensorRT-LLM supports {gpu.id} as beta and on a single node only"
        yield Problem(("layout", "gpu"), message, "expect gaps, and measure before you rely on it", "warning")
        return
    message = f"TensorRT-LLM's LLM API does not run on {gpu.id}"
    yield Problem(("layout", "gpu"), message, "choose another GPU, or serve.runtime: reference")


def _gpus_per_node(subject: Subject) -> Iterator[Problem]:
    layout, gpu = subject.recipe.layout, subject.gpu
    if gpu is not None and layout.gpus_per_node > gpu.gpus_per_node:
        message = f"machines with {gpu.id} usually have {gpu.gpus_per_node}"
        nodes = -(-layout.nodes * layout.gpus_per_node // gpu.gpus_per_node)
        hint = f"use nodes: {nodes}, gpus_per_node: {gpu.gpus_per_node}"
        yield Problem(("layout", "gpus_per_node"), message, hint)


def _tp_without_nvlink(subject: Subject) -> Iterator[Problem]:
    gpu = subject.gpu
    if gpu is not None and subject.recipe.layout.tp > 1 and not gpu.nvlink_gb_s:
        message = (
            f"{gpu.id} has no NVLink: tensor parallelism goes over PCIe and may hang without peer access"
        )
        yield Problem(("layout", "tp"), message, "prefer pp")


def _tp_power_of_two(subject: Subject) -> Iterator[Problem]:
    tp = subject.recipe.layout.tp
    if tp & (tp - 1):
        yield Problem(
            ("layout", "tp"),
            f"tp {tp} is not a power of two; few kernels are tuned for it",
            "use 1, 2, 4 or 8",
        )


RULES = (
    Rule(
        id="layout-world-size",
        severity="error",
        summary="ranks and GPUs differ",
        find=_world_size,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/2813",
    ),
    Rule(
        id="layout-ep-divides-tp",
        severity="error",
        summary="ep must divide tp",
        find=_ep_divides_tp,
        source="tensorrt_llm/mapping.py",
    ),
    Rule(id="layout-gpu-unknown", severity="error", summary="unknown GPU", find=_gpu_unknown),
    Rule(
        id="layout-gpu-runtime",
        severity="error",
        summary="TensorRT-LLM does not run on this GPU",
        find=_runtime,
        source="TensorRT-LLM release notes 1.2",
    ),
    Rule(
        id="layout-gpus-per-node",
        severity="warning",
        summary="more GPUs in a machine than it usually has",
        find=_gpus_per_node,
    ),
    Rule(
        id="layout-tp-without-nvlink",
        severity="warning",
        summary="tensor parallelism over PCIe",
        find=_tp_without_nvlink,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/9680",
    ),
    Rule(
        id="layout-tp-power-of-two",
        severity="warning",
        summary="tp is not a power of two",
        find=_tp_power_of_two,
        source="tensorrt_llm/recipes/validator.py",
    ),
)
