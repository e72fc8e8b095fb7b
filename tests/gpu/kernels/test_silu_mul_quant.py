"""The silu_mul_quant kernels against their float32 references, on the GPU.

With eager_rounding every byte equals that of PyTorch's own silu and multiplication with exact quantization.
By default the exponential and the reciprocal are some float32 ulp off: once in some thousand values the
product falls on the other side of a rounding to the activation type, which moves a code by one step at most.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bwdeploy_kernels.pack import Pack, load_pack
from bwdeploy_kernels.rounding import unswizzle
from tests.gpu.kernels.silu_entries import MODES, NAMES, POISON, Given, Written, call, configs

pytestmark = pytest.mark.gpu

OPS = ("silu_mul_quant_fp8", "silu_mul_quant_nvfp4")
OFF_BY_ONE_STEP = 5e-3
"""Share of codes that may differ with the default rounding."""


@pytest.fixture(scope="module")
def pack(built_pack: Path) -> Pack:
    return load_pack(built_pack, device="cuda", ops=OPS)


def halves(rows: int, width: int, dtype: torch.dtype, *, gap: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    fused = torch.randn(rows, 2 * width + gap, device="cuda").mul(3).to(dtype)
    return fused[:, :width], fused[:, width : 2 * width]


def scale_of(mode: str) -> torch.Tensor | None:
    return None if mode == "per_token" else torch.tensor([0.0123], device="cuda")


def reference(pack: Pack, given: Given) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales as bytes, in the shapes of `Written`; swizzled scales are linear here."""
    options = {"rows_per_expert": given.counts, "eager_rounding": given.eager}
    if MODES[given.mode] == "fp8":
        out, scales = pack.reference("silu_mul_quant_fp8")(given.gate, given.up, given.scale, **options)
        scales = scales.unsqueeze(-1)
    else:
        options["swizzled"] = False
        out, scales = pack.reference("silu_mul_quant_nvfp4")(given.gate, given.up, given.scale, **options)
    return out.view(torch.uint8), scales.contiguous().view(torch.uint8)


def linear(given: Given, written: Written) -> torch.Tensor:
    """The scales of the rows, whatever their layout."""
    if given.mode != "swizzled":
        return written.scales
    rows, width = given.gate.shape
    return unswizzle(written.scales, rows, width // 16)


def off(got: torch.Tensor, wanted: torch.Tensor, mode: str) -> tuple[float, int]:
    """Share of codes that differ, and by how many steps at most; NVFP4: of bytes, steps not counted."""
    if MODES[mode] == "fp8":
        return off_e4m3(got, wanted)
    return float((got != wanted).float().mean()), 0


def off_e4m3(got: torch.Tensor, wanted: torch.Tensor) -> tuple[float, int]:
    """Share of E4M3 bytes that differ, and by how many steps at most; every NaN counts as the same."""
    both_nan = (got & 0x7F == 0x7F) & (wanted & 0x7F == 0x7F)
    distance = (_step(got) - _step(wanted)).abs().masked_fill(both_nan, 0)
    return float((distance > 0).float().mean()), int(distance.max())


def _step(code: torch.Tensor) -> torch.Tensor:
    value = code.to(torch.int16)
    return torch.where(value > 127, 128 - value, value)


def agree(pack: Pack, given: Given, written: Written) -> None:
    codes, scales = reference(pack, given)
    assert written.guards
    if given.eager:
        assert off(written.codes, codes, given.mode)[0] == 0
        if given.mode != "static":
            assert torch.equal(linear(given, written), scales)
        return
    share, steps = off(written.codes, codes, given.mode)
    assert share < OFF_BY_ONE_STEP
    assert steps <= 1
    if given.mode == "per_token":
        got, wanted = (bits.flatten().view(torch.float32) for bits in (written.scales, scales))
        torch.testing.assert_close(got, wanted, rtol=2**-7, atol=0)
    elif given.mode != "static":
        share, steps = off_e4m3(linear(given, written), scales)
        assert share < OFF_BY_ONE_STEP
        assert steps <= 1


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("mode", MODES)
def test_every_launch_choice_gives_the_bytes_of_the_reference(
    mode: str, dtype: torch.dtype, pack: Pack
) -> None:
    for rows in (1, 19, 111, 989):
        for width in (16, 80, 1008, 2048) if rows > 1 else (16, 80, 1008, 2048, 18432):
            gate, up = halves(rows, width, dtype)
            for eager in (False, True):
                given = Given(mode=mode, gate=gate, up=up, scale=scale_of(mode), eager=eager)
                for config in (None, *configs(mode, rows, width)):
                    error, written = call(pack.directory, given, config)
                    assert error == 0, (rows, width, config)
                    agree(pack, given, written)


@pytest.mark.parametrize("rows", [1, 19, 129])
@pytest.mark.parametrize("width", [16, 80])
def test_swizzled_padding_is_cleared_and_nothing_else_written(rows: int, width: int, pack: Pack) -> None:
    gate, up = halves(rows, width, torch.bfloat16)
    given = Given(mode="swizzled", gate=gate, up=up, scale=scale_of("swizzled"))
    for config in (None, *configs("swizzled", rows, width)):
        _, written = call(pack.directory, given, config)
        padded = unswizzle(written.scales, *written.scales.shape)
        assert written.guards
        assert not padded[rows:].any()
        assert not padded[:, width // 16 :].any()
        assert padded[:rows, : width // 16].all()


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("mode", ["static", "linear"])
def test_every_gate_there_is_gives_the_bytes_of_the_reference(
    mode: str, dtype: torch.dtype, pack: Pack
) -> None:
    patterns = torch.arange(65536, device="cuda", dtype=torch.int32).to(torch.int16).view(dtype)
    gate = patterns[patterns.float().abs().nan_to_num(1e38).argsort()].view(64, 1024)  # like beside like
    for factor in (1.0, -0.5, 1e4):
        up = torch.full_like(gate, factor)
        for scale in (1.0, 2.7e-3, 1e-20, 1e30):
            for eager in (False, True):
                given = Given(
                    mode=mode, gate=gate, up=up, scale=torch.tensor([scale], device="cuda"), eager=eager
                )
                agree_where_finite(pack, given)


def agree_where_finite(pack: Pack, given: Given) -> None:
    """Like agree(), with NaN where the reference has it: the scale byte of a NaN block is any E4M3 NaN."""
    _, written = call(pack.directory, given)
    codes, scales = reference(pack, given)
    share, steps = off(written.codes, codes, given.mode)
    scale_share = off_e4m3(written.scales, scales)[0] if given.mode == "linear" else 0.0
    assert written.guards
    assert max(share, scale_share) <= (0 if given.eager else OFF_BY_ONE_STEP), (
        given.scale,
        share,
        scale_share,
    )
    assert steps <= 1
    if given.mode == "static":
        nan = (given.gate.isnan() | given.gate.isneginf()).flatten()
        assert torch.equal(written.codes.flatten() & 0x7F == 0x7F, nan)


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_an_expert_does_not_have_are_neither_read_nor_written(mode: str, pack: Pack) -> None:
    capacity, width, counts = 128, 1008, [0, 128, 1, 77]
    scale = None if mode == "per_token" else torch.tensor([0.01, 0.02, 0.5, 0.03], device="cuda")
    for eager in (False, True):
        gate, up = halves(len(counts) * capacity, width, torch.bfloat16)
        real = torch.cat([torch.arange(capacity, device="cuda") < count for count in counts])
        gate[~real] = float("nan")
        on_device = torch.tensor(counts, dtype=torch.int32, device="cuda")
        given = Given(mode=mode, gate=gate, up=up, scale=scale, counts=on_device, eager=eager)
        codes, scales = reference(pack, given)
        for rows in (1, 128):  # the launch choices for few and for many
            for config in (None, *configs(mode, rows, width)):
                error, written = call(pack.directory, given, config)
                assert error == 0, config
                assert written.guards
                assert (written.codes[~real] == POISON).all()
                share, _ = off(written.codes[real], codes[real], mode)
                assert share <= (0 if eager else OFF_BY_ONE_STEP)
                if mode != "static":
                    got = linear(given, written)
                    assert (got[~real] == POISON).all()
                    assert not eager or torch.equal(got[real], scales[real])


@pytest.mark.parametrize("mode", MODES)
def test_two_views_of_one_matrix_give_the_bytes_of_two_matrices(mode: str, pack: Pack) -> None:
    gate, up = halves(19, 1008, torch.float16, gap=24)
    apart = torch.empty(19, 2048, dtype=torch.float16, device="cuda")[:, 8:1016].copy_(up)
    _, of_views = call(pack.directory, Given(mode=mode, gate=gate, up=up, scale=scale_of(mode)))
    _, of_copies = call(pack.directory, Given(mode=mode, gate=gate.clone(), up=apart, scale=scale_of(mode)))
    assert torch.equal(of_views.codes, of_copies.codes)
    assert torch.equal(of_views.scales, of_copies.scales)


@pytest.mark.parametrize("width", [8, 24576, 24584, 28672, 53248, 65536])
def test_a_scale_per_token_holds_any_row_up_to_65536_columns(width: int, pack: Pack) -> None:
    for rows in (1, 40):
        gate, up = halves(rows, width, torch.bfloat16)
        given = Given(mode="per_token", gate=gate, up=up, scale=None, eager=True)
        error, written = call(pack.directory, given)
        assert error == 0
        agree(pack, given, written)


def test_a_launch_choice_that_does_not_hold_a_row_is_refused(pack: Pack) -> None:
    gate, up = halves(3, 2048, torch.bfloat16)
    for mode, config in (
        ("per_token", (1, 128, 1, 0)),
        ("per_token", (1, 32, 16, 0)),
        ("per_token", (5, 256, 1, 0)),
        ("static", (2, 128, 1, 0)),
        ("static", (1, 100, 1, 0)),
        ("linear", (1, 1024, 1, 0)),
    ):
        error, written = call(
            pack.directory, Given(mode=mode, gate=gate, up=up, scale=scale_of(mode)), config
        )
        assert error == 9  # cudaErrorInvalidConfiguration
        assert (written.codes == POISON).all()
