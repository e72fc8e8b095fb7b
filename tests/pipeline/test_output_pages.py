"""Pages about a build: known to the manifest, and made again only when they would differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.errors import StoreError
from bwdeploy.pipeline.output import (
    MANIFEST,
    damaged_files,
    publish_output,
    read_manifest,
    recorded_files,
)
from bwdeploy.pipeline.run import StageResult
from bwdeploy.pipeline.store import Store
from tests.pipeline.toy import HOST, CopyStage, UpperStage, build, recipe


class Reporter:
    """Counts how often it is asked."""

    def __init__(self, made_with: str = "pen", page: str = "report/index.html") -> None:
        self.made_with = made_with
        self.page = page
        self.asked: list[set[str]] = []

    def pages(self, manifest: Mapping[str, Any], made: Mapping[str, Path]) -> Mapping[str, str]:
        self.asked.append(set(made))
        return {
            self.page: f"{manifest['name']} with a {self.made_with}: {(made['copy'] / 'text').read_text()}"
        }


@pytest.fixture
def results(tmp_path: Path) -> tuple[StageResult, ...]:
    (tmp_path / "source").write_text("some text")
    journal = tmp_path / "journal"
    return build([CopyStage(tmp_path / "source", journal), UpperStage(journal)], Store(tmp_path / "store"))


def publish(out: Path, results: tuple[StageResult, ...], reporter: Reporter | None) -> None:
    placed = {"copy": "report", "upper": "."}  # the page stands among the files of a stage
    publish_output(
        out, recipe=recipe(), recipe_text="", host=HOST, results=results, placed=placed, reporter=reporter
    )


def test_page_is_written_from_the_artifacts_and_recorded(
    tmp_path: Path, results: tuple[StageResult, ...]
) -> None:
    out, reporter = tmp_path / "out", Reporter()
    publish(out, results, reporter)
    assert (out / "report/index.html").read_text(encoding="utf-8").endswith("with a pen: some text")
    assert reporter.asked == [{"copy", "upper"}]
    assert "report/index.html" in {file["path"] for file in recorded_files(read_manifest(out))}
    assert damaged_files(out) == []


def test_page_of_the_same_build_is_not_made_again(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    out, reporter = tmp_path / "out", Reporter()
    publish(out, results, reporter)
    before = (out / "report/index.html").stat().st_ino
    publish(out, results, reporter)
    assert len(reporter.asked) == 1
    assert (out / "report/index.html").stat().st_ino == before


@pytest.mark.parametrize("later", [Reporter("brush"), None], ids=["made otherwise", "no pages any more"])
def test_page_follows_its_reporter(
    tmp_path: Path, results: tuple[StageResult, ...], later: Reporter | None
) -> None:
    out = tmp_path / "out"
    publish(out, results, Reporter())
    publish(out, results, later)
    page = out / "report/index.html"
    assert ("brush" in page.read_text()) if later else not page.exists()
    assert damaged_files(out) == []


@pytest.mark.parametrize("content", ["changed", None], ids=["changed", "missing"])
def test_damaged_page_is_found_and_repaired(
    tmp_path: Path, results: tuple[StageResult, ...], content: str | None
) -> None:
    out, reporter = tmp_path / "out", Reporter()
    publish(out, results, reporter)
    page = out / "report/index.html"
    page.unlink()
    if content is not None:
        page.write_text(content)
    assert damaged_files(out)[0].startswith("report/index.html")
    publish(out, results, reporter)
    assert damaged_files(out) == []


def test_output_without_pages_gets_them(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    out = tmp_path / "out"
    publish(out, results, None)
    assert damaged_files(out) == []
    publish(out, results, Reporter())
    assert (out / "report/index.html").is_file()


def test_reporter_that_failed_is_asked_again(tmp_path: Path, results: tuple[StageResult, ...]) -> None:
    class Failing(Reporter):
        def pages(self, manifest: Mapping[str, Any], made: Mapping[str, Path]) -> Mapping[str, str]:
            del manifest, made
            return {}

    out = tmp_path / "out"
    publish(out, results, Failing())
    assert damaged_files(out) == []
    publish(out, results, Reporter())
    assert (out / "report/index.html").is_file()


@pytest.mark.parametrize("changes", [{"files": None}, {"pages": []}])
def test_manifest_that_does_not_name_its_files_is_refused(
    tmp_path: Path, results: tuple[StageResult, ...], changes: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    publish(out, results, Reporter())
    (out / MANIFEST).write_text(json.dumps(read_manifest(out) | changes))
    with pytest.raises(StoreError, match="does not say which files"):
        damaged_files(out)
    publish(out, results, Reporter())
    assert damaged_files(out) == []
