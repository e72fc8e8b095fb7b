"""A migrated recipe as YAML text with its comments, and as a file that is whole or not there.

PyYAML drops comments, so the layout is made here; every scalar is quoted unless recipes read it as the same
text, and the result is read back and compared before it leaves this module.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bwdeploy.errors import RecipeError, StoreError, argument_error
from bwdeploy.recipe.document import parse_document
from bwdeploy.recipe.scalars import ScalarError, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bwdeploy.migration.found import Found, Note
    from bwdeploy.recipe.places import KeyPath

EFFECTS = ("lost", "changed", "assumed", "no-effect", "renamed")
"""In the order of a report: what needs a look first."""
_WIDTH = 110
_INDENT = 2
_MAX_VALUE = 80
"""Signs of a value that a note shows."""


def recipe_text(found: Found, *, source: str, file: str) -> str:
    """The YAML of `found`; `source` names what was read, `file` the recipe for the commands at its top.

    Raises:
        ValueError: the text does not read back as the same data (a bug of ours).
    """
    lines = [
        f"# bwdeploy check {file}",
        f"# bwdeploy build {file} -o out",
        "#",
        *_comment(f"Migrated from {source}: {found.kind}. Nothing of this was run by bwdeploy."),
        *_mapping(found.recipe, (), found.comments),
        *_loss_report(found.notes),
    ]
    text = "\n".join(lines) + "\n"
    _prove(text, found.recipe)
    return text


def require_free(path: Path, *, force: bool) -> None:
    """Refuse a place where something is already, before any work is done.

    Raises:
        RecipeError: there is a directory, or a file and `force` is off.
    """
    if path.is_dir():
        raise argument_error(f"-o: {path} is a directory", f"write -o {path / 'recipe.yaml'}")
    if not force and (path.exists() or path.is_symlink()):
        raise argument_error(f"-o: {path} is there already", "choose another name, or add --force")


def write_recipe(text: str, path: Path, *, force: bool) -> None:
    """Write a recipe whole or not at all.

    Raises:
        RecipeError: something is there (see `require_free`).
        StoreError: it cannot be written.
    """
    require_free(path, force=force)
    try:
        _replace(path, text)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(f"{path} cannot be written: {reason}", hint="choose another place with -o") from None


def note_text(note: Note) -> str:
    """`lost: key = value: message. Hint.`, on one line whatever the source holds."""
    value = "" if note.value is None else f" = {_short(note.value)}"
    hint = f" {note.hint[:1].upper()}{note.hint[1:].rstrip('.')}." if note.hint else ""
    return one_line(f"{note.effect}: {note.key}{value}: {note.message.rstrip('.')}.{hint}")


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _prove(text: str, data: Mapping[str, Any]) -> None:
    try:
        same = parse_document(text).data == data
    except RecipeError as error:
        raise ValueError(f"the recipe's text does not parse: {error}") from error
    if not same:
        raise ValueError("the recipe's text does not read back as it was written")


def _mapping(data: Mapping[str, Any], path: KeyPath, comments: Mapping[KeyPath, str]) -> Iterator[str]:
    for key, value in data.items():
        yield from _entry(f"{_scalar(key)}:", value, (*path, key), comments)


def _entry(head: str, value: Any, path: KeyPath, comments: Mapping[KeyPath, str]) -> Iterator[str]:  # noqa: ANN401
    """`head` with its value; what is nested follows on lines of its own."""
    blanks = " " * (_INDENT * (len(path) - 1))
    comment = one_line(comments.get(path, ""))
    nested = bool(value) and (isinstance(value, dict) or _is_long(value, len(blanks + head)))
    line = f"{blanks}{head}" if nested else f"{blanks}{head} {_flow(value)}"
    if comment and len(f"{line} # {comment}") <= _WIDTH:
        line = f"{line} # {comment}"
    elif comment:
        yield from _comment(comment, indent=len(blanks))
    yield line
    if nested and isinstance(value, dict):
        yield from _mapping(value, path, comments)
    elif nested:
        yield from _items(value, path)


def _items(values: Sequence[Any], path: KeyPath) -> Iterator[str]:
    blanks = " " * (_INDENT * len(path))
    return (f"{blanks}- {_flow(value)}" for value in values)


def _is_long(value: Any, used: int) -> bool:  # noqa: ANN401 - JSON data
    return isinstance(value, list) and used + 1 + len(_flow(value)) > _WIDTH


def _flow(value: Any) -> str:  # noqa: ANN401 - JSON data
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:  # noqa: ANN401 - JSON data
    if not isinstance(value, str):
        return str(yaml.safe_dump(value, default_flow_style=True, width=float("inf"))).split("\n")[0]
    plain = (
        str(yaml.safe_dump(value, allow_unicode=True, width=float("inf")))
        .removesuffix("\n...\n")
        .rstrip("\n")
    )
    return (
        value
        if plain == value and _stays_text(value)
        else json.dumps(value, ensure_ascii=not value.isprintable())
    )


def _stays_text(text: str) -> bool:
    """Whether an unquoted scalar is this text to a recipe, also inside `[]` and `{}`."""
    if set(text) & set(",[]{}#"):
        return False
    try:
        return resolve(text) == text
    except ScalarError:
        return False


def _loss_report(notes: Sequence[Note]) -> Iterator[str]:
    if notes:
        yield "#"
        yield "# What did not come through as it was:"
    for note in sorted(notes, key=lambda note: EFFECTS.index(note.effect)):
        yield from _comment(note_text(note), hanging=2)


def _comment(text: str, *, indent: int = 0, hanging: int = 0) -> list[str]:
    from textwrap import wrap  # noqa: PLC0415 - one use

    start = " " * indent + "# "
    return wrap(
        one_line(text), _WIDTH, initial_indent=start, subsequent_indent=start + " " * hanging,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def one_line(text: str) -> str:
    """`text` with signs that are not printable as escapes: nothing may end a comment, or move a cursor."""
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)


def _short(value: Any) -> str:  # noqa: ANN401 - JSON data
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
