"""What a migration lost, changed and assumed, for people and for programs (`migrate --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.migration.writing import EFFECTS, note_text
from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bwdeploy.migration.found import Note

_TITLES = {
    "lost": "lost: nothing in the recipe stands for it",
    "changed": "changed: another default or meaning",
    "assumed": "assumed: the deployment does not say it",
    "no-effect": "no effect: left out",
    "renamed": "renamed",
}


def notes_text(notes: Sequence[Note]) -> str:
    """The loss report, grouped; one line says so when there is nothing."""
    return "\n".join(_lines(notes)) or "everything came through as it was"


def notes_json(notes: Sequence[Note]) -> list[dict[str, Any]]:
    """One object for each note."""
    return [note._asdict() for note in notes]


def _lines(notes: Sequence[Note]) -> Iterator[str]:
    for effect in EFFECTS:
        of_this = [note for note in notes if note.effect == effect]
        if of_this:
            yield _TITLES[effect]
        for note in of_this:
            text = note_text(note).removeprefix(f"{effect}: ")
            source = f" [{note.source}]" if note.source else ""
            yield from wrapped(f"{text}{source}", indent=2, hanging=4)
