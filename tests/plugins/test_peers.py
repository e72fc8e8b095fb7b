"""Which ranks can form a peer group, and what those that cannot are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bwdeploy_kernels.errors import PackError
from bwdeploy_kernels.peers import PeerError, RankFacts, gather, misfits, open_peers

FACTS = RankFacts(host="node0", boot="boot0", model="NVIDIA H200", gpu="GPU-0", rows=1024, hidden=7168)


def ranks(count: int) -> list[RankFacts]:
    return [replace(FACTS, gpu=f"GPU-{number}") for number in range(count)]


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_gpu_for_each_rank_of_one_machine_fits(count: int) -> None:
    assert misfits(ranks(count)) == ()


@pytest.mark.parametrize("count", [1, 3, 16])
def test_other_world_sizes_are_refused(count: int) -> None:
    assert misfits(ranks(count)) == (f"world size: got {count}, wanted 2, 4 or 8",)


def test_ranks_on_two_machines_are_refused_whatever_their_names() -> None:
    first, second = ranks(2)
    assert misfits([first, replace(second, boot="boot1", host="node1")]) == (
        "hosts: got ['node0', 'node1'] by rank, wanted all ranks on one machine",
    )
    assert misfits([first, replace(second, host="another container")]) == ()


def test_ranks_on_one_gpu_are_refused_unless_they_are_to_share_it() -> None:
    facts = [FACTS, FACTS, replace(FACTS, gpu="GPU-1"), replace(FACTS, gpu="GPU-1")]
    assert misfits(facts) == (
        "GPU GPU-0: got ranks [0, 1], wanted one rank; call torch.cuda.set_device(local rank) first",
        "GPU GPU-1: got ranks [2, 3], wanted one rank; call torch.cuda.set_device(local rank) first",
    )
    assert misfits(facts, share_gpus=True) == ()


@pytest.mark.parametrize(
    ("name", "other"), [("rows", 512), ("hidden", 5120), ("model", "NVIDIA H100 80GB HBM3")]
)
def test_what_all_ranks_must_share_is_refused_when_they_differ(name: str, other: int | str) -> None:
    first, second = ranks(2)
    changed = replace(second, **{name: other})  # type: ignore[arg-type]
    values = [getattr(first, name), other]
    assert misfits([first, changed]) == (f"{name}: got {values} by rank, wanted the same on all",)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("rows", 100, "a multiple of 128"),
        ("rows", 0, "a multiple of 128"),
        ("hidden", 7170, "a multiple of 8, 16384 at most"),
        ("hidden", 16392, "a multiple of 8, 16384 at most"),
    ],
)
def test_sizes_that_the_memory_cannot_have_are_refused(name: str, value: int, wanted: str) -> None:
    facts = [replace(fact, **{name: value}) for fact in ranks(2)]  # type: ignore[arg-type]
    assert misfits(facts) == (f"{name}: got {value}, wanted {wanted}",)


def test_the_cpu_and_gpus_do_not_mix() -> None:
    first, second = ranks(2)
    assert misfits([first, replace(second, gpu="cpu")]) == (
        "devices: got ['GPU-0', 'cpu'] by rank, wanted all CUDA or all cpu",
    )
    assert misfits([replace(first, gpu="cpu"), replace(second, gpu="cpu")]) == ()


def test_without_a_process_group_there_is_no_peer_group() -> None:
    with pytest.raises(PeerError, match="process group: got none, wanted one of 2, 4 or 8 ranks") as refused:
        open_peers(hidden=64, device=torch.device("cpu"))
    assert isinstance(refused.value, PackError)


def test_a_handle_of_no_open_group_is_refused() -> None:
    with pytest.raises(PeerError, match="peers: got 7, wanted the handle of an open group"):
        gather(7, torch.zeros(1))
