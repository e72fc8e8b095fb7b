"""How long a step of a model takes on a layout, from bytes, operations, links and a floor for each layer.

Arithmetic, nothing measured here: the linear layers and the attention each take the longer of memory and
math time; launches cost a floor for each layer; tensor, expert and pipeline parallelism add their messages.
Speculative decoding is not here (see `steps`). The constants were set once against public measurements;
`BAND` says how far off the result still is, so no figure may be shown without it.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from bwdeploy.planner.memory.kv_cache import gpu_bytes_per_token
from bwdeploy.planner.speed.links import messages_s, transfer_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.shape import Layer, ModelShape
    from bwdeploy.planner.speed.work import Math, Work
    from bwdeploy.recipe.schema import Layout

BANDWIDTH_EFFICIENCY = 0.8
"""Of the data sheet's bandwidth; aiconfigurator's mem_bw_empirical_scaling_factor."""
MATH_EFFICIENCY = 0.4
"""Of the dense peak."""
LAYER_FLOOR_US = {"dense": 60.0, "moe": 70.0, "mla": 135.0}
"""Launches, norms, routing and the latency of messages over NVLink, by kind of layer. DeepSeek-R1 at batch 1
takes 9.0 ms on 8 B200 and reads its weights in 0.75 ms of that: about 135 µs for each of its 61 layers
(TensorRT-LLM docs/source/blogs/tech_blog/blog1)."""
DRAFT_LAYERS = 4.0
"""What drafting one token adds, in layer floors: its layer, the head, sampling and the hand-over. With
it DeepSeek-R1 comes to the 0.75 ms for each drafted token that tech_blog/blog1 shows."""


class Band(NamedTuple):
    """Factors around an estimate."""

    low: float
    high: float
    why: str


BAND = Band(
    0.5,
    2.0,
    "1,230 of 1,302 public measurements (B200, GB200, H200, H100; TensorRT-LLM) lie between 0.5 and"
    " 2 times this estimate, whose constants were set with the same measurements in view",
)
"""The measurements: systems/silicon_sample.csv of aiconfigurator-core 0.12.0, every row of trtllm and
aggregated serving but the 36 that queued (first token after 5 s). Whether a row drafts is not recorded there.
By model and GPU it is uneven: Llama, DeepSeek-V3 and gpt-oss on B200 lie within 0.6 to 1.6 but for 4 of 326,
DeepSeek-R1 on B200 runs 1.5 times as fast as estimated in the middle, Qwen3-32B on GB200 at 0.4 times."""


class StepTime(NamedTuple):
    """Parts of one step, in seconds."""

    linear_s: float
    attention_s: float
    floor_s: float
    link_s: float

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(self)


class Load(NamedTuple):
    """Requests that are served at once."""

    concurrency: int
    input_tokens: int
    output_tokens: int


class Point(NamedTuple):
    """An estimate at one concurrency."""

    concurrency: int
    token_s: float
    """Between two tokens of one user, prompts of other users included."""
    tokens_per_s_per_user: float
    tokens_per_s_per_gpu: float


def step_time(
    work: Work, gpu: Gpu, layout: Layout, *, requests: int, context: int, drafted: int = 0
) -> StepTime:
    """One decoding step of `requests` requests that each look back on `context` tokens.

    With `drafted` tokens the step proposes so many for each request and verifies them.

    Formula: max(weights / bandwidth, operations / peak) + max(KV / bandwidth, attention / peak)
    + floor · layers + messages. With pipeline stages the requests go through in as many parts.
    """
    part = -(-requests // layout.pp)
    tokens = part * (1 + drafted)
    bandwidth = gpu.memory_bandwidth_tb_s * 1e12 * BANDWIDTH_EFFICIENCY
    linear = max(
        _weight_bytes(work, layout, tokens) / bandwidth,
        tokens * _math_s(work.flops, gpu) / layout.tp,
    )
    rows = part / layout.tp if layout.attention_dp else part
    attention = max(
        rows * _kv_bytes(work, layout, context) / bandwidth,
        tokens
        * _attention_flops(work.shape, context)
        / _peak(gpu, "fp8" if work.kv.name in {"fp8", "nvfp4"} else "bf16")
        / layout.tp,
    )
    floors = [LAYER_FLOOR_US[_kind(layer)] * 1e-6 for layer in work.shape.layers]
    floor = sum(floors) + drafted * DRAFT_LAYERS * max(floors, default=0.0)
    return StepTime(linear, attention, floor, messages_s(work.shape, gpu, layout, tokens))


def prompt_s(work: Work, gpu: Gpu, layout: Layout, *, tokens: int) -> float:
    """Seconds that one prompt takes from all ranks of one stage, beside running requests."""
    products = tokens * _math_s(work.flops, gpu)
    attention = tokens * _attention_flops(work.shape, tokens // 2) / _peak(gpu, "bf16")
    messages = transfer_s(work.shape, gpu, layout, tokens)
    return (products + attention) / layout.tp + messages


def estimate_point(work: Work, gpu: Gpu, layout: Layout, load: Load, *, faster: float = 1.0) -> Point:
    """Speed of a user and of a GPU while `load` keeps coming; a new prompt follows each finished answer.

    `faster` divides the time of a token without the prompts: the gain of speculative decoding.
    """
    context = load.input_tokens + load.output_tokens // 2
    step = step_time(work, gpu, layout, requests=load.concurrency, context=context).total_s
    prompt = prompt_s(work, gpu, layout, tokens=load.input_tokens)
    token_s = step / faster + load.concurrency / load.output_tokens * prompt / layout.pp
    whole = load.concurrency / token_s
    return Point(load.concurrency, token_s, 1 / token_s, whole / (layout.tp * layout.pp))


def experts_met(experts: int, chosen: int, tokens: float) -> float:
    """Distinct experts that `tokens` tokens meet, with even routing: E · (1 - (1 - k/E)^n)."""
    return experts * (1 - (1 - chosen / experts) ** tokens) if experts else 0.0


def _weight_bytes(work: Work, layout: Layout, tokens: int) -> float:
    dense = work.split_bytes / (1 if layout.attention_dp else layout.tp) + work.whole_bytes
    return dense + work.expert_bytes / layout.tp * _expert_share(work.shape, layout, tokens)


def _expert_share(shape: ModelShape, layout: Layout, tokens: int) -> float:
    """The part of its experts that the busiest rank reads: the fullest of `ep` bins, never more than all."""
    ffn = next((layer.ffn for layer in shape.layers if layer.ffn.experts), None)
    if ffn is None:
        return 0.0
    met = experts_met(ffn.experts, ffn.experts_per_token, tokens)
    mean = met / layout.ep
    fullest = mean + math.sqrt(2 * mean * math.log(layout.ep)) if layout.ep > 1 else mean
    return min(1.0, fullest * layout.ep / ffn.experts)


def _kv_bytes(work: Work, layout: Layout, context: int) -> float:
    """KV bytes that a rank reads for one of its requests."""
    return sum(
        count * min(context, attention.span or context) * gpu_bytes_per_token(attention, work.kv, layout)
        for attention, count in Counter(layer.attention for layer in work.shape.layers).items()
    )


@cache
def _attention_flops(shape: ModelShape, context: int) -> float:
    """Of one token that looks back on `context` tokens."""
    total = 0.0
    for layer in shape.layers:
        attention = layer.attention
        width = (
            2 * attention.latent_dim if attention.kind == "mla" else attention.head_dim + attention.value_dim
        )
        total += 2.0 * min(context, attention.span or context) * attention.heads * width
    return total


def _math_s(flops: Mapping[Math, float], gpu: Gpu) -> float:
    return sum(count / _peak(gpu, math) for math, count in flops.items() if count)


def _peak(gpu: Gpu, math: Math) -> float:
    """Usable operations in a second; a GPU without the format computes in the next wider one."""
    order: tuple[Math, ...] = ("fp4", "fp8", "bf16")
    for wider in order[order.index(math) :]:
        if tflops := gpu.dense_tflops.get(wider):
            return tflops * 1e12 * MATH_EFFICIENCY
    return 1e12 * MATH_EFFICIENCY


def _kind(layer: Layer) -> str:
    if layer.attention.kind == "mla":
        return "mla"
    return "moe" if layer.ffn.kind == "moe" else "dense"
