"""Every op that ships, compiled by the real nvcc for every architecture it names and loaded on this machine.

No GPU: what runs here is the host side. Objects that were compiled before come from the user's cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.kernels.ops import read_op
from bwdeploy.pipeline.kernel_jobs import KernelBuild
from bwdeploy.places import shipped_plugins
from bwdeploy.worker.kernels.build import build_pack
from bwdeploy_kernels.manifest import read_manifest
from tests.kernels.sample import SAMPLE_PLUGINS

pytestmark = [pytest.mark.kernels, pytest.mark.timeout(1800)]

FOLDERS = sorted(file.parent for file in shipped_plugins().glob("*/op.toml"))
LOAD = """
import json, sys, torch
libraries, names = json.loads(sys.argv[1])
for library in libraries:
    torch.ops.load_library(library)
print(json.dumps({name: str(getattr(torch.ops.bwdeploy, name).default._schema) for name in names}))
"""
REFUSE = """
import ctypes, sys, torch
torch.ops.load_library(sys.argv[1])
for _ in range(100):
    try:
        torch.ops.bwdeploy.double_rows_calls(-1)
    except RuntimeError as error:
        message = str(error)
print(message, ctypes.CDLL("libstdc++.so.6")._ZSt19uncaught_exceptionsv())
"""


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


def pack_of(op: Path, packs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pack with this op alone, for all of its architectures."""
    out = packs / op.name
    if not out.exists():
        out.mkdir()
        monkeypatch.chdir(packs)
        request = KernelBuild(ops=(op.name,), sms=(), out=out)
        build_pack(request, lambda _: None, plugins=op.parent)
    return out


def loaded_schemas(libraries: list[Path], names: list[str]) -> dict[str, str]:
    """Schemas as torch has them once the libraries are loaded, in a process of their own."""
    asked = json.dumps([list(map(str, libraries)), names])
    done = subprocess.run([sys.executable, "-c", LOAD, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    schemas: dict[str, str] = json.loads(done.stdout)
    return schemas


def test_there_are_ops_to_compile() -> None:
    assert FOLDERS


@pytest.mark.parametrize("op", [*FOLDERS, SAMPLE_PLUGINS / "double_rows"], ids=lambda op: op.name)
def test_op_compiles_for_every_architecture_and_loads_with_the_schemas_it_declares(
    op: Path, packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = pack_of(op, packs, monkeypatch)
    declared = read_op(op)
    (packed,) = read_manifest(pack).ops
    assert set(packed.architectures) == set(declared.sms)
    manifest: dict[str, Any] = json.loads((pack / "manifest.json").read_text())
    for sm, architecture in manifest["ops"][0]["architectures"].items():
        assert architecture["kernels"], sm
        assert all(0 < kernel["registers"] <= 255 for kernel in architecture["kernels"]), sm
    schemas = loaded_schemas([pack / packed.library], [*declared.torch_ops, f"{op.name}_calls"])
    assert schemas == {
        **{
            name: f"bwdeploy::{text}" for name, text in zip(declared.torch_ops, declared.schemas, strict=True)
        },
        f"{op.name}_calls": f"bwdeploy::{op.name}_calls(int device) -> int",
    }


def test_all_ops_load_into_one_process(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = [pack_of(op, packs, monkeypatch) / "lib" / f"{op.name}.so" for op in FOLDERS]
    names = [name for op in FOLDERS for name in read_op(op).torch_ops]
    assert set(loaded_schemas(libraries, names)) == set(names)


def test_only_entry_points_for_c_are_visible(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack = pack_of(SAMPLE_PLUGINS / "double_rows", packs, monkeypatch)
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", str(pack / "lib" / "double_rows.so")],
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert names == {"bwdeploy_double_rows_float", "bwdeploy_double_rows_half"}


def test_a_library_calls_its_own_entry_points(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of another library of the op, such as the plugins that a server preloads."""
    pack = pack_of(SAMPLE_PLUGINS / "double_rows", packs, monkeypatch)
    shown = subprocess.run(
        ["readelf", "--relocs", "--wide", str(pack / "lib" / "double_rows.so")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "aoti_torch" in shown.stdout
    assert "bwdeploy_" not in shown.stdout


def test_refused_arguments_leave_no_trace_in_the_process(
    packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a C++ runtime of its own in the library, the process would count exceptions wrongly."""
    pack = pack_of(SAMPLE_PLUGINS / "double_rows", packs, monkeypatch)
    library = str(pack / "lib" / "double_rows.so")
    done = subprocess.run([sys.executable, "-c", REFUSE, library], capture_output=True, text=True, check=True)
    assert "double_rows/bind.cpp:" in done.stdout
    assert done.stdout.strip().endswith("device: got -1, wanted 0 or above 0")
