"""Every shipped recipe loads, checks clean, and is valid for the editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bwdeploy.checks import check
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.editor_schema import editor_schema, editor_schema_text
from bwdeploy.recipe.load import load_recipes

PROJECT = Path(__file__).parents[2]
SCHEMA_FILE = PROJECT / "docs" / "recipe.schema.json"
RECIPES = [
    path
    for path in sorted((PROJECT / "recipes").rglob("*.yaml"))
    if not any(part.startswith("_") for part in path.relative_to(PROJECT / "recipes").parts)
]
IDS = [path.stem for path in RECIPES]


def test_there_are_shipped_recipes() -> None:
    assert len(RECIPES) >= 5


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_has_no_errors(file: Path) -> None:
    for loaded in load_recipes(file):
        errors = [finding for finding in check(loaded) if finding.severity == "error"]
        assert not errors, "\n".join(map(str, errors))


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_is_valid_for_the_editor(file: Path) -> None:
    jsonschema.Draft202012Validator(editor_schema()).validate(read_document(file).data)


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_opens_with_its_schema_and_its_command(file: Path) -> None:
    first, text = file.read_text().split("\n", 1)
    assert first.startswith("# yaml-language-server: $schema=")
    named = (file.parent / first.partition("$schema=")[2]).resolve()
    assert named == SCHEMA_FILE
    assert f"# bwdeploy build {file.relative_to(PROJECT)} -o out" in text
    assert "# Source: " in text


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_is_called_like_its_file(file: Path) -> None:
    for loaded in load_recipes(file):
        assert loaded.recipe.name.startswith(file.stem)


def test_the_editor_schema_file_is_current() -> None:
    assert SCHEMA_FILE.read_text() == editor_schema_text(), "run: bwdeploy schema > docs/recipe.schema.json"


def test_the_editor_schema_is_a_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(editor_schema_text()))


def test_every_key_is_described() -> None:
    schema = editor_schema()
    sections = {"": schema, **schema["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if "description" not in value and "description" not in sections[value["$ref"].rpartition("/")[2]]
    ]
    assert not missing


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"schema": 1, "name": "n"},
        {"schema": 1, "name": "n", "model": {}},
        {"schema": 1, "name": "n", "model": {"source": "file://m"}, "quantise": {}},
        {"schema": 1, "name": "n", "model": {"source": "file://m"}, "quantize": {"format": "fp9"}},
        {"schema": 2, "name": "n", "model": {"source": "file://m"}},
        {"base": 3},
        {"base": "b.yaml", "matrix": {"layout.tp": 3}},
    ],
)
def test_the_editor_refuses_what_loading_refuses(data: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(editor_schema()).is_valid(data)


@pytest.mark.parametrize(
    "data",
    [
        {"schema": 1, "name": "n", "model": {"source": "file://m"}},
        {"base": "b.yaml", "model": {"trust_remote_code": True}},
        {"schema": 1, "name": "n", "matrix": {"model.source": ["file://a", "file://b"]}},
    ],
)
def test_the_editor_accepts_files_that_a_base_or_a_matrix_completes(data: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(editor_schema()).validate(data)
