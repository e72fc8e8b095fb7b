"""What `doctor` says of driver and ModelOpt, without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy import doctor

MODULE = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Nov 4 03:02:11 UTC 2025\nGCC version: 12.2.0\n"
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "version"
    monkeypatch.setattr(doctor, "_DRIVER", file)
    return file


@pytest.mark.parametrize(
    ("version", "ok", "detail"),
    [
        ("590.44.01", True, "590.44.01: images up to 26.07 run"),
        ("610.43.02", True, "610.43.02: images up to 26.07 run"),
        ("580.95.05", False, "580.95.05: images up to 26.02 run"),
        ("535.104.05", False, "535.104.05: no Triton image with TensorRT-LLM runs"),
    ],
)
def test_the_driver_is_held_against_the_images(driver: Path, version: str, detail: str, *, ok: bool) -> None:
    driver.write_text(MODULE.format(version))
    diagnosis = doctor._driver()
    assert (diagnosis.ok, diagnosis.detail) == (ok, detail)
    assert diagnosis.hint == (
        "TensorRT-LLM 1.2.1 (image 26.07, CUDA 13.1.0) was made for driver 590.44.01; update the driver"
    )


def test_a_machine_without_a_driver_is_fine(driver: Path) -> None:
    assert not driver.exists()
    assert doctor._driver().ok


@pytest.mark.parametrize("text", ["", "NVRM version: unknown", "\x00"])
def test_a_driver_file_without_a_version_is_no_driver(driver: Path, text: str) -> None:
    driver.write_text(text)
    assert doctor.driver_version(driver) is None


def installed(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    monkeypatch.setattr(
        doctor, "distribution_version", lambda name: versions.get(name.replace("-", "_"), "absent")
    )


def test_another_modelopt_than_the_one_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, nvidia_modelopt="0.46.1")
    diagnosis = doctor._modelopt()
    assert (diagnosis.ok, diagnosis.detail) == (False, "0.46.1")
    assert diagnosis.hint.startswith("pip install nvidia-modelopt==0.47.0")


def test_a_pair_that_is_known_to_be_bad_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, nvidia_modelopt="0.25.0", tensorrt_llm="0.18.1")
    diagnosis = doctor._modelopt()
    assert not diagnosis.ok
    assert "an FP4 engine does not build" in diagnosis.detail


@pytest.mark.parametrize("version", ["0.47.0", "absent"])
def test_the_modelopt_that_is_used_or_none_is_fine(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    installed(monkeypatch, nvidia_modelopt=version)
    assert doctor._modelopt().ok
