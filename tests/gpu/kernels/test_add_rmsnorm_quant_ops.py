"""torch.ops.bwdeploy.add_rmsnorm_quant_*: forms, refusals, streams, CUDA graphs, compilation, the counter."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy_kernels.pack import Pack, load_pack
from tests.gpu.kernels.norm_cases import EPS, Norm, assert_fp8, assert_nvfp4, norm_case

pytestmark = pytest.mark.gpu

TWO = 2
OPS = ("add_rmsnorm_quant_fp8", "add_rmsnorm_quant_nvfp4")


@pytest.fixture(scope="module")
def pack(built_pack: Path) -> Pack:
    return load_pack(built_pack, device="cuda", ops=OPS)


@pytest.fixture(params=OPS)
def op(request: pytest.FixtureRequest, pack: Pack) -> str:
    assert request.param in pack.ops
    return str(request.param)


@cache
def scale_on(device: torch.device) -> torch.Tensor:
    return torch.tensor([0.01], device=device)


def call(op: str, case: Norm, scale: torch.Tensor | None = None, **options: Any) -> Any:
    given = scale_on(case.weight.device) if scale is None else scale
    return getattr(torch.ops.bwdeploy, op)(*case.tensors, given, EPS, **options)


def equal(one: Any, other: Any) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(left.view(torch.uint8), right.view(torch.uint8)) for left, right in pairs)


def test_op_returns_codes_scales_residual_and_normed(pack: Pack) -> None:
    case = norm_case(19, 80, torch.bfloat16)
    given = torch.tensor([0.01], device="cuda")
    out, residual_out, scale_out, normed = call(OPS[0], case, return_normed=True)
    assert torch.equal(residual_out, case.x + case.residual)
    assert scale_out.shape == (0,)
    assert_fp8(out, scale_out, normed, given)
    for swizzled in (False, True):
        out, scales, residual_out, normed = call(OPS[1], case, return_normed=True, swizzled=swizzled)
        assert torch.equal(residual_out, case.x + case.residual)
        assert_nvfp4(out, scales, normed, given, swizzled=swizzled)
    out, _, scale_out, normed = torch.ops.bwdeploy.add_rmsnorm_quant_fp8(*case.tensors, None, EPS)
    assert normed.shape == (0, 80)
    assert scale_out.shape == (19,)


def test_in_place_form_updates_the_residual_and_gives_the_same(op: str) -> None:
    case = norm_case(19, 80, torch.bfloat16, gap=16)
    functional = call(op, case, return_normed=True)
    untouched = case.residual.clone()
    in_place = call(f"{op}_", case, return_normed=True)
    residual_at = 1 if op == OPS[0] else 2
    assert torch.equal(case.residual, functional[residual_at])
    assert torch.equal(case.residual, case.x + untouched)
    assert equal(in_place, [part for index, part in enumerate(functional) if index != residual_at])


@pytest.mark.parametrize("form", ["", "_"])
def test_no_rows_are_fine_and_launch_nothing(op: str, form: str, pack: Pack) -> None:
    before = pack.calls()[op]
    outputs = call(f"{op}{form}", norm_case(0, 80, torch.bfloat16), return_normed=True)
    assert outputs[0].shape[0] == 0
    torch.cuda.synchronize()
    assert pack.calls()[op] == before


def _float(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float()


REFUSALS: tuple[tuple[str, Any, str], ...] = (
    ("x", _float, "x: got dtype Float, wanted dtype BFloat16 or Half"),
    ("x", lambda x: x.cpu(), "x: got a tensor that is not on a CUDA device, wanted one that is"),
    ("x", lambda x: x[0], "x: got shape [96], wanted two dimensions [rows, columns]"),
    ("x", lambda x: x.t().contiguous().t(), "x: got column stride 4, wanted column stride 1"),
    ("x", lambda x: x[:, 1:81], "x: got data 2 bytes past a multiple of 16, wanted data aligned to 16 bytes"),
    ("x", lambda x: x[:, :84], "x: got 84 columns, wanted a multiple of"),
    ("x", lambda x: x[:, :0], "x: got 0 columns, wanted a multiple of"),
    (
        "x",
        lambda x: torch.as_strided(x, (3, 96), (100, 1)),
        "x: got row stride 100, wanted a multiple of 8, at least 96",
    ),
    (
        "x",
        lambda x: torch.as_strided(x, (4, 96), (0, 1)),
        "x: got row stride 0, wanted a multiple of 8, at least 96",
    ),
    ("residual", lambda r: r[:3], "residual: got shape [3, 96], wanted shape [4, 96]"),
    ("residual", lambda r: r.half(), "residual: got dtype Half, wanted dtype BFloat16"),
    (
        "residual",
        lambda r: r.cpu(),
        "residual: got a tensor that is not on a CUDA device, wanted one that is",
    ),
    ("weight", lambda w: w[:80], "weight: got shape [80], wanted shape [96]"),
    ("weight", _float, "weight: got dtype Float, wanted dtype BFloat16"),
    (
        "weight",
        lambda w: w.repeat_interleave(2)[::2],
        "weight: got a tensor that is not contiguous, wanted a contiguous one",
    ),
)


@pytest.mark.parametrize(("name", "change", "message"), REFUSALS)
def test_wrong_tensors_are_refused_with_name_got_and_wanted(
    op: str, name: str, change: Any, message: str
) -> None:
    case = norm_case(4, 96, torch.bfloat16)
    tensors = {"x": case.x, "residual": case.residual, "weight": case.weight}
    if name == "x" and message.startswith("x: got row stride"):
        tensors = {
            key: torch.cat((value, value)) if key != "weight" else value for key, value in tensors.items()
        }
    tensors[name] = change(tensors[name])
    with pytest.raises(RuntimeError) as error:
        call(op, Norm(**tensors))
    assert message in str(error.value)


WRONG_SCALES: tuple[tuple[Any, str], ...] = (
    (lambda scale: scale.double(), "dtype Double"),
    (lambda scale: scale.repeat(2), "shape [2]"),
    (lambda scale: scale.cpu(), "a tensor that is not on a CUDA device"),
)


@pytest.mark.parametrize(("change", "got"), WRONG_SCALES)
def test_wrong_scale_is_refused_with_name_got_and_wanted(op: str, change: Any, got: str) -> None:
    name = "scale" if op == OPS[0] else "global_scale"
    case = norm_case(4, 96, torch.bfloat16)
    with pytest.raises(RuntimeError, match="wanted") as error:
        call(op, case, change(scale_on(case.x.device)))
    assert f"{name}: got {got}, wanted" in str(error.value)


def test_negative_eps_and_too_many_columns_are_refused(op: str) -> None:
    case = norm_case(1, 96, torch.bfloat16)
    given = torch.ones(1, device="cuda")
    with pytest.raises(RuntimeError, match=r"eps: got -1, wanted a number not below 0"):
        getattr(torch.ops.bwdeploy, op)(*case.tensors, given, -1.0)
    with pytest.raises(RuntimeError, match=r"x: got 65552 columns, wanted a multiple of"):
        call(op, norm_case(1, 65552, torch.bfloat16))


def test_widest_row_and_the_narrowest(op: str, pack: Pack) -> None:
    for hidden in (16, 65536):
        case = norm_case(3, hidden, torch.bfloat16)
        wanted = pack.reference(op)(
            *case.tensors, torch.tensor([0.01], device="cuda"), EPS, return_normed=True
        )
        got = call(op, case, return_normed=True)
        residual_at = 1 if op == OPS[0] else 2
        assert torch.equal(got[residual_at], wanted[residual_at])
        assert float((got[3] != wanted[3]).float().mean()) < 2e-3


def test_ops_follow_the_current_stream(op: str) -> None:
    case = norm_case(64, 5120, torch.bfloat16)
    wanted = call(op, case)
    late = Norm(x=torch.zeros_like(case.x), residual=case.residual, weight=case.weight)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # the copy below is far from done when the op is launched
        late.x.copy_(case.x)
        got = call(op, late)
    stream.synchronize()
    assert equal(got, wanted)


@pytest.mark.parametrize("launch", ["pdl", "plain"])
def test_chain_of_dependent_ops_replays_in_a_graph_and_every_launch_counts(
    op: str, launch: str, pack: Pack
) -> None:
    pdl = launch == "pdl"
    case = norm_case(8, 7168, torch.bfloat16)
    state = case.residual.clone()

    def chain() -> Any:
        for _ in range(4):
            outputs = call(
                f"{op}_", Norm(x=case.x, residual=state, weight=case.weight), pdl=pdl, return_normed=True
            )
        return outputs

    chain()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = chain()
    state.copy_(case.residual)
    before = pack.calls()[op]
    for _ in range(25):
        graph.replay()
    torch.cuda.synchronize()
    assert pack.calls()[op] == before + 100
    wanted = case.residual.clone()
    for _ in range(100):
        wanted += case.x
    assert torch.equal(state, wanted)
    last = Norm(x=torch.zeros_like(case.x), residual=wanted, weight=case.weight)
    assert equal(outputs, call(f"{op}_", last, return_normed=True))


def test_counter_may_be_read_while_another_thread_captures(op: str, pack: Pack) -> None:
    case = norm_case(8, 2048, torch.bfloat16)
    call(op, case)
    torch.cuda.synchronize()
    seen: list[int] = []
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call(op, case)
        reader = threading.Thread(target=lambda: seen.append(pack.calls()[op]))
        reader.start()
        reader.join(timeout=30)
        call(op, case)
    assert len(seen) == 1
    graph.replay()
    torch.cuda.synchronize()
    assert pack.calls()[op] == seen[0] + 2
    assert equal(outputs, call(op, case))


def test_compiled_and_exported_calls_give_the_same(op: str) -> None:
    case = norm_case(19, 5120, torch.bfloat16)
    arguments = (*case.tensors, scale_on(case.x.device))

    def both(x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> Any:
        doubled = Norm(x=x * 2, residual=residual.clone(), weight=weight)
        functional = call(op, doubled, scale)
        in_place = call(f"{op}_", doubled, scale)
        return (*functional, *in_place, doubled.residual)

    class Both(torch.nn.Module):  # type: ignore[misc]  # torch is not typed here
        def forward(self, *tensors: torch.Tensor) -> Any:
            return both(*tensors)

    wanted = both(*arguments)
    assert equal(torch.compile(both, fullgraph=True)(*arguments), wanted)
    assert equal(torch.export.export(Both(), arguments).module()(*arguments), wanted)


def test_schema_and_shapes_pass_torchs_own_check(op: str) -> None:
    case = norm_case(19, 96, torch.bfloat16)
    given = torch.tensor([0.01], device="cuda")
    for form in (op, f"{op}_"):
        overload = getattr(torch.ops.bwdeploy, form).default
        tests = ("test_schema", "test_faketensor")
        torch.library.opcheck(overload, (*case.tensors, given, EPS), test_utils=tests)


@pytest.mark.multi_gpu
@pytest.mark.skipif(torch.cuda.device_count() < TWO, reason="needs two GPUs")
def test_tensors_on_another_device_than_the_current_one(op: str, pack: Pack) -> None:
    torch.cuda.set_device(0)
    other = norm_case(19, 2048, torch.bfloat16, device="cuda:1")
    here = Norm(x=other.x.to(0), residual=other.residual.to(0), weight=other.weight.to(0))
    assert equal([part.to(0) for part in call(op, other)], call(op, here))
    assert torch.cuda.current_device() == 0
    torch.cuda.synchronize(1)
    counter = getattr(torch.ops.bwdeploy, f"{op}_calls")
    assert counter(1) > 0
    with pytest.raises(RuntimeError, match=r"residual: got cuda:1, wanted cuda:0"):
        call(op, Norm(x=here.x, residual=other.residual, weight=here.weight))
