"""The choice of a draft length from files, without a model: `draft measure --acceptance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bwdeploy.errors import GateError, argument_error
from bwdeploy.estimate.draft_tables import read_acceptance_file, read_timings_file
from bwdeploy.planner.speed.draft_choice import choose, choose_by
from bwdeploy.planner.speed.steps import DEAD_DRAFT, StepModel

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bwdeploy.planner.speed.draft_choice import DraftChoice

_LEAST_MS, _MOST_MS = 1e-6, 1e7


def choice_from_files(
    acceptance: Path, t0: float | None, delta: float | None, timings: Path | None
) -> DraftChoice:
    """The choice of `draft measure --acceptance`, by a step model that is given or fitted to timings.

    Raises:
        RecipeError: a file or a time is wrong, or none is given.
        GateError: hardly anything is accepted.
    """
    table = read_acceptance_file(acceptance)
    _tell_unused(acceptance, table.unused)
    _refuse_dead_draft(acceptance, table.lengths)
    if timings is None:
        return choose_by(
            table.lengths,
            StepModel(_milliseconds("--t0", t0, least=_LEAST_MS), _milliseconds("--delta", delta, least=0)),
        )
    if (t0, delta) != (None, None):
        typer.echo(f"note: --t0 and --delta are not used: {timings} has measured steps", err=True)
    read = read_timings_file(timings)
    _tell_unused(timings, read.unused)
    try:
        return choose(table.lengths, read.batches)
    except ValueError as error:
        raise argument_error(
            f"--timings: {timings}: {error}", "Look at the timings of the longest drafts"
        ) from error


def _milliseconds(option: str, value: float | None, *, least: float) -> float:
    if value is None:
        raise argument_error(
            f"{option} is missing: --acceptance alone does not say what a step costs",
            "Give --t0 MS and --delta MS, or --timings FILE",
        )
    if not least <= value <= _MOST_MS:
        raise argument_error(
            f"{option} {value:g}: no such time", f"Give milliseconds from {least:g} to {_MOST_MS:g}"
        )
    return value


def _refuse_dead_draft(file: Path, lengths: Mapping[int, float]) -> None:
    """An acceptance that low comes from a draft that does not fit its model, not from its length."""
    longest = max(lengths)
    if lengths[longest] < DEAD_DRAFT:
        raise GateError(
            f"{file}: {lengths[longest]:g} tokens gained in a step that drafts {longest}: next to nothing is"
            " accepted",
            hint="Likely: trained for another revision, tokenizer or chat template of the model, or on other"
            " layers than it is given; no draft length helps",
        )


def _tell_unused(file: Path, names: tuple[str, ...]) -> None:
    if names:
        typer.echo(f"note: {file}: not used: {', '.join(names)}", err=True)
