from __future__ import annotations

import sys

import pytest

from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.stub.process import engine_environment, engine_python


def test_the_named_python_runs_the_engine() -> None:
    assert engine_python({"BWDEPLOY_ENGINE_PYTHON": sys.executable, "PATH": "/bin"}) == sys.executable


def test_without_a_name_python3_of_the_path_does() -> None:
    assert engine_python({"PATH": str(sys.executable.rpartition("/")[0])}).endswith("/python3")


def test_no_python_is_a_clear_error() -> None:
    with pytest.raises(EngineError, match="python3 on the PATH is not there"):
        engine_python({"PATH": "/nowhere"})


def test_what_only_concerns_the_stub_is_taken_out() -> None:
    environ = {
        "PATH": "/bin",
        "VIRTUAL_ENV": "/venv",
        "PYTHONHOME": "/python",
        "LD_LIBRARY_PATH": "/usr/lib/cuda:/site/nvidia_pytriton.libs",
        "OMPI_COMM_WORLD_SIZE": "1",
        "OMPI_MCA_btl": "tcp",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert engine_environment(environ, {}) == {
        "PATH": "/bin",
        "LD_LIBRARY_PATH": "/usr/lib/cuda",
        "OMPI_MCA_btl": "tcp",
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_an_empty_library_path_is_not_passed_on() -> None:
    assert "LD_LIBRARY_PATH" not in engine_environment({"LD_LIBRARY_PATH": "/x/nvidia_pytriton.libs"}, {})


def test_what_the_recipe_sets_stands_over_what_is_inherited() -> None:
    environment = engine_environment({"TRTLLM_ENABLE_PDL": "0", "PATH": "/bin"}, {"TRTLLM_ENABLE_PDL": "1"})
    assert (environment["TRTLLM_ENABLE_PDL"], environment["PATH"]) == ("1", "/bin")
