"""Packs written by hand: the manifest and references of shipped ops, and libraries that nobody opens."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import torch

PLUGINS = Path(__file__).parents[2] / "plugins"
NORM_FP8 = "add_rmsnorm_quant_fp8"
NORM_NVFP4 = "add_rmsnorm_quant_nvfp4"
SILU_FP8 = "silu_mul_quant_fp8"
SILU_NVFP4 = "silu_mul_quant_nvfp4"
OPS = (NORM_FP8, NORM_NVFP4, SILU_FP8, SILU_NVFP4)


def write_pack(directory: Path, ops: tuple[str, ...] = OPS) -> Path:
    """A pack of these ops whose libraries are text; loads on the CPU."""
    (directory / "lib").mkdir(parents=True)
    (directory / "reference").mkdir()
    write_manifest(directory, manifest_of([_pack_op(directory, op) for op in ops]))
    return directory


def manifest_of(ops: list[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a build with CUDA 13.0 for Hopper and B200."""
    return {
        "schema": 1,
        "bwdeploy": "0.1.0",
        "sms": ["sm_90a", "sm_100a"],
        "cuda": {"nvcc": "13.0.88", "runtime": "13.0", "minimum_driver": "580"},
        "abi": {"torch_stable": "2.9", "machine": "x86_64", "glibc": "2.28", "libstdcxx": "3.4.26"},
        "ops": ops,
    }


def write_manifest(directory: Path, manifest: Any) -> None:
    (directory / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def read(directory: Path) -> Any:
    """The manifest as plain JSON."""
    return json.loads((directory / "manifest.json").read_text(encoding="utf-8"))


def _pack_op(directory: Path, op: str) -> dict[str, Any]:
    declared = tomllib.loads((PLUGINS / op / "op.toml").read_text(encoding="utf-8"))
    library, reference = directory / "lib" / f"{op}.so", directory / "reference" / f"{op}.py"
    library.write_text("not a library")
    shutil.copyfile(PLUGINS / op / "reference.py", reference)
    return {
        **{key: declared[key] for key in ("name", "summary", "quantizes", "replaces", "gpus", "schemas")},
        "library": f"lib/{op}.so",
        "library_sha256": sha256(library),
        "reference": f"reference/{op}.py",
        "reference_sha256": sha256(reference),
        "source_digest": "0" * 64,
        "sources": {f"{op}/reference.py": sha256(reference)},
        "architectures": {
            sm: {"status": "compiled", "kernels": [], "table": []} for sm in ("sm_90a", "sm_100a")
        },
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(*shape: int, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> torch.Tensor:
    """Random activations."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
