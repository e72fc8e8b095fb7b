"""The output directory: linked, whole, never over somebody else's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.output import MANIFEST, damaged_files, publish_output, read_manifest
from bwdeploy.pipeline.run import StageResult
from bwdeploy.pipeline.store import Store
from tests.pipeline.toy import HOST, CopyStage, UpperStage, build, recipe

PLACED = {"copy": "model", "upper": "."}


@pytest.fixture
def results(tmp_path: Path) -> tuple[StageResult, ...]:
    (tmp_path / "source").write_text("some text")
    journal = tmp_path / "journal"
    return build([CopyStage(tmp_path / "source", journal), UpperStage(journal)], Store(tmp_path / "store"))


def publish(out: Path, results: tuple[StageResult, ...]) -> None:
    publish_output(out, recipe=recipe(), recipe_text="schema: 1\n", host=HOST, results=results, placed=PLACED)


def test_files_are_links_into_the_store(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    publish(tmp_path / "out", results)
    assert (tmp_path / "out/model/text").samefile(results[0].artifact.directory / "text")
    assert (tmp_path / "out/upper").read_text() == "SOME TEXT"


def test_manifest_names_recipe_host_tools_and_digests(
    tmp_path: Path, results: tuple[StageResult, ...]
) -> None:
    publish(tmp_path / "out", results)
    manifest = read_manifest(tmp_path / "out")
    assert manifest["recipe_text"] == "schema: 1\n"
    assert manifest["host"]["python"] == "3.11.0"
    assert manifest["stages"][0]["tools"].keys() == {"pydantic"}
    assert {file["path"] for file in manifest["files"]} == {"model/text", "model/first", "upper"}
    assert str(tmp_path) not in json.dumps(manifest)


def test_same_build_again_touches_nothing(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    out = tmp_path / "out"
    publish(out, results)
    before = out.stat().st_ino, (out / MANIFEST).stat().st_mtime_ns
    publish(out, results)
    assert (out.stat().st_ino, (out / MANIFEST).stat().st_mtime_ns) == before


def test_damaged_output_file_is_found_and_repaired_by_a_build(
    tmp_path: Path, results: tuple[StageResult, ...]
) -> None:
    out = tmp_path / "out"
    publish(out, results)
    assert damaged_files(out) == []
    (out / "upper").unlink()
    (out / "upper").write_text("EVIL TEXT")
    assert damaged_files(out) == ["upper was changed"]
    publish(out, results)
    assert damaged_files(out) == []


def test_directory_of_somebody_else_is_not_replaced(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious").write_text("x")
    with pytest.raises(StoreError, match="was not written by bwdeploy"):
        publish(tmp_path / "out", results)
    assert (tmp_path / "out/precious").read_text() == "x"


def test_what_a_killed_build_left_beside_the_output_is_removed(
    tmp_path: Path, results: tuple[StageResult, ...]
) -> None:
    leftover = tmp_path / ".out.new-abc" / "new"
    leftover.mkdir(parents=True)
    publish(tmp_path / "out", results)
    assert not leftover.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 99}'])
def test_unreadable_manifest_is_a_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=MANIFEST):
        read_manifest(tmp_path)


def test_directory_without_manifest_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        read_manifest(tmp_path)
    assert "bwdeploy build" in error.value.hint
