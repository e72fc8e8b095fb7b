"""Models that call the ops on a GPU in bfloat16: the same tokens as without them, every launch counted."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.errors import ReplacementError
from bwdeploy_kernels.hugging_face import replace_modules
from bwdeploy_kernels.pack import Pack, load_pack
from bwdeploy_runtime.formats import Activation
from tests.kernel_pack.models import MASK, PROMPT, forward, greedy, tiny_model, twin
from tests.kernel_pack.packs import NORM_FP8, NORM_NVFP4, OPS, SILU_FP8, SILU_NVFP4

pytestmark = pytest.mark.gpu

DEVICE: Any = "cuda"
KINDS: tuple[Activation, ...] = ("fp8", "fp8_token", "nvfp4")
OPS_OF: dict[Activation, tuple[str, ...]] = {
    "fp8": (NORM_FP8, SILU_FP8),
    "fp8_token": (NORM_FP8, SILU_FP8),
    "nvfp4": (NORM_NVFP4, SILU_NVFP4),
}
REPLAYS = 100


@pytest.fixture(scope="module")
def packs(built_pack: Path) -> dict[Activation, Pack]:
    load_pack(built_pack, device=DEVICE, ops=OPS)
    return {kind: load_pack(built_pack, device=DEVICE, ops=OPS_OF[kind]) for kind in KINDS}


@cache
def quickstart_model(rounding: Activation, *, dtype: torch.dtype = torch.bfloat16) -> Any:
    """Random weights in the sizes of the quickstart's layers; change a `twin` of it."""
    heads: Any = {"num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64}
    sizes: Any = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 6}
    return tiny_model("llama", rounding, dtype=dtype, device=DEVICE, **heads, **sizes)


def counted(pack: Pack) -> dict[str, int]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return pack.calls()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prefill_gives_the_same_values_but_for_the_order_of_a_sum(
    kind: Activation, dtype: torch.dtype, packs: dict[Activation, Pack]
) -> None:
    model = quickstart_model(kind, dtype=dtype)
    changed = twin(model)
    replaced = replace_modules(changed, packs[kind])
    before = counted(packs[kind])
    tokens, mask = PROMPT.to(DEVICE), MASK.to(DEVICE)
    ours, theirs = forward(changed, tokens, mask), forward(model, tokens, mask)
    after = counted(packs[kind])
    assert {op: after[op] - before[op] for op in after} == replaced.modules
    # The kernel sums x * x in another order than torch: a last bit of rstd can move a value over a rounding
    # border of the activation type, and that one over a border of FP8 or FP4, here and in the layers behind.
    for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        difference = (one.float() - other.float()).norm() / other.float().norm()
        assert float(difference) < 0.02, f"output {index}"
    assert float((ours[2] == theirs[2]).float().mean()) > 0.9  # behind the first layer


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_tokens_of_a_batch_are_the_same(
    kind: Activation, cache: str | None, packs: dict[Activation, Pack]
) -> None:
    model = quickstart_model(kind)
    changed = twin(model)
    replace_modules(changed, packs[kind])
    assert greedy(changed, cache=cache, tokens=16) == greedy(model, cache=cache, tokens=16)


@pytest.mark.parametrize("kind", KINDS)
def test_replays_of_a_graph_give_the_same_and_are_counted(
    kind: Activation, packs: dict[Activation, Pack]
) -> None:
    model = twin(quickstart_model(kind))
    replaced = replace_modules(model, packs[kind])
    tokens = PROMPT[:1].to(DEVICE)
    with torch.no_grad():
        eager = model(input_ids=tokens, use_cache=False).logits.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = model(input_ids=tokens, use_cache=False).logits
    before = counted(packs[kind])
    graph.replay()
    first = logits.clone()
    torch.testing.assert_close(first, eager, rtol=0.02, atol=0.05)  # cuBLAS may sum in another order
    for _ in range(REPLAYS - 1):
        logits.fill_(float("nan"))
        graph.replay()
        assert torch.equal(logits, first)
    after = counted(packs[kind])
    assert {op: after[op] - before[op] for op in after} == {
        op: REPLAYS * count for op, count in replaced.modules.items()
    }


def test_float32_model_is_refused_on_the_gpu(packs: dict[Activation, Pack]) -> None:
    wanted = r"its weights are torch\.float32, not torch\.bfloat16 or torch\.float16"
    with pytest.raises(ReplacementError, match=wanted):
        replace_modules(twin(quickstart_model("fp8", dtype=torch.float32)), packs["fp8"])
