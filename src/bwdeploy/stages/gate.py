"""Stage `gate`: audits the checkpoint against its source and stops the build when a limit is broken.

The artifact is the measurement; the recipe's limits are applied to it each time, so that changing a limit
never repeats the measurement.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - part of the public signatures
from typing import TYPE_CHECKING

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.jobs import Audit, AuditReport
from bwdeploy.pipeline.stage import Step
from bwdeploy.stages.checkpoint import checkpoint_layout, checkpoint_stage
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Gate, Recipe

REPORT = "audit.json"


class GateStage:
    """Measures and judges the checkpoint."""

    name = "gate"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`."""
        evaluation = recipe.gate.evaluation
        checkpoint, layout = checkpoint_stage(recipe), checkpoint_layout(recipe)
        return Step(
            params={
                **({} if layout == "unified" else {"layout": layout}),
                "checkpoint": checkpoint,
                "compare": recipe.quantize.method != "prequantized" or layout == "tensorrt_llm",
                "format": recipe.quantize.format if not recipe.quantize.overrides else None,
                "kv_cache": recipe.quantize.kv_cache,
                "evaluation": evaluation.model_dump(mode="json")
                | {"dataset": placed_dataset(evaluation.dataset)},
                "device": host.device,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
            sources=dataset_sources(evaluation.dataset, name="evaluation"),
            inputs=tuple(dict.fromkeys((checkpoint, "source"))),
            tools=("torch", "transformers"),
            command=f"audit the checkpoint and compare it with its source on {host.device}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params = dict(work.step.params)
        placed = params["evaluation"]["dataset"]
        params["evaluation"] = params["evaluation"] | {
            "dataset": found_dataset(placed, work.step.sources, name="evaluation")
        }
        checkpoint, compare = params.pop("checkpoint"), params.pop("compare")
        request = Audit.model_validate(
            params
            | {
                "checkpoint": work.inputs[checkpoint],
                "source": work.inputs["source"] if compare else None,
            }
        )
        report = work.run(request)
        (work.out / REPORT).write_text(report.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        if not (out / REPORT).is_file():
            raise ToolError("the audit wrote no report", hint="The log of the gate stage says why")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`."""
        broken = list(broken_limits(read_report(out), recipe.gate))
        if broken:
            raise GateError(
                "the checkpoint does not pass the gate:\n" + "\n".join(f"  - {line}" for line in broken),
                hint=f"The whole measurement is in {out / REPORT}; choose a milder format, more calibration"
                " data, or, knowingly, another limit",
            )


def read_report(out: Path) -> AuditReport:
    """The measurement of a gate artifact."""
    return AuditReport.model_validate_json((out / REPORT).read_text())


def broken_limits(report: AuditReport, gate: Gate) -> Iterator[str]:
    """Each reason to refuse the checkpoint, in words."""
    for finding in report.findings:
        if finding.severity == "error":
            yield f"{finding.check}: {finding.message}"
    if gate.max_perplexity_increase is not None:
        yield from _perplexity(report, gate.max_perplexity_increase)
    if gate.max_weight_error is not None:
        worst = [tensor for tensor in report.worst_tensors if tensor.relative_error > gate.max_weight_error]
        for tensor in worst:
            yield (
                f"relative weight error of {tensor.name} is {tensor.relative_error:.4f},"
                f" above gate.max_weight_error {gate.max_weight_error:g}"
            )
    if gate.max_bits_per_weight is not None and report.bits_per_parameter > gate.max_bits_per_weight:
        yield (
            f"{report.bits_per_parameter:.3f} bits per parameter,"
            f" above gate.max_bits_per_weight {gate.max_bits_per_weight:g}"
        )


def _perplexity(report: AuditReport, limit: float) -> Iterator[str]:
    source, quantized = report.source_perplexity, report.quantized_perplexity
    if source is None or quantized is None:
        yield "gate.max_perplexity_increase is set, but there is no source model to compare with"
        return
    increase = quantized / source - 1
    # written so that a perplexity that is not a number breaks the limit too
    if not increase <= limit:
        yield (
            f"perplexity {source:.2f} → {quantized:.2f} (+{increase:.1%}),"
            f" above gate.max_perplexity_increase {limit:g}"
        )
