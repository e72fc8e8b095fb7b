"""Stage `acceptance`: runs target and draft for real, counts what is accepted and chooses the draft length.

The artifact is the measurement and what follows from it; the recipe's limit is applied to it each time. The
draft length that `auto` stands for is read here by the engine stage.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import GateError, ToolError
from bwdeploy.pipeline.stage import Step
from bwdeploy.pipeline.training_jobs import DraftAcceptance, LengthAcceptance, MeasureDraft
from bwdeploy.planner.speed.draft_choice import BatchTimes, DraftChoice, choice_data, choose
from bwdeploy.planner.speed.step_costs import timed_cost
from bwdeploy.planner.speed.steps import DEAD_DRAFT
from bwdeploy.recipe.schema import DraftMeasurement
from bwdeploy.stages.checkpoint import checkpoint_layout, checkpoint_stage
from bwdeploy.stages.datasets import dataset_sources, found_dataset, placed_dataset
from bwdeploy.stages.draft import FILES, makes_draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bwdeploy.pipeline.host import Host
    from bwdeploy.pipeline.stage import Work
    from bwdeploy.recipe.schema import Recipe

MEASUREMENT = "acceptance.json"
CHOICE = "choice.json"
_TEXT = "prompts"
_LOG = logging.getLogger(__name__)
_CAUSES = (
    "Likely: trained for another revision, tokenizer or chat template, on other layers than it is given, or"
    " not long enough; draft.json of the stage draft lists what was compared"
)


class AcceptanceStage:
    """Measures the draft, when the recipe asks for it or leaves the length to the measurement."""

    name = "acceptance"
    version = 2

    def plan_step(self, recipe: Recipe, host: Host) -> Step | None:
        """See `Stage.plan_step`."""
        section = recipe.speculative
        if section is None or not measures(recipe):
            return None
        measurement = section.measure or DraftMeasurement()
        checkpoint = checkpoint_stage(recipe)
        return Step(
            params={
                "method": section.method,
                "checkpoint": checkpoint,
                "measurement": measurement.model_dump(mode="json")
                | {"prompts": placed_dataset(measurement.prompts)},
                "device": host.device,
                "trust_remote_code": recipe.model.trust_remote_code,
            },
            sources=dataset_sources(measurement.prompts, name=_TEXT),
            inputs=(checkpoint, *(("draft",) if makes_draft(recipe) else ())),
            tools=("torch", "transformers"),
            command=f"measure the draft, 1 to {measurement.max_draft_len} tokens, on {host.device}",
        )

    def run(self, work: Work) -> None:
        """See `Stage.run`."""
        params, draft = work.step.params, work.inputs.get("draft")
        prompts = found_dataset(params["measurement"]["prompts"], work.step.sources, name=_TEXT)
        measurement = params["measurement"] | {"prompts": prompts}
        acceptance = work.run(
            MeasureDraft(
                method=params["method"],
                target=work.inputs[params["checkpoint"]],
                draft=draft / FILES if draft is not None else None,
                # A section is strict: it takes a list for a tuple from JSON only.
                measurement=DraftMeasurement.model_validate_json(json.dumps(measurement)),
                device=params["device"],
                trust_remote_code=params["trust_remote_code"],
            )
        )
        (work.out / MEASUREMENT).write_text(acceptance.model_dump_json(indent=1))
        (work.out / CHOICE).write_text(json.dumps(choice_data(_choice(acceptance)), indent=1))

    def verify(self, out: Path) -> None:
        """See `Stage.verify`."""
        if not (out / MEASUREMENT).is_file() or not (out / CHOICE).is_file():
            raise ToolError(
                "the draft's measurement wrote no result", hint="The log of the acceptance stage says why"
            )

    def judge(self, recipe: Recipe, out: Path) -> None:
        """See `Stage.judge`."""
        acceptance, chosen = read_acceptance(out), chosen_length(out)
        broken = list(broken_limits(recipe, acceptance, chosen))
        if broken:
            raise GateError(
                "the draft does not pass:\n" + "\n".join(f"  - {line}" for line in broken), hint=_CAUSES
            )
        if recipe.speculative is not None and recipe.speculative.draft_len == "auto" and chosen == 0:
            _LOG.warning(
                "by the measurement no draft length is faster than none: the engine is written without drafts"
            )


def measures(recipe: Recipe) -> bool:
    """Whether the build measures a draft that it has, or the target's own prediction layers."""
    section = recipe.speculative
    if section is None or not section.measured or checkpoint_layout(recipe) != "unified":
        return False
    return section.method == "mtp" or makes_draft(recipe)


def read_acceptance(out: Path) -> DraftAcceptance:
    """The measurement of an acceptance artifact."""
    return DraftAcceptance.model_validate_json((out / MEASUREMENT).read_text())


def read_choice(out: Path) -> dict[str, Any]:
    """What was chosen from it: `planner.speed.draft_choice.choice_data`."""
    choice: dict[str, Any] = json.loads((out / CHOICE).read_text())
    return choice


def chosen_length(out: Path) -> int:
    """The draft length that pays at the smallest batches; 0 when drafting never pays."""
    return int(read_choice(out)["draft_len"])


def chosen_schedule(out: Path) -> dict[int, int]:
    """Batch size from which on → draft length."""
    return {int(size): int(length) for size, length in read_choice(out)["draft_len_schedule"].items()}


def choice_of(acceptance: DraftAcceptance) -> DraftChoice:
    """The draft lengths that pay, by greedy acceptance over all workloads and the timings of whole steps.

    Raises:
        ValueError: the timings allow no choice.
    """
    return choose(
        {one.draft_len: one.length.value for one in acceptance.overall},
        [BatchTimes(one.batch_size, {0: one.target_ms, **one.step_ms}) for one in acceptance.timings],
        timed_cost,
    )


def broken_limits(recipe: Recipe, acceptance: DraftAcceptance, chosen: int) -> Iterator[str]:
    """Each reason to refuse the draft, in words.

    A draft is refused only when the whole interval lies below the limit; when the limit lies inside it, the
    recipe's gate decides.
    """
    longest = max(acceptance.overall, key=lambda one: one.draft_len)
    if longest.length.high < DEAD_DRAFT:
        yield (
            f"{longest.length.value:.2f} tokens gained in a step that drafts {longest.draft_len}"
            f" ({_interval(longest)}): next to nothing is accepted"
        )
    limit, said = recipe.gate.min_acceptance_length, recipe.speculative and recipe.speculative.draft_len
    if limit is None:
        return
    wanted = said if isinstance(said, int) else chosen
    at = min(acceptance.overall, key=lambda one: abs(one.draft_len - (wanted or longest.draft_len)))
    fails = at.length.high < limit
    if fails or (at.length.low < limit and recipe.gate.inconclusive == "fail"):
        yield (
            f"{at.length.value:.2f} tokens gained in a step that drafts {at.draft_len} ({_interval(at)}),"
            f" {'below' if fails else 'not surely above'} gate.min_acceptance_length {limit:g}"
        )


def _interval(one: LengthAcceptance) -> str:
    return f"95 % interval {one.length.low:.2f} to {one.length.high:.2f}"


def _choice(acceptance: DraftAcceptance) -> DraftChoice:
    try:
        return choice_of(acceptance)
    except ValueError as error:
        raise ToolError(
            f"the measured times allow no choice of a draft length: {error}",
            hint="Measure on a machine that does nothing else, or set speculative.draft_len to a number",
        ) from error
