"""The TensorRT plugin library of a pack: with the stand-in for nvcc, and for real where the headers are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.kernels.ops import shipped_ops
from bwdeploy.kernels.shared_library import read_shared_library
from bwdeploy.places import shipped_plugins
from bwdeploy.tools.nvcc import Nvcc, find_nvcc
from bwdeploy.tools.nvcc_compile import Workshop
from bwdeploy.tools.nvcc_objects import ObjectCache, user_objects
from bwdeploy.worker.kernels.tensorrt import plugin_library
from bwdeploy_kernels.tensorrt_plugins import LIBRARY
from tests.tools.nvcc_place import NvccPlace

REAL_HEADERS = os.environ.get("TENSORRT_ROOT")


def build(place: Path, nvcc: Nvcc, cache: ObjectCache) -> Path:
    library = plugin_library(shipped_ops(), sms=("sm_90a",))
    (place / "scratch").mkdir()
    workshop = Workshop(nvcc=nvcc, plugins=shipped_plugins(), scratch=place / "scratch", jobs=2)
    results = workshop.compile_all(library.units, cache=cache, on_done=lambda _: None)
    library.link(workshop, {result.unit: result.file for result in results}, place)
    return place / LIBRARY


def test_the_library_is_linked_of_kernels_and_plugins_against_a_stand_in_of_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = NvccPlace(tmp_path)
    (tmp_path / "trt").mkdir()
    (tmp_path / "trt" / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 10\n")
    for name, value in {**place.environment, "TENSORRT_ROOT": str(tmp_path / "trt")}.items():
        monkeypatch.setenv(name, value)
    assert build(tmp_path, place.nvcc, user_objects()).is_file()
    stand_in, library = (call for call in place.calls if "-shared" in call["options"])
    assert [Path(name).name for name in stand_in["files"]] == ["tensorrt.link_stub.cpp.o"]
    assert "-Xlinker=-soname,libnvinfer.so.10" in stand_in["options"]
    linked = {Path(name).name for name in library["files"]}
    assert {"tensorrt.registration.cpp.o", "silu_mul_quant_nvfp4.kernel.cu-1.o"} <= linked
    assert "tensorrt.link_stub.cpp.o" not in linked
    assert "-l:libnvinfer.so.10" in library["options"]


def test_without_headers_the_way_to_them_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORRT_ROOT", raising=False)
    with pytest.raises(HostError, match="TENSORRT_ROOT is not set"):
        plugin_library(shipped_ops(), sms=("sm_90a",))


@pytest.mark.kernels
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not REAL_HEADERS, reason="TENSORRT_ROOT names no headers of TensorRT")
def test_the_real_library_needs_tensorrt_and_the_system_alone(tmp_path: Path) -> None:
    file = build(tmp_path, find_nvcc(), user_objects())
    needed = set(read_shared_library(file).needed)
    assert any(name.startswith("libnvinfer.so.") for name in needed)
    assert "libtorch_cpu.so" not in needed
    assert not {name for name in needed if "cudart" in name}
    shown = subprocess.run(
        ["nm", "-D", "--defined-only", str(file)], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert "bwdeploy_tensorrt_plugins_registered" in names
    assert all(name.startswith("bwdeploy_") for name in names)
