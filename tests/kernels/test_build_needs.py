"""What a build of a pack needs of its machine beside nvcc."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.worker.kernels import build
from bwdeploy.worker.kernels.build import available_bytes, torch_place


def installed(monkeypatch: pytest.MonkeyPatch, package: Path | None) -> None:
    spec = ModuleSpec("torch", None, origin=str(package / "__init__.py")) if package else None
    monkeypatch.setattr(build, "find_spec", lambda name: spec)


def test_torch_is_found_by_its_headers_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = tmp_path / "include" / "torch" / "csrc" / "stable" / "library.h"
    header.parent.mkdir(parents=True)
    header.touch()
    installed(monkeypatch, tmp_path)
    place = torch_place()
    assert (place.include, place.libraries) == (tmp_path / "include", tmp_path / "lib")


def test_missing_torch_is_told_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)
    with pytest.raises(HostError, match="torch is not installed") as caught:
        torch_place()
    assert "bwdeploy[models]" in caught.value.hint


def test_torch_without_the_stable_abi_is_refused_with_the_version_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, tmp_path)
    with pytest.raises(HostError, match=r"has no torch/csrc/stable/library\.h") as caught:
        torch_place()
    assert "torch 2.9 or newer" in caught.value.hint


@pytest.mark.parametrize(
    ("cpus", "memory", "compilers"), [(16, 64e9, 16), (16, 6e9, 4), (2, 64e9, 2), (4, 1e9, 1)]
)
def test_compilers_run_side_by_side_as_cpus_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, cpus: int, memory: float, compilers: int
) -> None:
    monkeypatch.setattr(build, "usable_cpus", lambda: cpus)
    monkeypatch.setattr(build, "available_bytes", lambda: int(memory))
    assert build._compilers_at_once() == compilers


def test_available_memory_is_that_of_this_machine() -> None:
    assert 1e7 < available_bytes() < 1e15
