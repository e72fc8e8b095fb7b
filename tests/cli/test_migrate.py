"""`bwdeploy migrate` as a user meets it: files, streams, JSON and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest

from bwdeploy.checks.recipes import check_recipes
from bwdeploy.cli import main
from tests.migration.deployments import model_directory, write_engine

if TYPE_CHECKING:
    from pathlib import Path

Migrate = Callable[..., "Done"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    model_directory(tmp_path / "model")
    write_engine(tmp_path / "engine")
    return tmp_path


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def migrate(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Migrate:
    """Runs the verb in this process; one test below starts a real one."""
    monkeypatch.chdir(place)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["bwdeploy", "migrate", *arguments])
        status = main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Done(status, out, err)

    return run


def test_recipe_is_written_checked_and_the_losses_told(place: Path, migrate: Migrate) -> None:
    done = migrate("engine", "-o", "recipe.yaml", "--model", "model", "--to", "pytorch")
    assert done.status == 0, done.out + done.err
    text = (place / "recipe.yaml").read_text()
    assert text.startswith("# bwdeploy check recipe.yaml\n")
    assert str(place / "engine") not in text  # where it was read is nobody's business
    assert "read: engine of TensorRT-LLM 1.2.1" in done.out
    assert "gemm_plugin = fp8: the PyTorch backend chooses its kernels itself" in done.out
    assert done.out.rstrip().endswith("recipe.yaml: no findings")
    again = migrate("engine", "-o", "recipe.yaml", "--model", "model")
    assert (again.status, (place / "recipe.yaml").read_text()) == (2, text)
    assert "add --force" in again.err.lower()
    assert migrate("engine", "-o", "recipe.yaml", "--model", "model", "--force").status == 0
    assert (place / "recipe.yaml").read_text() != text


def test_stdout_of_the_real_command_is_a_recipe_and_nothing_else(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bwdeploy", "migrate", "engine", "--model", "model"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "assumed" in done.stderr
    (place / "printed.yaml").write_text(done.stdout)
    assert check_recipes(place / "printed.yaml")[0].loaded.recipe.engine.backend == "tensorrt"


def test_json_carries_recipe_notes_and_findings(migrate: Migrate) -> None:
    command = "trtllm-build --checkpoint_dir c --max_batch_size 8 --max_seq_len 2048 --streamingllm enable"
    done = migrate("--command", command, "--model", "model", "--gpu", "B200", "--json")
    shown = json.loads(done.out)
    assert (done.status, shown["ok"], shown["out"]) == (0, True, None)
    assert shown["kind"] == "command line of trtllm-build"
    assert shown["recipe"]["layout"]["gpu"] == "B200"
    assert {note["effect"] for note in shown["notes"]} == {"lost", "assumed"}


def test_recipe_that_does_not_check_is_written_with_exit_2(place: Path, migrate: Migrate) -> None:
    command = "trtllm-build --checkpoint_dir c --max_batch_size 8 --max_seq_len 2048 --max_draft_len 4"
    command += " --speculative_decoding_mode draft_tokens_external --gather_context_logits"
    done = migrate("--command", command, "--model", "model", "-o", "r.yaml")
    assert done.status == 2
    assert "error: r.yaml:" in done.out
    assert (place / "r.yaml").is_file()


@pytest.mark.parametrize("arguments", [[], ["engine", "--command", "trtllm-build"], ["engine"], ["model"]])
def test_wrong_arguments_write_nothing(place: Path, migrate: Migrate, arguments: list[str]) -> None:
    done = migrate(*arguments, "-o", "r.yaml")
    assert (done.status, (place / "r.yaml").exists()) == (2, False)
    assert done.err.startswith("error: ")
