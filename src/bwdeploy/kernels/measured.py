"""What was measured of each op: figures, and the file `plugins/measured.json` that ships with the sources.

A measurement belongs to one source digest of its op: change a kernel, and what was measured before no longer
speaks for it. Nothing here measures; `bwdeploy.worker.kernels.bench` does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from bwdeploy.places import shipped_plugins

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1


class Data(BaseModel):
    """Strict, immutable JSON data."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Figure(Data):
    """One measured point of an op, with its baselines of the same run."""

    variant: str
    """What the op made, for example `fp8 static`."""
    rows: int
    width: int
    """Hidden size, or the intermediate size of an MLP."""
    microseconds: float
    """Median of CUDA-graph replays."""
    p10: float
    p90: float
    """10th and 90th percentile, in microseconds."""
    baselines: dict[str, float] = {}
    """Name → median in microseconds."""
    copy_share: float | None = None
    """Bytes moved a second over the copy bandwidth of the same run, where the memory is the limit."""


class Measurement(Data):
    """All figures of one op on one architecture, and where they come from."""

    source_digest: str
    """Of the op's sources, as in the manifest of the pack that was measured."""
    gpu: str
    driver: str
    cuda: str
    torch: str
    commit: str
    date: str
    command: str
    """What repeats it."""
    rows: tuple[Figure, ...]


class Measured(Data):
    """The file: op → architecture → measurement."""

    schema_version: int = SCHEMA
    ops: dict[str, dict[str, Measurement]] = {}

    def at(self, op: str, sm: str, source_digest: str) -> Measurement | None:
        """What was measured of exactly these sources."""
        found = self.ops.get(op, {}).get(sm)
        return found if found is not None and found.source_digest == source_digest else None


def measured_file() -> Path:
    """The file that ships with the sources."""
    return shipped_plugins() / "measured.json"


def read_measured(file: Path) -> Measured:
    """Read it; nothing was measured when it is not there.

    Raises:
        pydantic.ValidationError: it is damaged.
    """
    if not file.is_file():
        return Measured()
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return Measured(schema_version=content["schema"], ops=content["ops"])


def measured_json(measured: Measured) -> str:
    """The file's text."""
    shown = measured.model_dump(mode="json")
    return json.dumps({"schema": shown["schema_version"], "ops": shown["ops"]}, indent=1) + "\n"
