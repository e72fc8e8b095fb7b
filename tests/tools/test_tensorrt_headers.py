from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.tools.tensorrt_headers import find_tensorrt, installed_version

NEW = """\
#define TRT_MAJOR_ENTERPRISE 10
#define TRT_MINOR_ENTERPRISE 14
#define TRT_PATCH_ENTERPRISE 1
#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE //!< TensorRT major version.
#define NV_TENSORRT_LWS_MAJOR 0 //!< TensorRT LWS major version.
"""
OLD = """\
#define NV_TENSORRT_MAJOR {major} //!< major
#define NV_TENSORRT_MINOR 2
#define NV_TENSORRT_PATCH 0
"""


def headers(place: Path, text: str) -> Path:
    place.mkdir(parents=True)
    (place / "NvInferVersion.h").write_text(text)
    return place


def test_headers_are_found_in_the_directory_or_its_include(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    include = headers(tmp_path / "trt" / "include", NEW)
    for root in (tmp_path / "trt", include):
        monkeypatch.setenv("TENSORRT_ROOT", str(root))
        place = find_tensorrt()
        assert (place.include, place.version, place.soname) == (include, "10.14.1", "libnvinfer.so.10")
    assert installed_version() == "10.14.1"


def test_older_form_of_the_version_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_ROOT", str(headers(tmp_path / "include", OLD.format(major=10))))
    assert installed_version() == "10.2.0"


def test_without_the_variable_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORRT_ROOT", raising=False)
    with pytest.raises(HostError, match="TENSORRT_ROOT is not set"):
        find_tensorrt()
    assert installed_version() == "absent"


def test_a_directory_without_headers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_ROOT", str(tmp_path))
    with pytest.raises(HostError, match=r"no NvInferVersion\.h"):
        find_tensorrt()
    assert installed_version() == "absent"


def test_old_headers_are_told_with_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORRT_ROOT", str(headers(tmp_path / "include", OLD.format(major=8))))
    with pytest.raises(HostError, match=r"TensorRT 8\.2\.0; 10 or newer is needed"):
        find_tensorrt()
