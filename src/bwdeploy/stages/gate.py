"""Stage `gate`: audits the checkpoint, compares it with its source, and stops the build when it is not good.

The artifact is the measurement; the recipe's limits are applied to it each time, so that changing a limit
never repeats the measurement. A checkpoint that the audit refuses is not run: no figure could save it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.jobs import Audit, AuditReport, ProgramNeed
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.training_jobs import AccuracyReport, CompareAccuracy
from bwdeploy.stages.checkpoint import checkpoint_layout, checkpoint_stage, has_reference
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset
from bwdeploy.stages.gate_verdicts import broken_verdicts, perplexity_of, text_limits, verdicts_of
from bwdeploy.stages.task_files import found_tasks, placed_tasks, task_sources
from bwdeploy.tools.lm_eval import LM_EVAL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Gate, Recipe

REPORT = "audit.json"
ACCURACY = "accuracy.json"
_MORE_SAMPLES = (
    "compare on more samples (gate.evaluation.samples, or more questions of a task) or, knowingly,"
    " set gate.inconclusive: pass"
)
_OF_TASKS = ("datasets", LM_EVAL)
RequestT = TypeVar("RequestT", Audit, CompareAccuracy)


class GateStage:
    """Measures and judges the checkpoint."""

    name = "gate"
    version = 2

    def plan_step(self, recipe: Recipe, host: Host) -> Step:
        """See `Stage.plan_step`.

        Raises:
            RecipeError: a task file cannot be used.
        """
        evaluation, tasks = recipe.gate.evaluation, recipe.gate.tasks
        checkpoint, layout = checkpoint_stage(recipe), checkpoint_layout(recipe)
        original = _original(reference=has_reference(recipe))
        need = ProgramNeed(program=LM_EVAL, tensorrt_llm="", gpus=0) if tasks else None
        return Step(
            params={
                **({} if layout == "unified" else {"layout": layout}),
                "checkpoint": checkpoint,
                "compare": compares(recipe),
                **({"reference": True} if has_reference(recipe) else {}),
                "format": recipe.quantize.format if not recipe.quantize.overrides else None,
                "kv_cache": recipe.quantize.kv_cache,
                "evaluation": evaluation.model_dump(mode="json")
                | {"dataset": placed_dataset(evaluation.dataset)},
                "tasks": placed_tasks(tasks),
                "device": host.device,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
            sources=dataset_sources(evaluation.dataset, name="evaluation") | task_sources(tasks),
            inputs=tuple(dict.fromkeys((checkpoint, original))),
            tools=("torch", "transformers", *(_OF_TASKS if tasks else ())),
            program=need,
            command=f"audit the checkpoint and compare it with its source{_asked(recipe)} on {host.device}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params = dict(work.step.params)
        placed = params["evaluation"]["dataset"]
        params["evaluation"] = params["evaluation"] | {
            "dataset": found_dataset(placed, work.step.sources, name="evaluation")
        }
        audit = _audit(work, params)
        if params["compare"] and not _is_refused(audit):
            accuracy = _compare(work, params)
            audit = with_perplexities(audit, accuracy)
            (work.out / ACCURACY).write_text(accuracy.model_dump_json(indent=1))
        (work.out / REPORT).write_text(audit.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        if not (out / REPORT).is_file():
            raise ToolError("the audit wrote no report", hint="The log of the gate stage says why")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`."""
        audit, accuracy = read_report(out), read_accuracy(out)
        refused = list(broken_limits(audit, recipe.gate))
        broken = [*refused, *_broken_comparison(audit, accuracy, recipe.gate)]
        if broken:
            undecided = not refused and accuracy is not None and not _fails(accuracy, recipe.gate)
            hint = _MORE_SAMPLES if undecided else _other_checkpoint(recipe)
            measured = out / (REPORT if accuracy is None else ACCURACY)
            raise GateError(
                "the checkpoint does not pass the gate:\n" + "\n".join(f"  - {line}" for line in broken),
                hint=f"The whole measurement is in {measured}; {hint}",
            )


def compares(recipe: Recipe) -> bool:
    """Whether there is an unquantized model, or another layout of the same one, to compare with."""
    return (
        recipe.quantize.method != "prequantized"
        or checkpoint_layout(recipe) == "tensorrt_llm"
        or has_reference(recipe)
    )


def read_report(out: Path) -> AuditReport:
    """The audit of a gate artifact."""
    return AuditReport.model_validate_json((out / REPORT).read_text())


def read_accuracy(out: Path) -> AccuracyReport | None:
    """The comparison of a gate artifact; None when nothing was compared."""
    path = out / ACCURACY
    return AccuracyReport.model_validate_json(path.read_text()) if path.is_file() else None


def broken_limits(report: AuditReport, gate: Gate) -> Iterator[str]:
    """Each reason of the audit to refuse the checkpoint, in words."""
    for finding in report.findings:
        if finding.severity == "error":
            yield f"{finding.check}: {finding.message}"
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


def with_perplexities(audit: AuditReport, accuracy: AccuracyReport) -> AuditReport:
    """The audit with what the comparison found: perplexities of the text, or why there are none."""
    if accuracy.text is None:
        return audit.model_copy(update={"findings": (*audit.findings, *accuracy.findings)})
    text = accuracy.text
    likelihoods = text.negative_log_likelihood
    return audit.model_copy(
        update={
            "findings": (*audit.findings, *accuracy.findings),
            "source_perplexity": perplexity_of(likelihoods.source),
            "quantized_perplexity": perplexity_of(likelihoods.checkpoint),
            "evaluated_tokens": len(likelihoods.source) * text.tokens_per_sequence,
            "activations": text.activations,
        }
    )


def _fails(accuracy: AccuracyReport, gate: Gate) -> bool:
    return any(figure.judgement.verdict == "fail" for figure in verdicts_of(accuracy, gate))


def _other_checkpoint(recipe: Recipe) -> str:
    if not recipe.quantize.quantizes:
        return "take another checkpoint, or quantize the original model with a recipe of your own"
    return "choose a milder format, more calibration data, training (qat, qad) or, knowingly, another limit"


def _asked(recipe: Recipe) -> str:
    count = len(recipe.gate.tasks)
    return f", also on {count} task{'s' if count > 1 else ''}," if count else ""


def _broken_comparison(audit: AuditReport, accuracy: AccuracyReport | None, gate: Gate) -> Iterator[str]:
    """Each reason of the comparison; none where the audit has refused the checkpoint already."""
    if accuracy is not None:
        yield from broken_verdicts(accuracy, gate)
    elif not _is_refused(audit):
        yield from (
            f"{key} is set, but there is no source model to compare with" for key in text_limits(gate)
        )


def _is_refused(audit: AuditReport) -> bool:
    return any(finding.severity == "error" for finding in audit.findings)


def _original(*, reference: bool) -> str:
    """The stage whose artifact the checkpoint is compared with."""
    return "reference" if reference else "source"


def _audit(work: Work, params: dict[str, Any]) -> AuditReport:
    """The audit; it runs the model itself only where there is nothing to compare it with.

    A reference is no measure of the files: whoever made the checkpoint may have trained or folded any weight.
    """
    changes: dict[str, Any] = {"source": None}
    if params["compare"]:
        source = None if "reference" in params else work.inputs["source"]
        changes = {"source": source, "evaluation": None}
    return work.run(_request(Audit, params | changes, work))


def _compare(work: Work, params: dict[str, Any]) -> AccuracyReport:
    tasks = found_tasks(params["tasks"], work.step.sources, scratch=work.scratch)
    source = work.inputs[_original(reference="reference" in params)]
    return work.run(_request(CompareAccuracy, params | {"source": source, "tasks": tasks}, work))


def _request(kind: type[RequestT], params: dict[str, Any], work: Work) -> RequestT:
    """A request of this kind: what of `params` it takes, and the checkpoint."""
    taken = {name: value for name, value in params.items() if name in kind.model_fields}
    return kind.model_validate(taken | {"checkpoint": work.inputs[params["checkpoint"]]})
