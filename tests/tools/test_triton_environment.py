from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import HostError, StoreError, ToolError
from bwdeploy.tools.triton_environment import (
    TritonEnvironment,
    bundled_environment,
    environment_name,
    fitting_python,
)

if TYPE_CHECKING:
    from pathlib import Path

MAKE = """
import sys
from pathlib import Path
from bwdeploy.tools.triton_environment import bundled_environment

print(bundled_environment(cache=Path(sys.argv[1]), on_progress=lambda text: print("made:", text)).root)
"""


def test_two_at_once_make_one_and_a_half_one_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / environment_name()
    (half / "venv").mkdir(parents=True)  # no marker: a build that was killed
    dead = tmp_path / f"{environment_name()}.abandoned"
    dead.mkdir()
    command = [sys.executable, "-c", MAKE, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=200)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("made:" in output for output in outputs) == 1
    environment = TritonEnvironment(root=half)
    assert {output[-1] for output in outputs} == {str(half)}
    assert environment.is_usable()
    assert not dead.exists()

    told: list[str] = []
    bundled_environment(cache=tmp_path, on_progress=told.append)
    assert not told  # nothing to do
    environment.server.unlink()
    assert not environment.is_usable()


def test_pip_failing_shows_its_last_lines_and_leaves_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ToolError, match="Installing the bundled Triton server failed") as caught:
        bundled_environment(cache=tmp_path)
    assert caught.value.log is not None
    assert caught.value.log.is_file()
    assert any("nvidia-pytriton" in line for line in caught.value.last_lines)
    assert not (tmp_path / environment_name()).exists()


def test_a_cache_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be made"):
        bundled_environment(cache=tmp_path / "file")


def test_a_python_without_shared_library_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = sysconfig.get_config_var
    monkeypatch.setattr(
        sysconfig, "get_config_var", lambda name: 0 if name == "Py_ENABLE_SHARED" else known(name)
    )
    assert not fitting_python()
    with pytest.raises(HostError, match="shared library") as caught:
        bundled_environment(cache=tmp_path)
    assert "--enable-shared" in caught.value.hint


def test_a_newer_python_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    with pytest.raises(HostError, match=r"needs CPython 3\.11 or 3\.12"):
        bundled_environment(cache=tmp_path)


def test_no_bytecode_is_written_though_the_system_has_a_sitecustomize_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('of the system')")
    done = subprocess.run(
        [bundled_environment().binaries / "python3", "-c", "import sys; print(sys.dont_write_bytecode)"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["of the system", "True"]


def test_the_backend_folder_has_relative_links_only() -> None:
    """It is made under another name and renamed."""
    links = [path for path in (bundled_environment().backends / "python").iterdir() if path.is_symlink()]
    assert len(links) == 3
    assert not any(link.readlink().is_absolute() for link in links)
