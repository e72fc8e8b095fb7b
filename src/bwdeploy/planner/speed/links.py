"""How long the messages between GPUs take: all-reduces, exchange of tokens for experts, pipeline stages.

Bytes over bandwidth, and for links slower than NVLink a latency for each message; NVLink's own latency is
part of the floor of a layer in `roofline`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.facts.gpus import Gpu
    from bwdeploy.model.shape import ModelShape
    from bwdeploy.recipe.schema import Layout

EFFICIENCY = 0.8
PCIE_B_S = 64e9
"""One direction of PCIe 5.0 x16."""
NETWORK_B_S = 50e9
"""One direction of a 400 Gb/s port for each GPU."""
SLOW_MESSAGE_S = 20e-6
"""Latency of an all-reduce over PCIe or the network; aiconfigurator has 10 µs for one hop."""
SEND_S = 10e-6
"""Latency of one hop between pipeline stages; aiconfigurator's p2p_latency."""
ACTIVATION_BYTES = 2


def messages_s(shape: ModelShape, gpu: Gpu, layout: Layout, tokens: int) -> float:
    """All messages of one step of `tokens` tokens."""
    count = 2 * len(shape.layers) if layout.tp > 1 else 0
    slow = 0.0 if _is_nvlink(gpu, layout.tp) else SLOW_MESSAGE_S * count
    size = tokens * shape.hidden * ACTIVATION_BYTES
    sends = (layout.pp - 1) * (SEND_S + size / _bytes_per_s(gpu, layout.pp * layout.tp))
    return slow + sends + transfer_s(shape, gpu, layout, tokens)


def transfer_s(shape: ModelShape, gpu: Gpu, layout: Layout, tokens: int) -> float:
    """Bytes over bandwidth alone: two ring all-reduces a layer, or with attention DP dispatch and combine."""
    if layout.tp == 1:
        return 0.0
    size = tokens * shape.hidden * ACTIVATION_BYTES / _bytes_per_s(gpu, layout.tp)
    if layout.attention_dp:
        return len(shape.layers) * 2 * size / layout.tp * _ranks_met(shape, layout)
    return len(shape.layers) * 2 * (2 * (layout.tp - 1) / layout.tp) * size


def _ranks_met(shape: ModelShape, layout: Layout) -> float:
    """Ranks that a token is sent to: those of its experts, each with all its tensor parallel parts."""
    chosen = max((layer.ffn.experts_per_token for layer in shape.layers), default=0)
    groups = layout.ep * (1 - (1 - 1 / layout.ep) ** max(1, chosen))
    return groups * layout.tp / layout.ep


def _is_nvlink(gpu: Gpu, ranks: int) -> bool:
    return bool(gpu.nvlink_gb_s) and ranks <= gpu.nvlink_domain


def _bytes_per_s(gpu: Gpu, ranks: int) -> float:
    """One direction among `ranks` GPUs."""
    if _is_nvlink(gpu, ranks):
        return gpu.nvlink_gb_s / 2 * 1e9 * EFFICIENCY
    return (PCIE_B_S if ranks <= gpu.gpus_per_node else NETWORK_B_S) * EFFICIENCY
