"""Where a draft's training stands, in the directory that survives an interrupted job.

    state/answers-DIGEST/batch-00000-of-00032.safetensors …   answers of the target
    state/training-DIGEST/checkpoint-00000400.safetensors …   draft, optimizer, curve; the two newest
    state/training-DIGEST/best.safetensors                    the draft with the best validation

The digests are those of everything that the content depends on, so that a state of another request is never
read, and trainings in one directory that differ in the draft alone share their answers.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.recipe.uris import FILE_SCHEME
from bwdeploy.worker.drafts.chat_prompts import PROMPTS_FILE
from bwdeploy.worker.drafts.conversations import BUILTIN
from bwdeploy.worker.drafts.tensor_files import StoredTensors, read_tensors, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.pipeline.training_jobs import TrainDraft

_KEPT = 2
_SAMPLED_BYTES = 65_536
_ANSWER_FIELDS = (
    "data", "answers", "prompts", "answers_per_prompt", "answer_tokens", "temperature", "seq_len", "seed",
)  # fmt: skip


class TrainingState(NamedTuple):
    """Two directories, both there."""

    answers: Path
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
    fields = request.training.model_dump(mode="json")
    model = {"target": _fingerprint(request.target), "device": request.device}
    answering = {name: fields[name] for name in _ANSWER_FIELDS} | {"data_file": _data_stamp(fields["data"])}
    state = TrainingState(
        answers=request.state / f"answers-{_digest(model | answering)}",
        training=request.state / f"training-{_digest(model | answering | fields)}",
    )
    for directory in state:
        directory.mkdir(parents=True, exist_ok=True)
    return state


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _data_stamp(data: str) -> str:
    """What tells changed data; a file that cannot be read is refused where it is read."""
    path = PROMPTS_FILE if data == BUILTIN else Path(data.removeprefix(FILE_SCHEME))
    if not path.is_file():
        return ""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _fingerprint(target: Path) -> str:
    """Of a model directory: small files whole, of each file of weights its size, beginning and end."""
    digest = hashlib.sha256()
    for file in sorted(path for path in target.iterdir() if path.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            digest.update(content.read(_SAMPLED_BYTES))
            content.seek(max(0, size - _SAMPLED_BYTES))
            digest.update(content.read())
    return digest.hexdigest()
