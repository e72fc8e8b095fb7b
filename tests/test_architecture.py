"""Imports go one way, and only the rooms made for it touch torch or start processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src" / "bwdeploy"

ROOMS = (
    "errors", "places", "recipe", "facts", "model", "planner", "accuracy", "engines", "kernels", "checks",
    "pipeline", "tools", "worker", "serving", "stages", "build", "migration", "estimate", "difference",
    "report", "doctor", "cli", "__main__",
)  # fmt: skip
HEAVY = {"torch", "transformers", "modelopt", "accelerate", "datasets", "gguf", "numpy", "tensorrt_llm"}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 20


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    room = ROOMS.index(room_of(path))
    later = {
        name
        for name in imported(path)
        if name.startswith("bwdeploy.") and ROOMS.index(name.split(".")[1]) > room
    }
    assert not later, f"{path} imports from a later room: {sorted(later)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_worker_imports_model_libraries(path: Path) -> None:
    if room_of(path) != "worker":
        assert not {name.split(".")[0] for name in imported(path)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_adapters_start_processes(path: Path) -> None:
    if room_of(path) != "tools":
        assert not imported(path) & {"subprocess", "multiprocessing"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_reads_pickles_or_runs_a_shell(path: Path) -> None:
    text = path.read_text()
    assert "pickle" not in imported(path)
    assert "shell=True" not in text
    assert "os.system" not in text


@pytest.mark.parametrize("package", ["bwdeploy_runtime", "bwdeploy_engine_models", "bwdeploy_kernels"])
def test_what_runs_in_a_repository_stands_alone(package: str) -> None:
    modules = list((PROJECT / "triton_repo" / package).rglob("*.py"))
    assert modules
    for path in modules:
        assert not {name for name in imported(path) if name.split(".")[0] == "bwdeploy"}, path


@pytest.mark.parametrize("arguments", [["--help"], ["check", "--help"], ["recipes", "list"]])
def test_light_verbs_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from bwdeploy.cli import main\n"
        f"sys.argv = ['bwdeploy', *{arguments!r}]\n"
        "main()\n"
        f"print(sorted({HEAVY!r} & sys.modules.keys()), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().splitlines()[-1] == "[]"
