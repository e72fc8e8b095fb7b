"""Findings for people (lines) and for programs (the JSON of `check --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.errors import Finding

_FIELDS = ("rule", "severity", "path", "file", "line", "column", "message", "hint", "source")


def has_errors(findings: Sequence[Finding]) -> bool:
    """Whether some finding forbids the build."""
    return any(finding.severity == "error" for finding in findings)


def as_lines(findings: Sequence[Finding]) -> list[str]:
    """`severity: file:line:column: path: message. Hint. [rule]`, one line for each finding."""
    return [f"{finding.severity}: {finding} [{finding.rule}]" for finding in findings]


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The object that `check --json` prints."""
    rows = [finding._asdict() for finding in findings]
    return {"ok": not has_errors(findings), "findings": [{key: row[key] for key in _FIELDS} for row in rows]}


def summary(findings: Sequence[Finding]) -> str:
    """`2 errors, 1 warning`, or `no findings`."""
    counts = [
        (sum(finding.severity == severity for finding in findings), severity)
        for severity in ("error", "warning", "info")
    ]
    words = [
        f"{count} {name}{'s' if count > 1 and name != 'info' else ''}" for count, name in counts if count
    ]
    return ", ".join(words) or "no findings"
