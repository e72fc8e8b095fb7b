"""Where nvcc is found and what is said when it cannot be used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bwdeploy.errors import HostError, ToolError
from bwdeploy.tools.nvcc import find_nvcc, installed_identity
from tests.tools.nvcc_place import put_stand_in


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a g++ alone; returns its directory."""
    programs = tmp_path / "programs"
    programs.mkdir()
    put_program(programs / "g++", 'echo "12.2.0"')
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not Path(entry, "nvidia").exists()])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    for name in ("CUDA_HOME", "NVCC_CCBIN", "NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    return programs


def put_program(path: Path, does: str) -> None:
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def test_nvcc_on_path_is_found_with_its_version_and_host_compiler(bare_machine: Path) -> None:
    put_stand_in(bare_machine / "nvcc")
    nvcc = find_nvcc()
    assert (nvcc.path, nvcc.version) == (bare_machine / "nvcc", "13.0.88")
    assert nvcc.host_compiler == "g++ 12.2.0"
    assert nvcc.libraries == ()
    assert installed_identity() == nvcc.identity


def test_cuda_home_comes_before_path(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    put_stand_in(tmp_path / "cuda" / "bin" / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert find_nvcc().path == tmp_path / "cuda" / "bin" / "nvcc"


def test_cuda_home_without_a_compiler_is_told_and_not_passed_over(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(HostError, match=r"CUDA_HOME is .* is no program"):
        find_nvcc()


def test_python_packages_come_last_and_bring_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "site" / "nvidia" / "cu13"
    put_stand_in(place / "bin" / "nvcc")
    (place / "lib").mkdir()
    (place / "lib" / "libcudart_static.a").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    nvcc = find_nvcc()
    assert nvcc.path == place / "bin" / "nvcc"
    assert nvcc.libraries == (place / "lib",)


def test_no_compiler_is_told_with_the_package_to_install() -> None:
    with pytest.raises(HostError, match="no nvcc on PATH") as caught:
        find_nvcc()
    assert "pip install 'bwdeploy[kernels]'" in caught.value.hint
    assert installed_identity() == ("absent",)


def test_old_compiler_is_refused_with_both_versions(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    monkeypatch.setenv("STAND_IN_VERSION", "12.6.85")
    with pytest.raises(HostError, match=r"is nvcc 12\.6\.85; 12\.8 or newer is needed"):
        find_nvcc()


def test_compiler_says_which_architectures_it_lacks(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    monkeypatch.setenv("STAND_IN_CODES", "sm_90 sm_90a sm_100 sm_120")
    monkeypatch.setenv("STAND_IN_VERSION", "12.8.93")
    nvcc = find_nvcc()
    nvcc.require(("sm_90a", "sm_100a", "sm_120a"))
    with pytest.raises(HostError, match=r"\(12\.8\.93\) does not know sm_103a"):
        nvcc.require(("sm_90a", "sm_103a"))


def test_something_else_called_nvcc_is_told(bare_machine: Path) -> None:
    put_program(bare_machine / "nvcc", "echo hello")
    with pytest.raises(ToolError, match="does not answer as nvcc does"):
        find_nvcc()
    put_program(bare_machine / "nvcc", "echo broken >&2; exit 3")
    with pytest.raises(ToolError, match=r"nvcc --version failed with status 3") as caught:
        find_nvcc()
    assert caught.value.last_lines == ("broken",)


def test_a_compiler_that_hangs_is_told_and_takes_no_plan_with_it(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(bare_machine / "nvcc", "exec /bin/sleep 60")
    monkeypatch.setattr("bwdeploy.tools.nvcc._ANSWER_S", 0.1)
    with pytest.raises(ToolError, match=r"nvcc --version gave no answer in 0 s"):
        find_nvcc()
    assert installed_identity() == ("absent",)


def test_missing_host_compiler_is_told(bare_machine: Path) -> None:
    put_stand_in(bare_machine / "nvcc")
    (bare_machine / "g++").unlink()
    with pytest.raises(HostError, match="no C\\+\\+ compiler g\\+\\+") as caught:
        find_nvcc()
    assert "NVCC_CCBIN" in caught.value.hint


def test_old_host_compiler_is_told(bare_machine: Path) -> None:
    put_stand_in(bare_machine / "nvcc")
    put_program(bare_machine / "g++", 'echo "8.5.0"')
    with pytest.raises(HostError, match=r"8\.5\.0 is too old for torch's headers"):
        find_nvcc()


def test_host_compiler_is_the_one_that_nvcc_is_told_to_use(
    bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    put_program(tmp_path / "g++-14", 'echo "14.1.0"')
    monkeypatch.setenv("NVCC_CCBIN", str(tmp_path / "g++-14"))
    assert find_nvcc().host_compiler == "g++-14 14.1.0"


def test_everything_that_decides_on_an_object_is_part_of_the_identity(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_stand_in(bare_machine / "nvcc")
    seen = {find_nvcc().identity}
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-G")
    seen.add(find_nvcc().identity)
    monkeypatch.setenv("STAND_IN_VERSION", "13.1.80")
    seen.add(find_nvcc().identity)
    put_program(bare_machine / "g++", 'echo "13.3.0"')
    seen.add(find_nvcc().identity)
    assert len(seen) == 4
    assert os.environ["PATH"] not in str(seen)
