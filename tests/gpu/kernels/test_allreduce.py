"""allreduce_add_rmsnorm_quant on real GPUs: `pytest -m multi_gpu tests/gpu/kernels`.

Two ranks on two GPUs; four and eight ranks take turns on the GPUs there are, which shows that sums, places
and protocol are right but nothing about NVLink or time.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bwdeploy_kernels.peers import PeerError, open_peers
from tests.gpu.kernels.allreduce_cases import (
    EPS,
    MODES,
    Case,
    Filling,
    Inputs,
    Mode,
    assert_right,
    call,
    make_inputs,
    same_numbers,
)
from tests.gpu.kernels.ranks import Rank, Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.multi_gpu

REPLAYS = 100_000
WIDEST = 16384
FILLINGS: tuple[Filling, ...] = ("bits", "large", "zeros")
KINDS: tuple[tuple[int, Mode], ...] = ((1, "static"), (160, "swizzled"), (16, "per_token"))
ROWS = (0, 1, 19, 111, 127, 128, 129, 989)


def check(rank: Rank, peers: int, case: Case) -> None:
    inputs = make_inputs(case, rank)
    assert_right(case, inputs, call(case, inputs, rank, peers), rank, peers)


def every_mode_and_size(rank: Rank) -> None:
    with open_peers(hidden=WIDEST, rows=512) as group:
        for rows, mode, dtype, eager in itertools.product(
            ROWS, MODES, (torch.bfloat16, torch.float16), (False, True)
        ):
            check(
                rank, group.handle, Case(rows=rows, mode=mode, dtype=dtype, eager_rounding=eager, hidden=5120)
            )
        for hidden, mode, rows in itertools.product((16, 80, 1008, 2048, 7168, WIDEST), MODES, (1, 19, 130)):
            check(rank, group.handle, Case(rows=rows, mode=mode, hidden=hidden, strided=True))


def odd_values(rank: Rank) -> None:
    with open_peers(hidden=2048, rows=128) as group:
        for filling, mode, dtype in itertools.product(FILLINGS, MODES, (torch.bfloat16, torch.float16)):
            for rows in (3, 200):
                check(
                    rank, group.handle, Case(rows=rows, hidden=2048, mode=mode, dtype=dtype, filling=filling)
                )


def every_configuration(rank: Rank) -> None:
    with open_peers(hidden=WIDEST, rows=512) as group:
        for cluster, teams, shots, ahead in itertools.product((1, 2, 4, 8), (0, 5), (1, 2), (0, 3)):
            torch.ops.bwdeploy.allreduce_peers_configure(group.handle, cluster, teams, shots, ahead)
            for rows, mode in itertools.product((1, 2, 37, 300), MODES):
                if rank.world_size > 2 and shots == 1 and rows > 128:
                    continue
                check(rank, group.handle, Case(rows=rows, mode=mode, hidden=4096))


def ranks_that_take_turns(rank: Rank) -> None:
    """More ranks than GPUs: a few calls of each kind, each a few time slices long."""
    with pytest.raises(PeerError, match=r"wanted one rank; call torch.cuda.set_device"):
        open_peers(hidden=2048)
    with open_peers(hidden=2048, rows=256, share_gpus=True) as group:
        for rows, mode in itertools.product((1, 19, 128, 129, 300), MODES):
            check(rank, group.handle, Case(rows=rows, hidden=2048, mode=mode))
        check(rank, group.handle, Case(rows=19, hidden=1008, filling="bits", dtype=torch.float16))
        check(rank, group.handle, Case(rows=200, hidden=1008, filling="bits"))


def replays_with_changing_data(rank: Rank) -> None:
    with open_peers(hidden=2048, rows=256) as group:
        peers = group.handle
        graphs = [
            Replays(rank, peers, [Case(rows=3, hidden=2048, seed=seed) for seed in range(8)]),
            Replays(
                rank, peers, [Case(rows=70, hidden=2048, mode="swizzled", seed=seed) for seed in range(8)]
            ),
        ]
        for number in range(REPLAYS):
            graphs[number % 2].graph.replay()
            if number % 997 == rank.number:
                time.sleep(0.002)  # now one rank is late, now the other
        torch.cuda.synchronize()
        for replays in graphs:
            assert int(replays.steps) == REPLAYS // 2
            assert int(replays.wrong) == 0


class Replays:
    """A graph that takes the next case at each replay and adds up how many bytes of out were wrong."""

    def __init__(self, rank: Rank, peers: int, cases: list[Case]) -> None:
        inputs = [make_inputs(case, rank) for case in cases]
        self.op = getattr(torch.ops.bwdeploy, cases[0].op)
        self.peers, self.weight, self.scale = peers, inputs[0].weight, inputs[0].scale
        self.x = torch.stack([given.parts[rank.number] for given in inputs])
        self.residuals = torch.stack([given.residual for given in inputs])
        self.expected = torch.stack(
            [self._expected(case, given, rank) for case, given in zip(cases, inputs, strict=True)]
        )
        self.wrong, self.steps = (torch.zeros((), dtype=torch.int64, device=rank.device) for _ in range(2))
        self.graph = captured(self._step)

    def _expected(self, case: Case, given: Inputs, rank: Rank) -> torch.Tensor:
        outputs = call(case, given, rank, self.peers)
        assert_right(case, given, outputs, rank, self.peers)
        return outputs["out"].view(torch.uint8)

    def _step(self) -> None:
        which = (self.steps % len(self.x)).reshape(1)
        x, residual, expected = (
            table.index_select(0, which)[0] for table in (self.x, self.residuals, self.expected)
        )
        out = self.op(x, residual, self.weight, self.scale, EPS, self.peers)[0]
        self.wrong += (out.view(torch.uint8) != expected).sum()
        self.steps += 1


def captured(step: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """`thread_local`: the watchdog of NCCL asks for events in a thread of its own."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph


def late_ranks(rank: Rank) -> None:
    """The host or the GPU of one rank is late by up to milliseconds, now one, now another."""
    with open_peers(hidden=2048, rows=256) as group:
        for number in range(60):
            case = Case(rows=(1, 16, 130)[number % 3], hidden=2048, mode=MODES[number % 4], seed=number)
            inputs = make_inputs(case, rank)
            if number % rank.world_size == rank.number:
                time.sleep(0.003)
                torch.cuda._sleep(3_000_000)
            assert_right(case, inputs, call(case, inputs, rank, group.handle), rank, group.handle)


def two_groups_in_two_streams(rank: Rank) -> None:
    cases = Case(rows=4, hidden=2048), Case(rows=16, hidden=1008, mode="linear")
    with open_peers(hidden=2048, rows=128) as first, open_peers(hidden=1008, rows=128) as second:
        groups = first.handle, second.handle
        given = [make_inputs(case, rank) for case in cases]
        streams = [torch.cuda.Stream() for _ in cases]
        torch.cuda.synchronize()
        outputs: list[Any] = [None, None]
        for _ in range(200):
            for place, case in enumerate(cases):
                with torch.cuda.stream(streams[place]):
                    outputs[place] = call(case, given[place], rank, groups[place])
        torch.cuda.synchronize()
        for place, case in enumerate(cases):
            assert_right(case, given[place], outputs[place], rank, groups[place])


def two_ops_in_one_graph(rank: Rank) -> None:
    """Static FP8 and swizzled NVFP4 in turns in one graph, on groups that share nothing and on one group."""
    cases = [Case(rows=rows, mode=mode) for rows, mode in KINDS]
    with open_peers(hidden=7168, rows=128) as first, open_peers(hidden=7168, rows=128) as second:
        given = [make_inputs(case, rank) for case in cases]
        outputs: list[Any] = []

        def step() -> None:
            for group in (first, second, first):
                outputs.extend(
                    call(case, inputs, rank, group.handle) for case, inputs in zip(cases, given, strict=True)
                )

        graph = captured(step)
        for _ in range(300):
            for output in outputs:
                output["out"].view(torch.uint8).fill_(0xA5)
            graph.replay()
        torch.cuda.synchronize()
        for number, output in enumerate(outputs):
            place = number % len(cases)
            assert_right(cases[place], given[place], output, rank, first.handle)


def launches_are_counted(rank: Rank) -> None:
    case = Case(rows=300, hidden=1008)
    inputs = make_inputs(case, rank)
    with open_peers(hidden=1008, rows=128) as group:
        graph = captured(lambda: call(case, inputs, rank, group.handle))
        before = rank.calls()
        for _ in range(10):
            graph.replay()
        torch.cuda.synchronize()
        assert rank.calls() - before == 10 * 3  # 300 rows in pieces of 128


def compiled_calls(rank: Rank) -> None:
    case = Case(rows=5, hidden=1008)
    inputs = make_inputs(case, rank)
    with open_peers(hidden=1008, rows=128) as group:

        def layer(x: torch.Tensor) -> Any:
            op = torch.ops.bwdeploy.allreduce_add_rmsnorm_quant_fp8
            outputs = op(
                x + 0, inputs.residual, inputs.weight, inputs.scale, EPS, group.handle, return_normed=True
            )
            return outputs[0], outputs[1] * 1

        out, residual_out = torch.compile(layer, fullgraph=True)(inputs.parts[rank.number])
        plain = call(case, inputs, rank, group.handle)
        assert same_numbers(out, plain["out"])
        assert same_numbers(residual_out, plain["residual_out"])


def refusals(rank: Rank) -> None:
    case = Case(rows=2, hidden=1008)
    inputs = make_inputs(case, rank)
    refused: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: open_peers(hidden=1008, rows=100), PeerError, "rows: got 100, wanted a multiple of 128"),
        (lambda: open_peers(hidden=1008 + 8 * rank.number), PeerError, r"hidden: got \[1008, 1016\] by rank"),
        (
            lambda: call(case, inputs, rank, 99),
            RuntimeError,
            "peers: got 99, wanted the handle of an open group",
        ),
    ]
    group = open_peers(hidden=80, rows=128)
    refused += [
        (
            lambda: call(case, inputs, rank, group.handle),
            RuntimeError,
            "x: got 1008 columns, wanted 80 at most",
        ),
        (
            lambda: call(case, inputs, rank, group.handle, x=inputs.parts[0].float()),
            RuntimeError,
            "x: got dtype Float, wanted dtype BFloat16 or Half",
        ),
    ]
    for attempt, error, message in refused:
        with pytest.raises(error, match=message):
            attempt()
    group.close()
    group.close()
    with pytest.raises(RuntimeError, match=f"peers: got {group.handle}, wanted the handle of an open group"):
        call(case, inputs, rank, group.handle)


@pytest.fixture(scope="module")
def two_ranks(built_pack: Path) -> Iterator[Ranks]:
    ranks = Ranks(2, built_pack)
    yield ranks
    ranks.stop()


@pytest.mark.parametrize(
    "check",
    [
        every_mode_and_size,
        odd_values,
        every_configuration,
        late_ranks,
        two_groups_in_two_streams,
        two_ops_in_one_graph,
        launches_are_counted,
        compiled_calls,
        refusals,
        replays_with_changing_data,
    ],
    ids=lambda check: check.__name__,
)
def test_two_ranks(check: Callable[[Rank], None], two_ranks: Ranks) -> None:
    two_ranks.run(check)


@pytest.mark.parametrize("world_size", [4, 8])
def test_more_ranks_than_gpus_take_turns_and_are_right(world_size: int, built_pack: Path) -> None:
    ranks = Ranks(world_size, built_pack)
    try:
        ranks.run(ranks_that_take_turns, timeout_s=120)
    finally:
        ranks.stop()
