from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_core import _pydantic_core

from bwdeploy.kernels.shared_library import read_shared_library
from tests.kernels.elf_file import shared_library

NEEDED = ("libtorch_cpu.so", "libc.so.6")
VERSIONS = {"libc.so.6": ("GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9"), "libstdc++.so.6": ("GLIBCXX_3.4.9",)}


def test_needed_libraries_and_symbol_versions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "op.so"
    file.write_bytes(shared_library(NEEDED, VERSIONS))
    library = read_shared_library(file)
    assert library.needed == NEEDED
    assert library.versions == ("GLIBCXX_3.4.9", "GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9")


def test_highest_version_counts_numbers_not_letters(tmp_path: Path) -> None:
    file = tmp_path / "op.so"
    file.write_bytes(shared_library(NEEDED, VERSIONS))
    library = read_shared_library(file)
    assert (library.highest("GLIBC"), library.highest("GLIBCXX")) == ("2.34", "3.4.9")
    assert library.highest("CXXABI") == "0.0"


def test_a_real_library_is_read() -> None:
    library = read_shared_library(Path(str(_pydantic_core.__file__)))
    assert "libc.so.6" in library.needed
    assert tuple(map(int, library.highest("GLIBC").split("."))) > (2, 0)


@pytest.mark.parametrize(
    "content", [b"", b"no ELF", b"\x7fELF\x02\x01\x01", shared_library(NEEDED, VERSIONS)[:-40]]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "op.so"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="ELF file"):
        read_shared_library(file)
