"""Stage `answers`: what a draft learns from, the answers of the very checkpoint that will be served.

They take longer than the training where the model is large, and depend on less: another length of training,
another draft, each width of a sweep learn from the same ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bwdeploy.errors import ToolError
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.training_jobs import MATERIAL, AnswerPrompts, AnswersResult
from bwdeploy.recipe.schema import DraftTraining
from bwdeploy.stages.checkpoint import checkpoint_stage
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe, Speculative

REPORT: Final = "answers.json"
_TEXT = "prompts"
"""Name of the prompts among the sources of a step."""
ANSWERING: Final = (
    "data",
    "answers",
    "prompts",
    "answers_per_prompt",
    "answer_tokens",
    "temperature",
    "seq_len",
)
"""Of the training's section: what says which prompts are answered, and how."""
_FIELDS: Final = (*ANSWERING, "gpus", "seed")


class AnswersStage:
    """Lets the checkpoint answer the prompts of a draft's training."""

    name = "answers"
    version = 1

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        training = trained_draft(recipe)
        if training is None:
            return None
        checkpoint = checkpoint_stage(recipe)
        section = training.model_dump(mode="json", include=set(_FIELDS))
        return Step(
            params={
                "checkpoint": checkpoint,
                "training": section | {"data": placed_dataset(training.data)},
                "device": host.device,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
            sources=dataset_sources(training.data, name=_TEXT),
            inputs=(checkpoint,),
            tools=("torch", "transformers"),
            command=f"answer {training.prompts:,} prompts for the draft on {host.device}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params = work.step.params
        data = found_dataset(params["training"]["data"], work.step.sources, name=_TEXT)
        result = work.run(
            AnswerPrompts(
                target=work.inputs[params["checkpoint"]],
                out=work.out,
                # A section is strict: it takes a list for a tuple from JSON only.
                training=DraftTraining.model_validate_json(json.dumps(params["training"] | {"data": data})),
                device=params["device"],
                trust_remote_code=params["trust_remote_code"],
                state=work.state,
            )
        )
        (work.out / REPORT).write_text(result.model_dump_json(indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        if not (out / MATERIAL).is_file():
            raise ToolError(f"the answers have no {MATERIAL}", hint="The log of the answers stage says more")

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`."""
        del recipe, out  # whatever the checkpoint answers is what the draft has to learn


def read_answers_report(out: Path) -> AnswersResult:
    """What is known of the answers in an artifact."""
    return AnswersResult.model_validate_json((out / REPORT).read_text())


def eagle3_section(recipe: Recipe) -> Speculative | None:
    """The recipe's section on an EAGLE3 draft that the build could make; None when there is none."""
    section = recipe.speculative
    if section is None or section.method != "eagle3" or recipe.engine.backend != "pytorch":
        return None
    return section


def trained_draft(recipe: Recipe) -> DraftTraining | None:
    """How the build trains a draft; None when it does not."""
    section = eagle3_section(recipe)
    return section.train if section else None
