"""What can be wrong with a model's files: one problem, and the error that carries it inside this room."""

from __future__ import annotations

from typing import NamedTuple


class ModelProblem(NamedTuple):
    """Why a configuration cannot be used."""

    kind: str
    """unreadable, too-large, not-json, missing-field, impossible-value, not-a-language-model or
    unknown-architecture."""
    field: str
    """The key of the configuration, empty for the whole file."""
    message: str
    hint: str


class ShapeError(Exception):
    """A configuration, or a file beside it, that gives no shape; never leaves `describe_model`."""

    def __init__(self, field: str, message: str, hint: str, *, kind: str = "impossible-value") -> None:
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.message = message
        self.hint = hint

    @property
    def problem(self) -> ModelProblem:
        """The same as data."""
        return ModelProblem(self.kind, self.field, self.message, self.hint)
