"""The ops that ship with bwdeploy, for `kernels list`: what they fuse, and where they were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.kernels.digests import source_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.kernels.measured import Measured
    from bwdeploy.kernels.ops import OpDeclaration


def ops_json(ops: Iterable[OpDeclaration], measured: Measured) -> list[dict[str, Any]]:
    """One object for each op."""
    return [_op_json(op, measured) for op in ops]


def ops_text(ops: Iterable[OpDeclaration], measured: Measured) -> str:
    """A paragraph for each op."""
    return "\n".join(_op_text(op, measured) for op in ops) or "there are no ops"


def _op_json(op: OpDeclaration, measured: Measured) -> dict[str, Any]:
    digest = source_digest(op)
    return {
        "name": op.name,
        "summary": op.summary,
        "quantizes": list(op.quantizes),
        "replaces": op.replaces,
        "gpus": list(op.gpus),
        "schemas": list(op.schemas),
        "source_digest": digest,
        "architectures": {sm: _status(op, sm, digest, measured) for sm in op.sms},
    }


def _status(op: OpDeclaration, sm: str, digest: str, measured: Measured) -> dict[str, str]:
    found = measured.at(op.name, sm, digest)
    return {"status": "measured", "gpu": found.gpu} if found else {"status": "compiled"}


def _op_text(op: OpDeclaration, measured: Measured) -> str:
    digest = source_digest(op)
    where = ", ".join(f"{sm} {' on '.join(_status(op, sm, digest, measured).values())}" for sm in op.sms)
    gpus = f" on {' or '.join(map(str, op.gpus))} GPUs" if op.gpus != (1,) else ""
    formats = " or ".join(op.quantizes)
    return f"{op.name}\n    {op.summary}\n    for {op.replaces}{gpus}, writes {formats}; {where}"
