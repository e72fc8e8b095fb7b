"""What a reader of an existing deployment returns: a recipe as data, with a reason beside each value.

Everything that does not come through as it was has a note.
The recipe is not checked here; the verb writes it down and checks it as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from bwdeploy.recipe.places import KeyPath

Effect = Literal["lost", "changed", "no-effect", "assumed", "renamed"]
"""lost: nothing in the recipe stands for it. changed: it has another default or meaning now. no-effect: it
never changed anything. assumed: the source does not say it. renamed: the same under another name."""
Backend = Literal["pytorch", "tensorrt"]


class Note(NamedTuple):
    """One line of the loss report."""

    effect: Effect
    key: str
    """As the source spells it, with its place, for example `build_config.max_batch_size`."""
    value: Any
    message: str
    hint: str = ""
    source: str = ""
    """Thread, document or upstream file that says so."""


class Wanted(NamedTuple):
    """What the user asked of a migration."""

    model: str | None = None
    """`model.source` of the recipe, where the deployment does not say it."""
    backend: Backend | None = None
    """None: as the deployment has it."""
    tensorrt_llm: str | None = None
    """The version to migrate to; None: the one of the deployment, where that can serve."""
    name: str | None = None
    """Of the recipe; None: from the name of what was read."""


class Found(NamedTuple):
    """A deployment, read."""

    kind: str
    """What it was, in words, for example `engine directory of TensorRT-LLM 1.2.1`."""
    recipe: dict[str, Any]
    """Sections and keys of a recipe, whole but for `model.source` where `needs_model`."""
    comments: dict[KeyPath, str]
    """Path of a value → why it is there, for a comment beside it."""
    notes: tuple[Note, ...]
    needs_model: bool = False
    """The deployment does not say which weights it was made from."""
    candidates: tuple[str, ...] = ()
    """Hub models of exactly this shape, when the source cannot be told."""
