"""Every rule speaks up with its exact words when it should, and is silent just before that."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.checks import all_rules, check
from bwdeploy.errors import Finding
from bwdeploy.recipe.load import load_recipes
from tests.checks.cases import Fires, Silent
from tests.checks.model_configs import SMALL_LLAMA

THEMES = [
    import_module(f"tests.checks.{file.stem}") for file in sorted(Path(__file__).parent.glob("cases_*.py"))
]
RULES = all_rules()
FIRES: list[Fires] = [row for theme in THEMES for row in theme.FIRES]
SILENT: list[Silent] = [row for theme in THEMES for row in theme.SILENT]
RECIPE = """\
schema: 1
name: tiny
model: {source: file://model}
quantize: {format: nvfp4}
"""

OF_THE_MACHINE = {"engine-version-installed", "gate-lm-eval-missing", "gate-task-unknown"}
"""No recipe alone fires them; `test_installed_version` and `test_installed_lm_eval` do."""
GIVEN_BY = re.compile(r" \(given by --set .*\)$", re.DOTALL)
"""What a finding adds about a value of the command line."""


def found(directory: Path, overrides: tuple[str, ...], config: dict[str, Any] | None) -> tuple[Finding, ...]:
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text(json.dumps(config or SMALL_LLAMA))
    (directory / "model" / "model.safetensors").touch()
    (directory / "heads").mkdir()
    (directory / "heads" / "config.json").write_text("{}")
    (directory / "heads" / "medusa_lm_head.pt").touch()
    (directory / "bare").mkdir()
    (directory / "bare" / "config.json").write_text(json.dumps(SMALL_LLAMA))
    (directory / "calib.jsonl").touch()
    (directory / "weights.bin").touch()
    file = directory / "r.yaml"
    file.write_text(RECIPE)
    findings: list[Finding] = []
    for loaded in load_recipes(file, overrides=overrides):
        findings += check(loaded)
    return tuple(findings)


def row_id(row: Fires | Silent) -> str:
    return f"{row.rule}-{'-'.join(row.overrides)}"[:120]


@pytest.mark.parametrize("row", FIRES, ids=row_id)
def test_a_rule_speaks_up(row: Fires, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    findings = [one for one in found(tmp_path, row.overrides, row.config) if one.rule == row.rule]
    said = {(one.path, one.severity, GIVEN_BY.sub("", one.message)) for one in findings}
    message = row.message.replace("<tmp>", str(tmp_path))
    assert (row.path, row.severity, message) in said
    if row.hint is not None:
        hint = row.hint.replace("<tmp>", str(tmp_path))
        assert hint in {one.hint for one in findings if GIVEN_BY.sub("", one.message) == message}


@pytest.mark.parametrize("row", SILENT, ids=row_id)
def test_a_rule_is_silent(row: Silent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    findings = [one for one in found(tmp_path, row.overrides, row.config) if one.rule == row.rule]
    assert findings == []


def test_every_rule_has_a_recipe_that_fires_it() -> None:
    assert {rule.id for rule in RULES} - {row.rule for row in FIRES} == OF_THE_MACHINE


def test_every_rule_has_a_recipe_that_it_accepts() -> None:
    assert {rule.id for rule in RULES} - {row.rule for row in SILENT} == set()


def test_no_row_is_about_a_rule_that_does_not_exist() -> None:
    named = {row.rule for row in FIRES} | {row.rule for row in SILENT}
    assert named - {rule.id for rule in RULES} == set()


def test_rule_ids_are_unique_and_kebab_case() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in ids)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_says_why_and_where_from(rule: Any) -> None:
    assert rule.summary
    assert rule.source
    assert rule.why
    assert all(" " not in part or not part.startswith("https://") for part in rule.source.split(" · "))
