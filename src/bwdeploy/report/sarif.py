"""Findings as SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bwdeploy
from bwdeploy.report.rules import rule_sections, rule_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.checks.reading import DescribedRule
    from bwdeploy.errors import Finding

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_PROBLEM_SEVERITIES = {"error": "error", "warning": "warning", "info": "recommendation"}
"""GitHub's words for the same."""


def as_sarif(findings: Sequence[Finding], *, root: Path, checked: Path) -> dict[str, Any]:
    """One SARIF log; files below `root` are named relative to it, as code hosts want.

    A finding without a file (of a `--set`) is shown at `checked`, as code hosts refuse one without place.
    """
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(findings)},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, root, checked) for finding in findings],
            }
        ],
    }


def _driver(findings: Sequence[Finding]) -> dict[str, Any]:
    rules = {rule.id: rule for section in rule_sections() for rule in section}
    used = dict.fromkeys(finding.rule for finding in findings)
    return {
        "name": "bwdeploy",
        "version": bwdeploy.__version__,
        "rules": [_rule(name, rules.get(name)) for name in used],
    }


def _rule(name: str, described: DescribedRule | None) -> dict[str, Any]:
    if described is None:
        return {"id": name, "shortDescription": {"text": name.replace("-", " ")}}
    rule: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": described.summary},
        "fullDescription": {"text": described.why or described.summary},
        "help": {"text": rule_text(described)},
        "defaultConfiguration": {"level": _LEVELS[described.severity]},
        "properties": {
            "tags": [name.split("-", maxsplit=1)[0]],
            "precision": "high",
            "problem.severity": _PROBLEM_SEVERITIES[described.severity],
        },
    }
    first, *_ = described.source.split(" · ")
    if first.startswith("https://"):
        rule["helpUri"] = first
    return rule


def _result(finding: Finding, root: Path, checked: Path) -> dict[str, Any]:
    path = f"{finding.path}: " if finding.path else ""
    hint = f" {finding.hint.rstrip('.')}." if finding.hint else ""
    return {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{path}{finding.message.rstrip('.')}.{hint}"},
        "locations": [{"physicalLocation": _location(finding, root, checked)}],
    }


def _location(finding: Finding, root: Path, checked: Path) -> dict[str, Any]:
    file = Path(finding.file or checked).absolute()
    inside = file.is_relative_to(root)
    location: dict[str, Any] = {
        "artifactLocation": {"uri": file.relative_to(root).as_posix() if inside else file.as_uri()}
    }
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
    return location
