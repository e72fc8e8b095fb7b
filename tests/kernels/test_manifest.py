from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bwdeploy.kernels.digests import source_digest
from bwdeploy.kernels.manifest import BuiltOp, pack_manifest, unfit
from bwdeploy.kernels.measured import Figure, Measured, Measurement
from bwdeploy.kernels.ops import read_op
from bwdeploy.kernels.resources import KernelResources
from bwdeploy.kernels.shared_library import SharedLibrary
from bwdeploy_kernels.manifest import read_manifest
from tests.kernels.sample import SAMPLE_OP

OP = read_op(SAMPLE_OP)
SHA = "ab" * 32
BUILT = BuiltOp(
    op=OP,
    sms=("sm_90a", "sm_120a"),
    library="lib/double_rows.so",
    library_sha256=SHA,
    reference="reference/double_rows.py",
    reference_sha256=SHA,
    needs=SharedLibrary(
        needed=("libtorch_cpu.so", "libc.so.6"), versions=("GLIBC_2.9", "GLIBC_2.34", "GLIBCXX_3.4.26")
    ),
    resources=(
        KernelResources(
            sm="sm_90a", name="double_rows<float>", registers=10, shared_bytes=4, stack_bytes=8, spill_bytes=0
        ),
        KernelResources(
            sm="sm_120a",
            name="double_rows<float>",
            registers=12,
            shared_bytes=0,
            stack_bytes=0,
            spill_bytes=0,
        ),
    ),
    sources={"double_rows/kernel.cu": SHA},
)
ROW = Figure(variant="fp8 static", rows=8, width=2048, microseconds=1.4, p10=1.3, p90=1.5)


def measured_at(digest: str) -> Measured:
    found = Measurement(
        source_digest=digest, gpu="H100", driver="580", cuda="13.0", torch="2.11", commit="c", date="d",
        command="m", rows=(ROW,),
    )  # fmt: skip
    return Measured(ops={"double_rows": {"sm_90a": found}})


def manifest_of(*ops: BuiltOp, measured: Measured | None = None) -> dict[str, Any]:
    return pack_manifest(ops, nvcc="13.0.88", machine="x86_64", measured=measured or Measured())


def test_the_reading_side_understands_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest_of(BUILT)))
    manifest = read_manifest(tmp_path)
    assert manifest.sms == ("sm_90a", "sm_120a")
    assert (manifest.nvcc, manifest.cuda_runtime, manifest.minimum_driver) == ("13.0.88", (13, 0), "580")
    assert (manifest.torch_stable, manifest.machine, manifest.glibc) == ((2, 9), "x86_64", (2, 34))
    (op,) = manifest.ops
    assert (op.name, op.torch_ops, op.gpus) == ("double_rows", ("double_rows",), (1,))
    assert dict(op.architectures) == {"sm_90a": "compiled", "sm_120a": "compiled"}


def test_measured_is_said_only_of_the_very_sources_and_architecture() -> None:
    same = manifest_of(BUILT, measured=measured_at(source_digest(OP)))["ops"][0]["architectures"]
    assert (same["sm_90a"]["status"], same["sm_120a"]["status"]) == ("measured", "compiled")
    assert [row["microseconds"] for row in same["sm_90a"]["table"]] == [1.4]
    other = manifest_of(BUILT, measured=measured_at("0" * 64))["ops"][0]["architectures"]
    assert (other["sm_90a"]["status"], other["sm_90a"]["table"]) == ("compiled", [])


def test_kernels_are_listed_under_their_architecture() -> None:
    architectures = manifest_of(BUILT)["ops"][0]["architectures"]
    assert architectures["sm_90a"]["kernels"] == [
        {
            "name": "double_rows<float>",
            "registers": 10,
            "shared_bytes": 4,
            "spill_bytes": 0,
            "stack_bytes": 8,
        }
    ]
    assert [kernel["registers"] for kernel in architectures["sm_120a"]["kernels"]] == [12]


def test_the_pack_needs_the_highest_version_that_any_library_needs() -> None:
    old = replace(BUILT, needs=SharedLibrary(needed=(), versions=("GLIBC_2.4", "GLIBCXX_3.4.9")))
    abi = manifest_of(old, BUILT)["abi"]
    assert (abi["glibc"], abi["libstdcxx"]) == ("2.34", "3.4.26")


def test_a_library_that_names_torch_and_the_system_alone_is_fit() -> None:
    assert unfit(BUILT.needs) == ()


def test_a_library_of_another_kind_is_refused_with_its_name() -> None:
    (told,) = unfit(SharedLibrary(needed=("libtorch_cpu.so", "libcudart.so.13"), versions=()))
    assert "got libcudart.so.13, wanted only libtorch_cpu.so" in told
    (told,) = unfit(SharedLibrary(needed=("libc.so.6",), versions=()))
    assert "got no libtorch_cpu.so" in told
