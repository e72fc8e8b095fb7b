"""Every shipped recipe loads, checks clean, plans, says where it comes from, and is valid for the editor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bwdeploy.build import plan_recipe
from bwdeploy.checks import check
from bwdeploy.pipeline.store import Store
from bwdeploy.recipe.document import read_document
from bwdeploy.recipe.editor_schema import editor_schema, editor_schema_text
from bwdeploy.recipe.load import load_recipes
from bwdeploy.report.levers import explain_json, explain_text

PROJECT = Path(__file__).parents[2]
SCHEMA_FILE = PROJECT / "docs" / "recipe.schema.json"
RECIPES = [
    path
    for path in sorted((PROJECT / "recipes").rglob("*.yaml"))
    if not any(part.startswith("_") for part in path.relative_to(PROJECT / "recipes").parts)
]
IDS = [path.stem for path in RECIPES]
VERIFIED = re.compile(r"^# Verified: (checked|compiled|measured)\b", re.MULTILINE)
WANTED = (
    "deepseek-r1-nvfp4-8xb200-latency",
    "deepseek-r1-nvfp4-8xb200-latency-relaxed",
    "deepseek-r1-nvfp4-8xb200-throughput",
    "deepseek-r1-nvfp4-gb200-nvl72",
    "gpt-oss-120b-mxfp4-2xb200",
    "llama-3.1-405b-nvfp4-4xb200",
    "llama-3.1-405b-nvfp4-8xb200",
    "llama-3.1-8b-nvfp4-rtx-pro-6000",
    "llama-3.1-8b-nvfp4-rtx5090",
    "llama-3.3-70b-fp8-2xh200",
    "llama-3.3-70b-fp8-8xh100",
    "llama-3.3-70b-nvfp4-b200",
    "llama-4-maverick-fp8-eagle3-8xb200",
    "llama-4-maverick-nvfp4-4xb200-throughput",
    "mixtral-8x7b-fp8-h100",
    "nemotron-4-15b-fp4-qat-b200",
    "nemotron-4-340b-fp4-qat-4xb200",
    "qwen3-235b-a22b-nvfp4-4xb200",
)


def test_there_are_shipped_recipes() -> None:
    assert set(WANTED) <= set(IDS)


def test_every_shared_part_is_used() -> None:
    used = {file.resolve() for recipe in RECIPES for loaded in load_recipes(recipe) for file in loaded.files}
    assert set((PROJECT / "recipes").rglob("_*/*.yaml")) <= used


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_has_no_errors(file: Path) -> None:
    for loaded in load_recipes(file):
        errors = [finding for finding in check(loaded) if finding.severity == "error"]
        assert not errors, "\n".join(map(str, errors))


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_can_be_planned(file: Path, tmp_path: Path) -> None:
    for loaded in load_recipes(file):
        plan = plan_recipe(loaded, store=Store(tmp_path))
        assert {"source", "engine", "repository"} <= {stage.name for stage in plan.stages}


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_is_valid_for_the_editor(file: Path) -> None:
    jsonschema.Draft202012Validator(editor_schema()).validate(read_document(file).data)


def opening(file: Path) -> str:
    """The comment that a file starts with."""
    lines = file.read_text().splitlines()
    return "\n".join(lines[: next(index for index, line in enumerate(lines) if not line.startswith("#"))])


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_shipped_recipe_opens_with_its_schema_command_source_and_what_was_verified(file: Path) -> None:
    text = opening(file)
    first, _, rest = text.partition("\n")
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("$schema=")[2]).resolve() == SCHEMA_FILE
    assert f"\n# bwdeploy build {file.relative_to(PROJECT)} -o out" in rest
    assert "\n# Source: " in rest
    assert VERIFIED.search(rest)


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_a_source_that_cannot_be_pinned_is_admitted(file: Path) -> None:
    for loaded in load_recipes(file):
        if any(finding.rule == "source-revision-moves" for finding in check(loaded)):
            assert "@main" in opening(file) or "your own Hugging Face directory" in opening(file)


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_an_expected_figure_says_who_published_it_with_which_software_and_when(file: Path) -> None:
    for loaded in load_recipes(file):
        for name, figure in loaded.recipe.expect.items():
            assert figure.source.startswith("https://"), name
            assert figure.status == "published", name
            assert figure.software, name
            assert figure.date, name


def test_the_record_runs_are_expected_with_the_published_figures() -> None:
    def expected(name: str) -> dict[str, float]:
        (loaded,) = load_recipes(PROJECT / "recipes" / f"{name}.yaml")
        return {key: figure.value for key, figure in loaded.recipe.expect.items()}

    strict = expected("deepseek-r1-nvfp4-8xb200-latency")
    assert strict == {"min-latency": 274.7, "ladder-253": 253, "ladder-340": 340}
    assert expected("deepseek-r1-nvfp4-8xb200-latency-relaxed") == {"record": 368}
    throughput = expected("deepseek-r1-nvfp4-8xb200-throughput")
    assert throughput == {"max-throughput": 43146, "max-throughput-per-gpu": 5393}
    assert expected("llama-4-maverick-fp8-eagle3-8xb200") == {"record": 1000}
    assert expected("llama-3.3-70b-nvfp4-b200")["perf-overview-1k-1k"] == 6920


@pytest.mark.parametrize("file", RECIPES, ids=IDS)
def test_every_value_of_a_shipped_recipe_can_be_explained(file: Path) -> None:
    for loaded in load_recipes(file):
        values = explain_json(loaded)["values"]
        assert values
        text = explain_text(loaded)
        assert all(f"  {value['path']}: " in text for value in values)
        own = [value for value in values if not value["path"].startswith("engine.llm_args")]
        assert all(value["meaning"] for value in own)


def test_an_explanation_names_the_worth_of_a_lever_and_its_source() -> None:
    (loaded,) = load_recipes(PROJECT / "recipes" / "deepseek-r1-nvfp4-8xb200-latency.yaml")
    text = explain_text(loaded)
    assert "  speculative.draft_len: 3\n      Tokens drafted in one step. auto: " in text
    assert "      worth: 111 → 253 tok/s/user over no drafting" in text
    assert "  engine.max_seq_len: 8192\n      Prompt plus answer, in tokens\n" in text
    assert "\n[1] https://github.com/NVIDIA/TensorRT-LLM/" in text


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
