"""The plugin library in a model class of the user, against a stand-in for TensorRT's Python module."""

from __future__ import annotations

import _ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bwdeploy_kernels.errors import MisfitError
from bwdeploy_kernels.tensorrt_plugins import LIBRARY, VARIABLE, load_plugins, make_plugin


class Registry:
    """TensorRT's registry, with the one creator that the library would have registered."""

    def get_creator(self, name: str, version: str, namespace: str) -> Any:
        if (name, version, namespace) != ("AddRmsnormQuantFp8", "1", "bwdeploy"):
            return None
        return SimpleNamespace(create_plugin=lambda name, fields, phase: (name, fields, phase))


@pytest.fixture(autouse=True)
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = SimpleNamespace(
        get_plugin_registry=Registry,
        PluginFieldCollection=tuple,
        TensorRTPhase=SimpleNamespace(BUILD="build"),
    )
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / LIBRARY).parent.mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_a_plugin_is_made_for_the_build(pack: Path) -> None:
    (pack / LIBRARY).symlink_to(_ctypes.__file__)  # a library that can be loaded
    made = make_plugin(load_plugins(), "AddRmsnormQuantFp8", ["eps"])
    assert made == ("AddRmsnormQuantFp8", ("eps",), "build")


def test_a_name_that_the_library_does_not_have_is_refused(pack: Path) -> None:
    with pytest.raises(MisfitError, match="got Softmax, wanted one of the pack's library"):
        make_plugin(Registry(), "Softmax", [])


def test_without_a_pack_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(MisfitError, match="BWDEPLOY_KERNEL_PACK: got nothing"):
        load_plugins()


def test_a_library_that_cannot_be_loaded_is_told(pack: Path) -> None:
    (pack / LIBRARY).write_text("no library")
    with pytest.raises(MisfitError, match=r"cannot be loaded: .*TensorRT of this image"):
        load_plugins()
