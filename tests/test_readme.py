"""Every command in the README runs, on the real quickstart model and the real Triton server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bwdeploy.facts.formats import format_table

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
CONSOLE = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
TRANSCRIPT = [command for command in CONSOLE if command.startswith("bwdeploy ")]
MAKE = [command.split("#")[0].strip() for command in CONSOLE if command.startswith("make ")]
INLINE = [
    command
    for command in re.findall(r"`(bwdeploy [^`]+)`", README)
    if not re.search(r"[A-Z<|…]", command)  # placeholders
]
EXPECTED = {
    "--ask": "Paris",
    "smoke": "passed",
    "verify": "as they were built",
    "check": "no findings",
    "--explain": "Source:",
    "--suggest": "chosen",
    "estimate": "band",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("readme")
    shutil.copytree(PROJECT / "recipes", directory / "recipes")
    return directory


def run(command: str, place: Path) -> str:
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "bwdeploy", *arguments],
        cwd=place,
        env=os.environ | {"BWDEPLOY_STORE": str(place / "store")},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_commands_to_run() -> None:
    assert MAKE == ["make demo", "make test"]
    assert len(TRANSCRIPT) >= 6
    assert len(INLINE) >= 3


@pytest.mark.parametrize("command", MAKE)
def test_make_target_exists_and_does_its_job(command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert ("bwdeploy serve" if "demo" in command else "pytest") in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", TRANSCRIPT)
def test_command_of_the_transcript_runs(command: str, place: Path) -> None:
    """In the order of the README: later commands use what earlier ones made."""
    output = run(command, place)
    words = set(shlex.split(command))
    if "--explain" in words:
        words.discard("check")  # nothing is checked then
    assert all(EXPECTED[word] in output for word in words & EXPECTED.keys())


@pytest.mark.parametrize("command", INLINE)
def test_command_of_the_text_runs(command: str, place: Path) -> None:
    run(command, place)


def test_recipe_of_the_readme_is_without_errors(place: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (place / "readme.yaml").write_text(block)
    (place / "calib.jsonl").write_text('{"text": "x"}\n')
    run("bwdeploy check readme.yaml", place)


def test_readme_lists_exactly_the_formats_there_are() -> None:
    (listed,) = re.findall(r"\nFormats: (.*?)\.\n", README, re.DOTALL)
    assert set(re.findall(r"`([a-z0-9_]+)`", listed)) == set(format_table().formats)
