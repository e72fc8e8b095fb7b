"""The manifest of a build's kernel pack, as tables of the report.

`manifest.json` is read strictly where packs are loaded; what is shown here are the parts that only people
read: measured points and the resources of kernels.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bwdeploy.kernels.measured import Figure
from bwdeploy.kernels.resources import KernelResources
from bwdeploy.report.html.data import KernelPack, KernelTable
from bwdeploy_kernels.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path


def read_pack(directory: Path) -> KernelPack:
    """The pack in `directory`.

    Raises:
        OSError, ValueError, KeyError, TypeError: its manifest is not as this version writes it.
    """
    manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    return KernelPack(
        nvcc=manifest["cuda"]["nvcc"],
        torch_stable=str(manifest["abi"]["torch_stable"]),
        minimum_driver=str(manifest["cuda"]["minimum_driver"]),
        tables=tuple(
            _table(op, sm, entry) for op in manifest["ops"] for sm, entry in op["architectures"].items()
        ),
    )


def _table(op: dict[str, Any], sm: str, entry: dict[str, Any]) -> KernelTable:
    return KernelTable(
        op=op["name"],
        summary=op["summary"],
        sm=sm,
        status=entry["status"],
        figures=tuple(Figure.model_validate(row) for row in entry["table"]),
        resources=tuple(KernelResources(sm=sm, **kernel) for kernel in entry["kernels"]),
    )
