"""`bwdeploy kernels list` and `build` as child processes, with the stand-in for nvcc."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bwdeploy_kernels
from bwdeploy_kernels.manifest import read_manifest
from tests.kernels.elf_file import shared_library
from tests.kernels.sample import replace_in
from tests.tools.nvcc_place import NvccPlace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> NvccPlace:
    return NvccPlace(tmp_path_factory.mktemp("kernels"))


def test_list_says_what_is_fused_and_where_it_was_only_compiled(place: NvccPlace) -> None:
    (op,) = json.loads(place.run("kernels", "list", "--json")[0])
    assert (op["name"], op["quantizes"], op["replaces"]) == ("double_rows", ["fp8"], "norm")
    assert op["architectures"] == {"sm_90a": {"status": "compiled"}, "sm_120a": {"status": "compiled"}}
    assert len(op["source_digest"]) == 64


def test_build_writes_a_pack_that_the_reading_side_understands(place: NvccPlace) -> None:
    stdout, stderr = place.run("kernels", "build", "pack", "--json")
    answer = json.loads(stdout)
    assert (answer["ok"], answer["ops"], answer["sms"]) == (True, ["double_rows"], ["sm_90a", "sm_120a"])
    assert "compile" in stderr
    pack = place.root / "pack"
    manifest = read_manifest(pack)
    (op,) = manifest.ops
    assert (pack / op.library).read_bytes() == (place.root / "library.so").read_bytes()
    sample = place.plugins / "double_rows"
    assert (pack / op.reference).read_bytes() == (sample / "reference.py").read_bytes()
    assert (manifest.nvcc, manifest.glibc) == ("13.0.88", (2, 34))
    package = Path(bwdeploy_kernels.__file__).parent
    carried = {file.relative_to(pack): file.read_bytes() for file in pack.rglob("bwdeploy_kernels/**/*.py")}
    assert carried == {file.relative_to(package.parent): file.read_bytes() for file in package.rglob("*.py")}
    assert not list(pack.rglob("__pycache__"))
    kernels = json.loads((pack / "manifest.json").read_text())["ops"][0]["architectures"]["sm_90a"]["kernels"]
    assert [(kernel["name"], kernel["registers"]) for kernel in kernels] == [("double_rows", 16)] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["out", "--arch", "sm_90a,sm_100a"], 2, "double_rows is not made for the architecture 'sm_100a'"),
        (["double_rows"], 2, "double_rows is the name of an op. Name a directory: build double_rows DIR"),
        (["double_rows", "double_rows"], 2, "Name a directory: build double_rows double_rows DIR"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_compiled(
    place: NvccPlace, arguments: list[str], code: int, said: str
) -> None:
    before = len(place.calls)
    _, stderr = place.run("kernels", "build", *arguments, code=code)
    assert said in stderr
    assert len(place.calls) == before


def test_a_kernel_that_does_not_compile_ends_with_its_error_and_a_log(tmp_path: Path) -> None:
    place = NvccPlace(tmp_path)
    replace_in(place.plugins / "double_rows" / "kernel.cu", "namespace sample {", "int a = undeclared;\n")
    _, stderr = place.run("kernels", "build", "out", code=4)
    assert 'double_rows/kernel.cu(7): error: identifier "undeclared" is undefined' in stderr
    log = Path(next(line for line in stderr.splitlines() if line.startswith("log: ")).removeprefix("log: "))
    assert "1 error detected" in log.read_text()
    assert "1 error detected" in stderr
    assert not (tmp_path / "out").exists()


def test_a_library_that_needs_a_stranger_is_not_published(tmp_path: Path) -> None:
    place = NvccPlace(tmp_path)
    stranger = shared_library(("libtorch_cpu.so", "libcudart.so.13"), {})
    (tmp_path / "library.so").write_bytes(stranger)
    _, stderr = place.run("kernels", "build", "out", code=4)
    assert "lib/double_rows.so would not load everywhere: NEEDED: got libcudart.so.13" in stderr
    assert not (tmp_path / "out").exists()
