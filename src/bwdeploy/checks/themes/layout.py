"""Rules on `layout`: the hardware it names, and the arguments beside it that balance work over the ranks.

Whether the model can be cut that way is `layout_fit`. How several nodes are launched is only mentioned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from bwdeploy.checks.rule import Problem, Rule, Subject
from bwdeploy.checks.themes import layout_fit
from bwdeploy.checks.themes.layout_fit import cannot_cut_heads, is_for_latency, most_experts
from bwdeploy.facts.gpus import all_gpus
from bwdeploy.recipe.validate import shown
from bwdeploy.recipe.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.recipe.places import KeyPath

_ARGS: KeyPath = ("engine", "llm_args")
_BALANCED_BACKENDS = ("WIDEEP", "CUTLASS", "TRTLLM", "CUTEDSL", "DEEPGEMM", "DENSEGEMM")
_OTHER_NAMES = {
    "sm90": "h100 or h200",
    "sm100": "b200 or gb200",
    "sm103": "b300 or gb300",
    "sm110": "jetson_thor",
    "thor": "jetson_thor",
    "sm120": "rtx5090 or rtx_pro_6000",
    "sm121": "dgx_spark",
    "gb10": "dgx_spark",
    "spark": "dgx_spark",
}
"""What people call them too; near spellings would lead to other GPUs."""
_OLDER = re.compile(r"(a|v|t|l|p|k)\d+s?|rtx(20|30|40)\d\d(ti)?|rtxa\d+")
"""Ampere, Ada and before, of which there are no facts here."""
_TOKENS_PER_BLOCK = 32
"""Default of kv_cache_config.tokens_per_block."""


def _gpu_unknown(subject: Subject) -> Iterator[Problem]:
    name = subject.recipe.layout.gpu
    if name is None or subject.gpu is not None:
        return
    known = [gpu.id for gpu in all_gpus()]
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    near = _OTHER_NAMES.get(plain) or (None if _OLDER.match(plain) else nearest(name, known))
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
    layout, gpu = subject.recipe.layout, subject.gpu
    if gpu is not None and layout.tp > 1 and not gpu.nvlink_gb_s:
        message = (
            f"{gpu.id} has no NVLink: tensor parallelism goes over PCIe and may hang without peer access"
        )
        hint = f"prefer tp: 1, pp: {layout.tp * layout.pp}; pipeline stages give more per GPU on such cards"
        yield Problem(("layout", "tp"), message, hint)


def _tp_beyond_nvlink(subject: Subject) -> Iterator[Problem]:
    layout, gpu = subject.recipe.layout, subject.gpu
    if gpu is None or not gpu.nvlink_gb_s:
        return
    domain = min(gpu.nvlink_domain, layout.nodes * layout.gpus_per_node)
    if layout.tp > gpu.nvlink_domain:
        message = f"tp {layout.tp} reaches beyond the {gpu.nvlink_domain} GPUs that NVLink joins"
        hint = f"use tp: {domain}, pp: {-(-layout.tp * layout.pp // domain)}"
        yield Problem(("layout", "tp"), message, hint)


def _tp_power_of_two(subject: Subject) -> Iterator[Problem]:
    tp = subject.recipe.layout.tp
    if tp & (tp - 1) and not cannot_cut_heads(subject):
        message = f"tp {tp} is not a power of two; few kernels are tuned for it"
        yield Problem(("layout", "tp"), message, "use 1, 2, 4 or 8")


def _dp_for_latency(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    if is_for_latency(recipe) and recipe.layout.attention_dp:
        message = "one GPU alone attends to each request, and the recipe is for the speed of one user"
        yield Problem(("layout", "attention_dp"), message, "set it to false, and choose tp for the latency")


def _attention_dp_config(subject: Subject) -> Iterator[Problem]:
    recipe = subject.recipe
    config = _section(recipe.engine.llm_args, "attention_dp_config")
    if config and not recipe.layout.attention_dp and recipe.engine.backend == "pytorch":
        message = "it has no effect, because layout.attention_dp is false"
        hint = "remove it, or set layout.attention_dp: true"
        yield Problem((*_ARGS, "attention_dp_config"), message, hint, "warning")
    if config.get("enable_balance") is not True:
        return
    for key in ("timeout_iters", "batching_wait_iters"):
        value = config.get(key)
        if isinstance(value, int) and value < 0:
            message = f"{key} {value} is negative, and enable_balance needs it"
            path = (*_ARGS, "attention_dp_config", key)
            yield Problem(path, message, "use 0 or more, or enable_balance: false")


def _helix_blocks(subject: Subject) -> Iterator[Problem]:
    args = subject.recipe.engine.llm_args
    config = _section(args, "cp_config")
    blocks = config.get("tokens_per_block")
    cached = _section(args, "kv_cache_config").get("tokens_per_block", _TOKENS_PER_BLOCK)
    if config.get("cp_type") == "HELIX" and isinstance(blocks, int) and blocks != cached:
        message = f"HELIX works on blocks of {blocks} tokens, the KV cache on blocks of {cached}"
        hint = f"write {cached} here, or {blocks} in kv_cache_config.tokens_per_block"
        yield Problem((*_ARGS, "cp_config", "tokens_per_block"), message, hint)


def _load_balancer(subject: Subject) -> Iterator[Problem]:
    moe = _section(subject.recipe.engine.llm_args, "moe_config")
    balancer = _section(moe, "load_balancer")
    if not balancer:
        return
    path = (*_ARGS, "moe_config", "load_balancer")
    slots, ep = balancer.get("num_slots"), subject.recipe.layout.ep
    experts = most_experts(subject.shape)
    if slots is not None and (not isinstance(slots, int) or isinstance(slots, bool)):
        message = f"expected a whole number, got {shown(slots)}"
        yield Problem((*path, "num_slots"), message, f"write a multiple of ep {ep}")
    elif slots is not None and slots < experts:
        message = f"{slots} slots for {experts} experts: some would have no place"
        yield Problem(
            (*path, "num_slots"), message, f"use {-(-experts // ep) * ep} or more, a multiple of ep"
        )
    elif slots is not None and slots % ep:
        hint = f"use {-(-slots // ep) * ep}"
        yield Problem((*path, "num_slots"), f"{slots} slots do not divide by ep {ep}", hint)
    yield from _assignments(balancer, slots, path)
    backend = moe.get("backend")
    if isinstance(backend, str) and backend not in {*_BALANCED_BACKENDS, "AUTO"}:
        message = f"MoE backend {backend} has no load balancer"
        hint = "choose one of: " + ", ".join(_BALANCED_BACKENDS)
        yield Problem((*_ARGS, "moe_config", "backend"), message, hint)


def _assignments(balancer: dict[str, Any], slots: object, path: KeyPath) -> Iterator[Problem]:
    for layer, experts in _section(balancer, "initial_global_assignments").items():
        if isinstance(experts, list) and isinstance(slots, int) and len(experts) != slots:
            message = f"layer {layer} names {len(experts)} experts for {slots} slots"
            yield Problem((*path, "initial_global_assignments"), message, f"name {slots}, one for each slot")
            return


def _several_nodes(subject: Subject) -> Iterator[Problem]:
    layout = subject.recipe.layout
    if layout.nodes > 1:
        ranks = layout.nodes * layout.gpus_per_node
        message = f"{layout.nodes} nodes have to be started together"
        hint = (
            f"use trtllm-llmapi-launch with {ranks} tasks, one for each GPU;"
            " trtllm-bench and LeaderWorkerSet have known trouble with several nodes"
        )
        yield Problem(("layout", "nodes"), message, hint)


def _section(args: dict[str, Any], key: str) -> dict[str, Any]:
    value = args.get(key)
    return value if isinstance(value, dict) else {}


RULES = (
    *layout_fit.RULES,
    Rule(
        id="layout-gpu-unknown",
        severity="error",
        summary="unknown GPU",
        find=_gpu_unknown,
        why="Without facts about the GPU neither formats nor memory can be checked.",
    ),
    Rule(
        id="layout-gpu-runtime",
        severity="error",
        summary="TensorRT-LLM does not run on this GPU",
        find=_runtime,
        source="TensorRT-LLM release notes 1.2",
        why="The server does not start there, or lacks kernels that no error names.",
    ),
    Rule(
        id="layout-gpus-per-node",
        severity="warning",
        summary="more GPUs in a machine than it usually has",
        find=_gpus_per_node,
        why="The ranks would be placed on machines that do not exist.",
    ),
    Rule(
        id="layout-tp-without-nvlink",
        severity="warning",
        summary="tensor parallelism over PCIe",
        find=_tp_without_nvlink,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/9680"
        " · TensorRT-LLM docs/source/developer-guide/perf-overview.md",
        why="Without peer access the start hangs (seen on L40S), and with it each layer waits for PCIe;"
        " upstream's own figures for Llama 3.3 70B on RTX PRO 6000 use pipeline stages.",
    ),
    Rule(
        id="layout-tp-beyond-nvlink",
        severity="warning",
        summary="tensor parallelism across NVLink domains",
        find=_tp_beyond_nvlink,
        source="ai-dynamo/aiconfigurator aic-core/src/aiconfigurator_core/systems/*.yaml",
        why="Two messages in each layer go over the network, which is 10 to 20 times slower than NVLink.",
    ),
    Rule(
        id="layout-tp-power-of-two",
        severity="warning",
        summary="tp is not a power of two",
        find=_tp_power_of_two,
        source="tensorrt_llm/recipes/validator.py",
        why="Few kernels and all-reduces are tuned for other sizes: expect less speed than the GPUs have.",
    ),
    Rule(
        id="layout-attention-dp-latency",
        severity="warning",
        summary="data parallel attention in a recipe for low latency",
        find=_dp_for_latency,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/3058",
        why="One request is then attended to by a single GPU: it was part of the flags behind a report of"
        " 40 tokens/s where 253 were published.",
    ),
    Rule(
        id="layout-attention-dp-config",
        severity="error",
        summary="settings of attention data parallelism that cannot work",
        find=_attention_dp_config,
        source="tensorrt_llm/llmapi/llm_args.py",
        why="TensorRT-LLM's own validator refuses the arguments when the server starts.",
    ),
    Rule(
        id="layout-helix-blocks",
        severity="error",
        summary="HELIX and the KV cache use different block sizes",
        find=_helix_blocks,
        source="tensorrt_llm/llmapi/llm_args.py",
        why="TensorRT-LLM's own validator refuses the arguments when the server starts.",
    ),
    Rule(
        id="layout-load-balancer",
        severity="error",
        summary="expert load balancer and layout do not fit",
        find=_load_balancer,
        source="tensorrt_llm/llmapi/llm_args.py · tensorrt_llm/_torch/modules/fused_moe/create_moe.py",
        why="The server fails while it loads the weights, minutes after the start.",
    ),
    Rule(
        id="layout-several-nodes",
        severity="info",
        summary="several nodes need a launcher",
        find=_several_nodes,
        source="https://github.com/NVIDIA/TensorRT-LLM/issues/15104"
        " · https://github.com/NVIDIA/TensorRT-LLM/pull/17235"
        " · https://github.com/NVIDIA/TensorRT-LLM/issues/8961",
        why="One process alone waits for ever for the ranks of the other nodes.",
    ),
)
