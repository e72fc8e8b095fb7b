"""Where a draft's training stands, in the directory that survives an interrupted job.

    state/training-DIGEST/checkpoint-00000400.safetensors …   draft, optimizer, curve; the two newest
    state/training-DIGEST/best.safetensors                    the draft with the best validation

The digest is that of all that the content depends on, so that a state of another request is never read.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.worker.drafts.tensor_files import StoredTensors, read_tensors, write_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import TrainDraft

_KEPT = 2
_SAMPLED_BYTES = 65_536


class TrainingState(NamedTuple):
    """A directory that is there."""

    training: Path

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write a checkpoint, then drop all but the newest two."""
        write_tensors(self.training / f"checkpoint-{step:08d}.safetensors", tensors, facts)
        for old in self._checkpoints()[_KEPT:]:
            old.unlink(missing_ok=True)

    def newest(self) -> StoredTensors | None:
        """The newest checkpoint that is whole."""
        return next((found for file in self._checkpoints() if (found := read_tensors(file))), None)

    def save_best(self, tensors: dict[str, Tensor]) -> None:
        """Keep these weights as the best ones."""
        write_tensors(self.training / "best.safetensors", tensors, {})

    def best(self) -> dict[str, Tensor] | None:
        """The best weights."""
        found = read_tensors(self.training / "best.safetensors")
        return found.tensors if found else None

    def _checkpoints(self) -> list[Path]:
        return sorted(self.training.glob("checkpoint-*.safetensors"), reverse=True)


def open_state(request: TrainDraft) -> TrainingState:
    """The state that belongs to this request, empty or as an interrupted job left it."""
    content = request.training.model_dump(mode="json") | {
        "target": _fingerprint(request.target),
        "answers": _fingerprint(request.answers),
        "device": request.device,
    }
    state = TrainingState(request.state / f"training-{_digest(content)}")
    state.training.mkdir(parents=True, exist_ok=True)
    return state


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _fingerprint(target: Path) -> str:
    """Of a directory: small files whole, of each file of weights its size, beginning and end."""
    digest = hashlib.sha256()
    for file in sorted(path for path in target.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            digest.update(content.read(_SAMPLED_BYTES))
            content.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(content.read())
    return digest.hexdigest()
