"""Audit of the tensors of a rank checkpoint: names, shapes and dtypes, then values.

Each tensor is read once. The ranks of a stage must agree on everything that is not cut: norms, biases of the
output, single scales, and KV heads that several of them hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.audit_tensors import listed
from bwdeploy.worker.ranks.tensors import EMBEDDING, HEAD, is_rank_scale

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.worker.ranks.files import RankFiles
    from bwdeploy.worker.ranks.tensors import RankTensor

_E4M3_NAN = 0x7F


def check_tensors(ranks: RankFiles) -> list[AuditFinding]:
    """Everything that is wrong with the tensors themselves; values only where names and shapes are right."""
    findings: list[AuditFinding] = []
    for stage in range(ranks.cut.pp):
        expected = ranks.expected(stage)
        outline = [one for rank in ranks.stage_ranks(stage) for one in _check_outline(ranks, rank, expected)]
        findings += outline
        if not outline:
            for tensor in expected:
                findings += _check_values(ranks, stage, tensor)
            findings += _check_kv_scales(ranks, stage)
    if not findings:
        findings += _check_tied(ranks)
    return findings


def _check_outline(ranks: RankFiles, rank: int, expected: tuple[RankTensor, ...]) -> Iterator[AuditFinding]:
    present, known = ranks.names(rank), {tensor.name for tensor in expected}
    missing = [one.name for one in expected if not one.optional and one.name not in present]
    yield from listed("rank-tensor-missing", f"is missing in rank {rank}", missing)
    what = f"of rank {rank} belongs to no layer, so that trtllm-build leaves it out"
    yield from listed("rank-tensor-unexpected", what, sorted(present - known))
    for tensor in expected:
        if tensor.name not in present:
            continue
        shape, dtype = ranks.shape(rank, tensor.name), ranks.dtype(rank, tensor.name)
        if dtype not in tensor.dtypes:
            message = f"{tensor.name} of rank {rank} is {dtype}, not {' or '.join(sorted(tensor.dtypes))}"
            yield finding("rank-dtype-differs", message, tensor=tensor.name)
        elif shape != tensor.shape:
            message = f"{tensor.name} of rank {rank} has shape {shape}, config.json asks for {tensor.shape}"
            yield finding("rank-shape-differs", message, tensor=tensor.name)


def _check_values(ranks: RankFiles, stage: int, tensor: RankTensor) -> Iterator[AuditFinding]:
    first: Tensor | None = None
    for position, rank in enumerate(ranks.stage_ranks(stage)):
        if tensor.name not in ranks.names(rank):
            continue
        value = ranks.tensor(rank, tensor.name)
        yield from _check_numbers(tensor.name, rank, value)
        if tensor.cut is None:
            first = value if first is None else first
            if not _equal(first, value):
                yield _differs(tensor.name, rank, ranks.stage_ranks(stage)[0])
        for target in tensor.targets:
            leader = rank - position % target.copies
            if leader != rank and not _equal(
                value[target.rows], ranks.tensor(leader, tensor.name, target.rows)
            ):
                yield _differs(f"{target.name} in {tensor.name}", rank, leader)


def _differs(name: str, rank: int, other: int) -> AuditFinding:
    check = "rank-scale-differs" if is_rank_scale(name) else "rank-replica-differs"
    return finding(check, f"{name} of rank {rank} is not that of rank {other}, but must be", tensor=name)


def _equal(one: Tensor, other: Tensor) -> bool:
    return bool(torch.equal(_bytes(one), _bytes(other)))


def _bytes(value: Tensor) -> Tensor:
    return value.contiguous().reshape(-1).view(torch.uint8)


def _check_numbers(name: str, rank: int, value: Tensor) -> Iterator[AuditFinding]:
    if value.dtype == torch.float8_e4m3fn:
        broken = bool(((_bytes(value) & _E4M3_NAN) == _E4M3_NAN).any())
    else:
        broken = value.is_floating_point() and not bool(torch.isfinite(value).all())
    if broken:
        check = "rank-scale-not-finite" if is_rank_scale(name) else "rank-weight-not-finite"
        yield finding(check, f"{name} of rank {rank} holds NaN or infinity", tensor=name)
    elif is_rank_scale(name) and bool((value.to(torch.float32) <= 0).any()):
        yield finding(
            "rank-scale-not-positive", f"{name} of rank {rank} has a zero or negative scale", tensor=name
        )


def _check_kv_scales(ranks: RankFiles, stage: int) -> Iterator[AuditFinding]:
    """The one scale that trtllm-build takes must be the larger of the two."""
    rank = ranks.stage_ranks(stage)[0]
    for name in sorted(ranks.names(rank)):
        keys = name.replace(".kv_cache_", ".k_cache_")
        if not name.endswith(".kv_cache_scaling_factor") or keys not in ranks.names(rank):
            continue
        values = keys.replace(".k_cache_", ".v_cache_")
        largest = max(float(ranks.tensor(rank, one)) for one in (keys, values))
        if float(ranks.tensor(rank, name)) != largest:
            yield finding("rank-kv-scale", f"{name} is not the larger of k and v, {largest:g}", tensor=name)


def _check_tied(ranks: RankFiles) -> Iterator[AuditFinding]:
    """A tied head that is stored all the same must be the embedding."""
    cut = ranks.cut
    for position in range(cut.tp if cut.tied else 0):
        rank = ranks.stage_ranks(cut.pp - 1)[position]
        if HEAD in ranks.names(rank) and not _equal(
            ranks.tensor(rank, HEAD), ranks.tensor(position, EMBEDDING)
        ):
            message = f"{HEAD} of rank {rank} is not the embedding of rank {position}, though they are tied"
            yield finding("rank-tied-embedding", message, tensor=HEAD)
