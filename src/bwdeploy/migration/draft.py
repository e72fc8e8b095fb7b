"""A recipe while it is put together: values with their reasons, notes on what did not come through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bwdeploy.migration.found import Note
    from bwdeploy.recipe.places import KeyPath

SECTIONS = ("schema", "name", "model", "quantize", "speculative", "engine", "layout", "serve")
"""In the order of a recipe."""


class RecipeDraft:
    """Collects the values, comments and notes of one migration."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.comments: dict[KeyPath, str] = {}
        self.notes: list[Note] = []

    def put(self, path: tuple[str, ...], value: Any, comment: str = "") -> None:  # noqa: ANN401 - JSON data
        """Set the value at `path`; what stands above it is made."""
        parent = self.data
        for word in path[:-1]:
            parent = parent.setdefault(word, {})
        parent[path[-1]] = value
        if comment:
            self.comments[path] = comment

    def get(self, path: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON data
        """The value at `path`, or None."""
        at: Any = self.data
        for word in path:
            at = at.get(word) if isinstance(at, dict) else None
        return at

    def note(self, *notes: Note) -> None:
        """Add lines to the loss report; one that stands there already is not repeated."""
        self.notes.extend(note for note in notes if note not in self.notes)

    def in_order(self, keys: Iterable[str]) -> dict[str, Any]:
        """The data with its sections in the order of `keys`."""
        return {key: self.data[key] for key in keys if key in self.data}
