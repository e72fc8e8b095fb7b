"""torch.ops.bwdeploy.silu_mul_quant_*: what they refuse, how they are called, that every launch counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.pack import Pack, load_pack

pytestmark = pytest.mark.gpu

FP8, NVFP4 = "silu_mul_quant_fp8", "silu_mul_quant_nvfp4"


@pytest.fixture(scope="module", autouse=True)
def pack(built_pack: Path) -> Pack:
    return load_pack(built_pack, device="cuda", ops=(FP8, NVFP4))


def run(op: str, *arguments: Any, **options: Any) -> Any:
    return getattr(torch.ops.bwdeploy, op)(*arguments, **options)


def matrix(rows: int, width: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(rows, width, device="cuda").mul(3).to(dtype)


def scale(*values: float) -> torch.Tensor:
    return torch.tensor(values or (0.0123,), device="cuda")


def counts(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device="cuda")


def same(got: Any, wanted: Any) -> bool:
    return all(
        torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(got, wanted, strict=True)
    )


GOOD = (64, 256)
REFUSED: dict[str, tuple[str, Any]] = {
    "up: got a tensor that is not on a CUDA device": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD).cpu(), None), {}),
    ),
    "gate: got dtype Float, wanted dtype BFloat16 or Half": (
        FP8,
        lambda: ((matrix(*GOOD).float(), matrix(*GOOD).float(), None), {}),
    ),
    "up: got dtype Half, wanted dtype BFloat16": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD).half(), None), {}),
    ),
    "gate: got shape [256], wanted two dimensions": (
        FP8,
        lambda: ((matrix(*GOOD)[0], matrix(*GOOD)[0], None), {}),
    ),
    "up: got shape [64, 128], wanted shape [64, 256]": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(64, 128), None), {}),
    ),
    "gate: got 12 columns, wanted a multiple of 8 from 8 to 65536": (
        FP8,
        lambda: ((matrix(64, 16)[:, :12], matrix(64, 16)[:, :12], None), {}),
    ),
    "gate: got 65544 columns, wanted a multiple of 8 from 8 to 65536": (
        FP8,
        lambda: ((matrix(1, 65544), matrix(1, 65544), None), {}),
    ),
    "gate: got 24 columns, wanted a multiple of 16": (
        NVFP4,
        lambda: ((matrix(64, 24), matrix(64, 24), scale()), {}),
    ),
    "gate: got column stride 64, wanted column stride 1": (
        FP8,
        lambda: ((matrix(256, 64).t(), matrix(*GOOD), None), {}),
    ),
    "up: got row stride 260, wanted a multiple of 8": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(64, 260)[:, :256], None), {}),
    ),
    "gate: got data 2 bytes past a multiple of 16": (
        FP8,
        lambda: ((matrix(64, 264)[:, 1:257], matrix(*GOOD), None), {}),
    ),
    "scale: got dtype Double, wanted dtype Float": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD), scale().double()), {}),
    ),
    "scale: got shape [2], wanted shape [1]": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD), scale(1.0, 2.0)), {}),
    ),
    "global_scale: got shape [1], wanted shape [2]": (
        NVFP4,
        lambda: ((matrix(256, 256), matrix(256, 256), scale()), {"rows_per_expert": counts(1, 2)}),
    ),
    "rows_per_expert: got dtype Long, wanted dtype Int": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD), scale(1.0, 2.0)), {"rows_per_expert": counts(1, 2).long()}),
    ),
    "gate: got 64 rows, wanted a multiple of the 3 experts": (
        FP8,
        lambda: ((matrix(*GOOD), matrix(*GOOD), scale(1.0, 2.0, 3.0)), {"rows_per_expert": counts(1, 2, 3)}),
    ),
    "gate: got 64 rows an expert, wanted a multiple of 128": (
        NVFP4,
        lambda: ((matrix(128, 256), matrix(128, 256), scale(1.0, 2.0)), {"rows_per_expert": counts(1, 2)}),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused_with_name_got_and_wanted(message: str) -> None:
    op, arguments = REFUSED[message]
    positional, options = arguments()
    with pytest.raises(RuntimeError) as refused:
        run(op, *positional, **options)
    assert message in str(refused.value)


@pytest.mark.parametrize("width", [16, 2048])
def test_no_rows_give_empty_outputs(width: int) -> None:
    gate = up = matrix(0, width)
    shapes = [
        [tuple(tensor.shape) for tensor in run(FP8, gate, up, None)],
        [tuple(tensor.shape) for tensor in run(FP8, gate, up, scale())],
        [tuple(tensor.shape) for tensor in run(NVFP4, gate, up, scale())],
        [tuple(tensor.shape) for tensor in run(NVFP4, gate, up, scale(), swizzled=False)],
    ]
    torch.cuda.synchronize()
    assert shapes == [
        [(0, width), (0,)],
        [(0, width), (0,)],
        [(0, width // 2), (0, -(-width // 64) * 4)],
        [(0, width // 2), (0, width // 16)],
    ]


def test_without_programmatic_launch_and_on_another_stream_the_bytes_are_the_same() -> None:
    gate, up = matrix(19, 1008), matrix(19, 1008)
    for op, given in ((FP8, None), (FP8, scale()), (NVFP4, scale())):
        wanted = run(op, gate, up, given)
        assert same(run(op, gate, up, given, pdl=False), wanted)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            got = run(op, gate, up, given)
        torch.cuda.current_stream().wait_stream(stream)
        assert same(got, wanted)


def test_a_chain_of_dependent_launches_reads_what_the_launch_before_wrote() -> None:
    gate, up, one = matrix(8, 8192), matrix(8, 8192), scale(1.0)

    def chain(*, pdl: bool) -> Any:
        out, _ = run(FP8, gate, up, one, pdl=pdl)
        for _ in range(3):  # the bytes of one as the activations of the next
            values = out.view(torch.bfloat16)
            out, _ = run(FP8, values, values, one, pdl=pdl)
        return out

    run(FP8, gate, up, one)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = chain(pdl=True)
    for seed in range(50):
        torch.manual_seed(seed)
        gate.copy_(matrix(8, 8192))
        graph.replay()
        assert torch.equal(got.view(torch.uint8), chain(pdl=False).view(torch.uint8))


def test_every_replay_of_a_graph_counts(pack: Pack) -> None:
    gate, up, given = matrix(8, 2048), matrix(8, 2048), scale()
    graph = torch.cuda.CUDAGraph()
    run(FP8, gate, up, None)
    with torch.cuda.graph(graph):
        for dtype in (torch.bfloat16, torch.float16):
            run(FP8, gate.to(dtype), up.to(dtype), None)
            run(FP8, gate.to(dtype), up.to(dtype), given)
            run(NVFP4, gate.to(dtype), up.to(dtype), given)
    torch.cuda.synchronize()
    before = pack.calls()
    for _ in range(1000):
        graph.replay()
    torch.cuda.synchronize()
    after = pack.calls()
    assert {op: after[op] - before[op] for op in after} == {FP8: 4000, NVFP4: 2000}


@pytest.mark.parametrize("op", [FP8, NVFP4])
def test_torch_finds_nothing_wrong_with_the_registration(op: str) -> None:
    torch.library.opcheck(
        getattr(torch.ops.bwdeploy, op).default,
        (matrix(19, 80), matrix(19, 80), scale()),
        {"eager_rounding": True},
        test_utils=("test_schema", "test_faketensor"),
    )
