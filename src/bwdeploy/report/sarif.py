"""Findings as SARIF 2.1.0, which code hosts show beside the lines of a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bwdeploy
from bwdeploy.checks import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.errors import Finding

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}


def as_sarif(findings: Sequence[Finding], *, root: Path) -> dict[str, Any]:
    """One SARIF log; files below `root` are named relative to it, as code hosts want."""
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(findings)},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, root) for finding in findings],
            }
        ],
    }


def _driver(findings: Sequence[Finding]) -> dict[str, Any]:
    summaries = {rule.id: (rule.summary, rule.source) for rule in RULES}
    used = dict.fromkeys(finding.rule for finding in findings)
    return {
        "name": "bwdeploy",
        "version": bwdeploy.__version__,
        "rules": [_rule(name, *summaries.get(name, (name.replace("-", " "), "bwdeploy"))) for name in used],
    }


def _rule(name: str, text: str, source: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": name, "shortDescription": {"text": text}}
    if source.startswith("https://"):
        rule["helpUri"] = source
    return rule


def _result(finding: Finding, root: Path) -> dict[str, Any]:
    path = f"{finding.path}: " if finding.path else ""
    hint = f" {finding.hint.rstrip('.')}." if finding.hint else ""
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{path}{finding.message.rstrip('.')}.{hint}"},
    }
    if finding.file:
        result["locations"] = [{"physicalLocation": _location(finding, root)}]
    return result


def _location(finding: Finding, root: Path) -> dict[str, Any]:
    file = Path(finding.file).absolute()
    inside = file.is_relative_to(root)
    location: dict[str, Any] = {
        "artifactLocation": {"uri": file.relative_to(root).as_posix() if inside else file.as_uri()}
    }
    if finding.line:
        location["region"] = {"startLine": finding.line, "startColumn": max(finding.column, 1)}
    return location
