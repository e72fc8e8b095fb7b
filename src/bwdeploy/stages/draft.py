"""Stage `draft`: the EAGLE3 draft of the deployment, imported or trained, and held against its target.

The target is the checkpoint that will be served. What does not fit is measured here and judged each time, so
that a draft that cannot work stops the build with the likely cause. MTP has its draft in the checkpoint.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.jobs import Download, JobData
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.training_jobs import AuditDraft, DraftAudit, DraftTrainingResult, TrainDraft
from bwdeploy.recipe.schema import DraftTraining
from bwdeploy.stages.answers import ANSWERING, AnswersStage, eagle3_section, trained_draft
from bwdeploy.stages.checkpoint import checkpoint_stage
from bwdeploy.stages.source import link_model, local_path

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

FILES = "files"
"""Directory of the artifact that holds the draft itself."""
REPORT = "draft.json"
_LOG = logging.getLogger(__name__)
_PLACE = "speculative.draft"
_ANSWERS = AnswersStage.name


class DraftReport(JobData):
    """What is known of a draft beside its files."""

    audit: DraftAudit
    training: DraftTrainingResult | None = None
    """None for an imported draft."""


class DraftStage:
    """Imports or trains the draft."""

    name = "draft"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        section = recipe.speculative
        if section is None or not makes_draft(recipe):
            return None
        training = trained_draft(recipe)
        if training is not None:
            return _training_step(recipe, training, host)
        return _import_step(recipe, section.draft or "")

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        files, target = work.out / FILES, work.inputs[work.step.params["checkpoint"]]
        files.mkdir()
        training = _MADE_BY[work.step.params["kind"]](work, files)
        audit = work.run(AuditDraft(draft=files, target=target))
        report = DraftReport(audit=audit, training=training)
        (work.out / REPORT).write_text(report.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        lacking = [
            name
            for name in (REPORT, f"{FILES}/config.json", f"{FILES}/*.safetensors")
            if not any(out.glob(name))
        ]
        if lacking:
            raise ToolError(
                f"the draft has no {' and no '.join(lacking)}",
                hint="Name a draft that has them (config.json, weights as safetensors); of a trained one the "
                "log of the draft stage says more",
            )

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`."""
        del recipe  # whether a draft fits its model is no matter of limits
        said = [
            (one.severity, f"{one.check}: {one.message}. {one.hint}")
            for one in read_draft_report(out).audit.findings
        ]
        broken = [line for severity, line in said if severity == "error"]
        for line in (line for severity, line in said if severity == "warning"):
            _LOG.warning("the draft: %s", line)
        if broken:
            raise GateError(
                "the draft cannot work with this model:\n" + "\n".join(f"  - {line}" for line in broken),
                hint=f"The whole audit is in {out / REPORT}; name the draft that was trained for exactly this"
                " model, or train one (speculative.train)",
            )


def makes_draft(recipe: Recipe) -> bool:
    """Whether the build has a draft of its own: an EAGLE3 draft that the recipe names or trains."""
    section = eagle3_section(recipe)
    return section is not None and (section.draft is not None or section.train is not None)


def read_draft_report(out: Path) -> DraftReport:
    """The audit, and the training, of a draft artifact."""
    return DraftReport.model_validate_json((out / REPORT).read_text())


def _import_step(recipe: Recipe, source: str) -> Step:
    scheme, _, rest = source.partition("://")
    params: dict[str, Any] = {"checkpoint": checkpoint_stage(recipe)}
    sources: dict[str, Path] = {}
    if scheme == "hf":
        repo, _, revision = rest.partition("@")
        params |= {"kind": "hub", "repo": repo, "revision": revision}
        origin = f"download {repo} at {revision}"
    else:
        path = local_path(scheme, rest, place=_PLACE)
        params, sources = params | {"kind": "directory"}, {"draft": path}
        origin = f"link {path}"
    return Step(
        params=params,
        sources=sources,
        inputs=(params["checkpoint"],),
        tools=("torch", "transformers"),
        command=f"{origin} and hold it against the model",
    )


def _training_step(recipe: Recipe, training: DraftTraining, host: Host) -> Step:
    checkpoint = checkpoint_stage(recipe)
    return Step(
        params={
            "kind": "train",
            "checkpoint": checkpoint,
            "training": training.model_dump(mode="json", exclude=set(ANSWERING)),
            "device": host.device,
            "trust_remote_code": recipe.model.trust_remote_code,
        },
        inputs=(checkpoint, _ANSWERS),
        tools=("nvidia-modelopt", "torch", "transformers"),
        command=f"train an EAGLE3 draft, {training.steps} steps on {host.device}",
    )


def _download(work: Work, files: Path) -> None:
    params = work.step.params
    work.run(
        Download(
            repo=params["repo"],
            revision=params["revision"],
            trust_remote_code=False,  # a draft is loaded by code of TensorRT-LLM's own
            out=files,
            place=_PLACE,
        )
    )


def _link(work: Work, files: Path) -> None:
    link_model(work.step.sources["draft"], files, trust_remote_code=False, place=_PLACE)


def _train(work: Work, files: Path) -> DraftTrainingResult:
    params = work.step.params
    return work.run(
        TrainDraft(
            target=work.inputs[params["checkpoint"]],
            answers=work.inputs[_ANSWERS],
            out=files,
            # A section is strict: it takes a list for a tuple from JSON only.
            training=DraftTraining.model_validate_json(json.dumps(params["training"])),
            device=params["device"],
            trust_remote_code=params["trust_remote_code"],
            state=work.state,
        )
    )


_MADE_BY = {"hub": _download, "directory": _link, "train": _train}
