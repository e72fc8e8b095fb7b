"""A finished build as text and as JSON (`build --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.training import training_lines
from bwdeploy.stages.gate import GateStage, read_accuracy, read_report
from bwdeploy.stages.gate_verdicts import verdict_line, verdicts_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.build import BuildResult
    from bwdeploy.pipeline.jobs import AuditReport
    from bwdeploy.pipeline.run import StageResult
    from bwdeploy.pipeline.training_jobs import AccuracyReport
    from bwdeploy.recipe.schema import Gate


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
        "gate": [one for directory in _gates(result) for one in verdicts_json(directory, result.gate)],
    }


def build_text(result: BuildResult) -> str:
    """What a person wants to know after a build."""
    lines = [line for stage in result.stages for line in _stage_lines(stage, result.gate)]
    if result.out is None:
        return "\n".join([*lines, f"{result.name}: stopped after stage {result.stages[-1].name}"])
    return "\n".join([*lines, f"{result.name}: {result.out}", f"next: bwdeploy serve {result.out}"])


def _stage_lines(stage: StageResult, gate: Gate) -> Iterator[str]:
    if stage.name == GateStage.name:
        yield from gate_lines(stage.artifact.directory, gate)
    yield from training_lines(stage.name, stage.artifact.directory)


def verdicts_json(gate_artifact: Path, gate: Gate) -> list[dict[str, Any]]:
    """Every verdict as data; `value`, `low`, `high` and `limit` are in `unit`."""
    accuracy = read_accuracy(gate_artifact)
    return [
        {"figure": figure.name, "limit_of": figure.key, "unit": figure.unit} | figure.judgement._asdict()
        for figure in (verdicts_of(accuracy, gate) if accuracy is not None else ())
    ]


def gate_lines(gate_artifact: Path, gate: Gate) -> list[str]:
    """What the gate measured, in a few lines: the audit, the comparison, each verdict."""
    accuracy = read_accuracy(gate_artifact)
    lines = audit_lines(read_report(gate_artifact))
    return lines if accuracy is None else [*lines, *comparison_lines(accuracy, gate)]


def comparison_lines(accuracy: AccuracyReport, gate: Gate) -> Iterator[str]:
    """The figures of the text in a line, and a line for every verdict."""
    text = accuracy.text
    if text is not None:
        divergence, agreement = _mean(text.kl_divergence), _mean(text.top1_agreement)
        yield (
            f"compared: KL divergence {divergence:.4g} nats per token, top-1 agreement {agreement:.1%}"
            f" on {len(text.kl_divergence):,} sequences of held-out text"
        )
    yield from (f"gate {verdict_line(figure)}" for figure in verdicts_of(accuracy, gate))


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
    source, quantized = report.source_perplexity, report.quantized_perplexity
    if quantized is not None and source is None:
        parts.append(f"perplexity {quantized:.2f}, and no source to compare it with")
    elif quantized is not None and source is not None:
        parts.append(f"perplexity {source:.2f} → {quantized:.2f} (×{quantized / source:.2f})")
    return "audit: " + ", ".join(parts)


def _mean(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _gates(result: BuildResult) -> Iterator[Path]:
    """The artifact of the gate, where the build came so far."""
    yield from (stage.artifact.directory for stage in result.stages if stage.name == GateStage.name)
