"""What a training keeps on disk so that a killed one goes on: checkpoints that are whole or not there.

A checkpoint is a directory `step-N` with the model, the optimizer (both safetensors) and `training.json`.
It is written beside and moved into place by one rename. Checkpoints of another request are never read. The
newest one is kept, and the model of the best one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from bwdeploy.pipeline.jobs import JobData, to_json
from bwdeploy.pipeline.training_jobs import Stopped, TrainingPoint
from bwdeploy.pipeline.trees import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

_RECORD, _MODEL, _OPTIMIZER = "training.json", "model.safetensors", "optimizer.safetensors"
_PARTIAL = ".partial-"


class TrainingRecord(JobData):
    """Where a training stands."""

    request: str
    """Digest of what was asked for."""
    step: int
    points: tuple[TrainingPoint, ...]
    perplexities: dict[int, float]
    """Of every validation, by step."""
    first_loss: float | None
    """Of the first step of all."""
    seconds: float
    stopped: Stopped | None = None
    """None: it is to go on."""


def request_digest(request: JobData, source: Path, *, apart: frozenset[str]) -> str:
    """SHA-256 of a request without its fields `apart`, and of the files in `source` by name and size."""
    said = {name: value for name, value in to_json(request).items() if name not in apart}
    files = sorted((path.name, path.stat().st_size) for path in source.iterdir() if path.is_file())
    return hashlib.sha256(json.dumps([said, files], sort_keys=True).encode()).hexdigest()


class TrainingState:
    """The checkpoints of one request in an existing directory."""

    def __init__(self, place: Path, digest: str) -> None:
        self.digest = digest
        self.scratch = place / "trainer"
        """For files of the Trainer that nobody reads."""
        self._place = place

    def newest(self) -> TrainingRecord | None:
        """The record of the newest whole checkpoint of this request."""
        found = (self._record(path) for path in self._place.glob("step-*"))
        return max((record for record in found if record), key=lambda record: record.step, default=None)

    def save(
        self,
        record: TrainingRecord,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Tensor],
        *,
        best: int,
    ) -> None:
        """Write a checkpoint; then only it and the model of step `best` remain."""
        self._clear(lambda path: path.name.startswith(_PARTIAL))
        partial = self._place / f"{_PARTIAL}{record.step}"
        partial.mkdir()
        save_file(dict(model), partial / _MODEL)
        save_file(dict(optimizer), partial / _OPTIMIZER)
        (partial / _RECORD).write_text(record.model_dump_json(), encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            sync(path)
        self._clear(lambda path: path.name == f"step-{record.step}")  # of another request
        partial.rename(self._place / f"step-{record.step}")
        sync(self._place)
        kept = {f"step-{record.step}", f"step-{best}"}
        self._clear(lambda path: path.name.startswith("step-") and path.name not in kept)
        if best != record.step:
            (self._place / f"step-{best}" / _OPTIMIZER).unlink(missing_ok=True)

    def model(self, step: int) -> Iterator[tuple[str, Tensor]]:
        """The tensors of the model at `step`, one after the other."""
        yield from _tensors(self._place / f"step-{step}" / _MODEL)

    def optimizer(self, step: int) -> dict[str, Tensor]:
        """The tensors of the optimizer at `step`."""
        return dict(_tensors(self._place / f"step-{step}" / _OPTIMIZER))

    def _record(self, path: Path) -> TrainingRecord | None:
        try:
            record = TrainingRecord.model_validate_json((path / _RECORD).read_bytes())
        except (OSError, ValidationError):
            return None
        return record if record.request == self.digest else None

    def _clear(self, unwanted: Callable[[Path], bool]) -> None:
        for path in list(self._place.iterdir()):
            if unwanted(path):
                shutil.rmtree(path)


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            yield name, file.get_tensor(name)
