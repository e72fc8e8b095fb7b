"""Findings as lines, JSON and SARIF."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bwdeploy.checks import all_rules
from bwdeploy.errors import Finding
from bwdeploy.report.findings import as_json, as_lines, has_errors, summary
from bwdeploy.report.rules import find_rule
from bwdeploy.report.sarif import as_sarif

ERROR = Finding(
    rule="layout-world-size",
    severity="error",
    path="layout",
    message="2 ranks, 1 GPU",
    hint="Make them equal",
    file="/repo/recipes/r.yaml",
    line=3,
    column=9,
    source="https://example.org/1",
)
WARNING = Finding(rule="recipe-set", severity="warning", path="a.b", message="odd")


def test_a_line_holds_severity_place_path_message_hint_and_rule() -> None:
    assert as_lines([ERROR, WARNING]) == [
        "error: /repo/recipes/r.yaml:3:9: layout: 2 ranks, 1 GPU. Make them equal. [layout-world-size]",
        "warning: a.b: odd. [recipe-set]",
    ]


def test_json_has_the_keys_of_the_contract() -> None:
    report = as_json([ERROR])
    assert report["ok"] is False
    assert list(report["findings"][0]) == [
        "rule",
        "severity",
        "path",
        "file",
        "line",
        "column",
        "message",
        "hint",
        "source",
    ]
    assert json.loads(json.dumps(report)) == report


def test_warnings_alone_are_ok() -> None:
    assert as_json([WARNING])["ok"] is True
    assert not has_errors([WARNING])
    assert as_json([]) == {"ok": True, "findings": []}


@pytest.mark.parametrize(
    ("findings", "text"),
    [([], "no findings"), ([ERROR], "1 error"), ([ERROR, ERROR, WARNING], "2 errors, 1 warning")],
)
def test_the_summary_counts(findings: list[Finding], text: str) -> None:
    assert summary(findings) == text


def test_sarif_names_files_relative_to_the_repository() -> None:
    log = as_sarif([ERROR], root=Path("/repo"), checked=Path("/repo/recipes/r.yaml"))
    (run,) = log["runs"]
    (result,) = run["results"]
    location = result["locations"][0]["physicalLocation"]
    assert log["version"] == "2.1.0"
    assert (result["ruleId"], result["level"]) == ("layout-world-size", "error")
    assert location["artifactLocation"]["uri"] == "recipes/r.yaml"
    assert location["region"] == {"startLine": 3, "startColumn": 9}


def test_sarif_files_outside_the_repository_are_uris() -> None:
    log = as_sarif([ERROR], root=Path("/elsewhere"), checked=Path("/repo/r.yaml"))
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "file:///repo/recipes/r.yaml"


def test_sarif_describes_each_rule_once() -> None:
    log = as_sarif([ERROR, ERROR, WARNING], root=Path("/repo"), checked=Path("/repo/recipes/r.yaml"))
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["layout-world-size", "recipe-set"]
    summaries = {rule.id: rule.summary for rule in all_rules()}
    assert rules[0]["shortDescription"]["text"] == summaries["layout-world-size"]
    assert rules[0]["helpUri"].startswith("https://")


def test_sarif_shows_a_command_line_value_at_the_recipe() -> None:
    """Code hosts refuse a result without a location."""
    (result,) = as_sarif([WARNING], root=Path("/repo"), checked=Path("/repo/recipes/r.yaml"))["runs"][0][
        "results"
    ]
    location = result["locations"][0]["physicalLocation"]
    assert location == {"artifactLocation": {"uri": "recipes/r.yaml"}}


def test_sarif_brings_the_reason_of_a_rule() -> None:
    log = as_sarif([ERROR], root=Path("/repo"), checked=Path("/repo/recipes/r.yaml"))
    (rule,) = log["runs"][0]["tool"]["driver"]["rules"]
    assert rule["fullDescription"]["text"] == find_rule("layout-world-size").why
    assert "https://" in rule["help"]["text"]
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["properties"]["problem.severity"] == "error"
