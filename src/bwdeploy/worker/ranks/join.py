"""Write a TensorRT-LLM checkpoint back as one unified Hugging Face checkpoint: the inverse of `export`.

Nothing is computed: rows and columns are put together again, layers numbered through, names translated, the
padding of the vocabulary dropped. Configuration and tokenizer come from the source model. One tensor at a
time is read; memory holds at most one shard.
"""

from __future__ import annotations

import json
import shutil
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.jobs import JoinRanks, Progress, RanksResult
from bwdeploy.worker import hf_directory
from bwdeploy.worker.process import peak_memory_bytes, write_atomically
from bwdeploy.worker.ranks.files import RankFiles
from bwdeploy.worker.ranks.tensors import EMBEDDING, HEAD, linear_modules, model_modules
from bwdeploy_runtime.quantization import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from bwdeploy.worker.ranks.tensors import RankTensor, Target

SHARD_BYTES = 2 << 30
"""A new file is begun when this much is reached; also what is held in memory at most, one tensor aside."""


def run(request: JoinRanks, report: Callable[[Progress], None]) -> RanksResult:
    """Join the ranks of `request.checkpoint` into the existing, empty directory `request.out`.

    Raises:
        ToolError: the checkpoint is damaged, or of an architecture whose names are not known.
    """
    started = time.monotonic()
    try:
        with RankFiles(request.checkpoint) as ranks:
            tensors = join(ranks, source=request.source, out=request.out, report=report)
    except CheckpointError as error:
        raise ToolError(
            f"The ranks cannot be joined: {error}.", hint="Build the checkpoint again; the file is damaged."
        ) from error
    return RanksResult(
        ranks=ranks.cut.tp * ranks.cut.pp,
        tensors=tensors,
        bytes=sum(path.stat().st_size for path in request.out.glob("*.safetensors")),
        seconds=round(time.monotonic() - started, 2),
        peak_memory_bytes=peak_memory_bytes(),
    )


def join(ranks: RankFiles, *, source: Path, out: Path, report: Callable[[Progress], None]) -> int:
    """Write the unified checkpoint of `ranks` into `out`; how many tensors it has.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    shards = _Shards(out)
    for name, tensor in _joined(ranks, report):
        shards.add(name, tensor)
    where = shards.close()
    _write_configuration(ranks, source, out)
    hf_directory.make_readable(out)
    return len(where)


class _Shards:
    """Weight files of bounded size, and their index when there are several."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._pending: dict[str, Tensor] = {}
        self._bytes = 0
        self._files: list[tuple[str, ...]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Take a tensor; writes a file when enough have come."""
        self._pending[name] = tensor
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes >= SHARD_BYTES:
            self._write()

    def close(self) -> dict[str, str]:
        """Write what is left and name the files; tensor → file."""
        if self._pending:
            self._write()
        count = len(self._files)
        where: dict[str, str] = {}
        for number, names in enumerate(self._files):
            last = "model.safetensors" if count == 1 else f"model-{number + 1:05}-of-{count:05}.safetensors"
            (self._out / f"part{number}").rename(self._out / last)
            where |= dict.fromkeys(names, last)
        if count > 1:
            index = {"metadata": {}, "weight_map": where}
            write_atomically(self._out / "model.safetensors.index.json", json.dumps(index, indent=1) + "\n")
        return where

    def _write(self) -> None:
        path = self._out / f"part{len(self._files)}"
        import_module("safetensors.torch").save_file(self._pending, path, metadata={"format": "pt"})
        self._files.append(tuple(self._pending))
        self._pending, self._bytes = {}, 0


def _joined(ranks: RankFiles, report: Callable[[Progress], None]) -> Iterator[tuple[str, Tensor]]:
    for stage in range(ranks.cut.pp):
        expected = ranks.expected(stage)
        for number, tensor in enumerate(expected):
            report(Progress(phase=f"join stage {stage + 1}", done=number, total=len(expected)))
            if _is_left_out(ranks, stage, tensor):
                continue
            for target in tensor.targets:
                yield target.name, _join_one(ranks, stage, tensor, target)


def _is_left_out(ranks: RankFiles, stage: int, tensor: RankTensor) -> bool:
    names = ranks.names(ranks.stage_ranks(stage)[0])
    if tensor.name == HEAD and ranks.cut.tied:
        return True  # the unified layout stores tied tables once
    prefix, _, leaf = tensor.name.rpartition(".")
    if leaf == "kv_cache_scaling_factor":
        return f"{prefix}.k_cache_scaling_factor" in names
    return tensor.optional and tensor.name not in names


def _join_one(ranks: RankFiles, stage: int, tensor: RankTensor, target: Target) -> Tensor:
    """One tensor of the model from all ranks that hold a part of it.

    Raises:
        CheckpointError: a rank has not this tensor, or in another shape.
    """
    members = list(ranks.stage_ranks(stage))
    holders = members[:1] if tensor.cut is None else members[:: target.copies]
    parts = []
    for rank in holders:
        if tensor.name not in ranks.names(rank) or ranks.shape(rank, tensor.name) != tensor.shape:
            raise CheckpointError(f"rank {rank} has no {tensor.name} of shape {list(tensor.shape)}")
        parts.append(ranks.tensor(rank, tensor.name, target.rows))
    if tensor.cut is None:
        return parts[0].reshape(tensor.shape).clone()
    whole = parts[0] if len(parts) == 1 else _concatenate(parts, tensor.cut)
    return (whole[: ranks.cut.vocab] if tensor.name in {EMBEDDING, HEAD} else whole).contiguous()


def _concatenate(parts: list[Tensor], dim: int) -> Tensor:
    # torch has no cat of 8-bit floats on every platform; their bytes it can always join.
    if parts[0].element_size() == 1:
        return torch.cat([part.view(torch.uint8) for part in parts], dim).view(parts[0].dtype)
    return torch.cat(parts, dim)


def _write_configuration(ranks: RankFiles, source: Path, out: Path) -> None:
    shutil.copyfile(source / "config.json", out / "config.json")
    said = _quantization(ranks)
    if said["quant_algo"] is not None:
        content = {"producer": ranks.config.get("producer", {}), "quantization": said}
        write_atomically(out / "hf_quant_config.json", json.dumps(content, indent=2) + "\n")
        ignore = {"ignore": said.get("exclude_modules", []), "quant_method": "modelopt"}
        section = {name: value for name, value in said.items() if name != "exclude_modules"} | ignore
        hf_directory.update_json(
            out / "config.json", lambda config: config | {"quantization_config": section}
        )
    hf_directory.copy_tokenizer(source, out)
    hf_directory.copy_generation_config(source, out)
    hf_directory.copy_remote_code(source, out)
    hf_directory.complete_config(out, dtype=str(ranks.config.get("dtype", "bfloat16")))


def _quantization(ranks: RankFiles) -> dict[str, Any]:
    """The description in Hugging Face's names."""
    section = ranks.config.get("quantization") or {}
    said = {name: section.get(name) for name in ("quant_algo", "kv_cache_quant_algo")}
    if said["quant_algo"] is None:
        return said
    if section.get("group_size"):
        said["group_size"] = section["group_size"]
    layers = _described_layers(ranks)
    if layers is not None:
        return said | {"quantized_layers": layers}
    return said | {"exclude_modules": ["lm_head", *_plain_modules(ranks)]}


def _plain_modules(ranks: RankFiles) -> Iterator[str]:
    for stage, module in _linears(ranks):
        if ranks.storage(stage, module) == "plain":
            yield from model_modules(ranks.cut, stage, module)


def _described_layers(ranks: RankFiles) -> dict[str, Any] | None:
    path = ranks.directory / "quant_cfg.json"
    if not path.is_file():
        return None
    listed: Mapping[str, Any] = hf_directory.read_json(path).get("quantized_layers", {})
    return {
        name: listed[module]
        for stage, module in _linears(ranks)
        if module in listed
        for name in model_modules(ranks.cut, stage, module)
    }


def _linears(ranks: RankFiles) -> Iterator[tuple[int, str]]:
    """Stage and name of each linear layer."""
    return ((stage, module) for stage in range(ranks.cut.pp) for module in linear_modules(ranks.cut))
