"""A finished build as text and as JSON (`build --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.stages.gate import GateStage, read_report

if TYPE_CHECKING:
    from bwdeploy.build import BuildResult
    from bwdeploy.pipeline.jobs import AuditReport


def build_json(result: BuildResult) -> dict[str, Any]:
    """The contract of `build --json`."""
    return {
        "ok": True,
        "name": result.name,
        "out": str(result.out) if result.out else None,
        "stages": [
            {
                "name": stage.name,
                "key": stage.key,
                "status": stage.status,
                "seconds": round(stage.seconds, 3),
            }
            for stage in result.stages
        ],
    }


def build_text(result: BuildResult) -> str:
    """What a person wants to know after a build."""
    lines = [
        line
        for stage in result.stages
        if stage.name == GateStage.name
        for line in audit_lines(read_report(stage.artifact.directory))
    ]
    if result.out is None:
        return "\n".join([*lines, f"{result.name}: stopped after stage {result.stages[-1].name}"])
    return "\n".join([*lines, f"{result.name}: {result.out}", f"next: bwdeploy serve {result.out}"])


def audit_lines(report: AuditReport) -> list[str]:
    """An audit in one line, and a line for everything that it found."""
    findings = [
        f"audit {finding.severity}: {finding.check}: {f'{finding.tensor}: ' if finding.tensor else ''}"
        f"{finding.message.rstrip('.')}.{f' {finding.hint}' if finding.hint else ''}"
        for finding in report.findings
    ]
    return [_audit_summary(report), *findings]


def _audit_summary(report: AuditReport) -> str:
    parts = [f"{report.bits_per_parameter:.2f} bits per parameter"]
    if report.worst_tensors:
        worst = report.worst_tensors[0]
        parts.append(f"largest weight error {worst.relative_error:.3f} ({worst.name})")
    if report.source_perplexity is not None and report.quantized_perplexity is not None:
        ratio = report.quantized_perplexity / report.source_perplexity
        parts.append(
            f"perplexity {report.source_perplexity:.2f} → {report.quantized_perplexity:.2f} (×{ratio:.2f})"
        )
    return "audit: " + ", ".join(parts)
