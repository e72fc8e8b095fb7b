"""YAML text to plain JSON-able data plus the place of every key and value.

Built on PyYAML's event stream: no object is ever constructed from a tag, an alias is expanded under
a limit, and every input, whatever its bytes, ends in data or in findings. What the keys mean is not known
here (see `load`).
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.nodes import MAX_NODES, ListNode, MapNode, Node, NodeError, ScalarNode, compose
from bwdeploy.recipe.places import KeyPath, Place, Places, dotted
from bwdeploy.recipe.scalars import ScalarError, resolve

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1_000_000


class Document(NamedTuple):
    """One YAML document."""

    data: Any
    places: Places
    text: str


def read_document(file: Path) -> Document:
    """Read and parse one recipe file.

    Raises:
        RecipeError: it cannot be read, is not UTF-8 text, is not YAML, or breaks a limit.
    """
    return parse_document(_read_text(file), file=str(file))


def parse_document(text: str, *, file: str = "", option: str = "") -> Document:
    """Parse one YAML document; `file` or `option` says where the text comes from.

    Raises:
        RecipeError: it is not one YAML document of plain data.
    """
    origin = Place(file=file, option=option)
    try:
        node = compose(text)
    except NodeError as error:
        raise RecipeError((_syntax_finding(origin, error),)) from None
    builder = _Builder(origin)
    data = builder.plain(node, ())
    if builder.findings:
        raise RecipeError(tuple(builder.findings))
    return Document(data, Places(builder.keys, builder.values), text)


def _syntax_finding(origin: Place, error: NodeError) -> Finding:
    return Finding(
        rule="recipe-yaml-syntax",
        severity="error",
        path="",
        message=error.message + (f" (given by {origin.option})" if origin.option else ""),
        hint=error.hint,
        file=origin.file,
        line=error.line if origin.file else 0,
        column=error.column if origin.file else 0,
    )


class _TooManyNodesError(Exception):
    """Aliases multiply the document beyond the limit."""


class _Builder:
    """Turns nodes into data, notes the places, collects what is wrong."""

    def __init__(self, origin: Place) -> None:
        self.origin = origin
        self.keys: dict[KeyPath, Place] = {}
        self.values: dict[KeyPath, Place] = {}
        self.findings: list[Finding] = []

    def plain(self, node: Node, path: KeyPath) -> Any:  # noqa: ANN401 - JSON data has no narrower type
        try:
            return self._value(node, path)
        except _TooManyNodesError:
            self._report(
                "recipe-yaml-limit",
                path,
                node,
                f"the aliases of this document expand to more than {MAX_NODES} values",
                "write the values out, or use base: for what several recipes share",
            )
            return None

    def _value(self, node: Node, path: KeyPath) -> Any:  # noqa: ANN401 - JSON data has no narrower type
        if len(self.values) >= MAX_NODES:
            raise _TooManyNodesError
        self.values[path] = self._place(node)
        if isinstance(node, MapNode):
            return self._mapping(node, path)
        if isinstance(node, ListNode):
            return [self._value(item, (*path, index)) for index, item in enumerate(node.items)]
        return self._scalar(node, path)

    def _mapping(self, node: MapNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, ScalarNode] = {}
        for key, value in node.items:
            below = (*path, key.text)
            if key.text in first:
                self._report(
                    "recipe-duplicate-key",
                    below,
                    key,
                    f"this key stands twice, on line {first[key.text].line} and on line {key.line}",
                    "keep one of the two",
                )
                continue
            first[key.text] = key
            self.keys[below] = self._place(key)
            data[key.text] = self._value(value, below)
        return data

    def _scalar(self, node: ScalarNode, path: KeyPath) -> str | int | float | bool | None:
        if node.quoted:
            return node.text
        try:
            return resolve(node.text)
        except ScalarError as error:
            self._report("recipe-yaml-number", path, node, str(error), "write a smaller, finite number")
            return None

    def _place(self, node: Node) -> Place:
        text = node.text if isinstance(node, ScalarNode) else ""
        if not self.origin.file:
            return Place(text=text, option=self.origin.option)
        return Place(file=self.origin.file, line=node.line, column=node.column, text=text)

    def _report(self, rule: str, path: KeyPath, node: Node, message: str, hint: str) -> None:
        place = self._place(node)
        self.findings.append(
            Finding(
                rule=rule,
                severity="error",
                path=dotted(path),
                message=message + (f" (given by {place.option})" if place.option else ""),
                hint=hint,
                file=place.file,
                line=place.line,
                column=place.column,
            )
        )


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise RecipeError((_unreadable(file, error),)) from None
    if len(raw) > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES} bytes"
        raise RecipeError((_file_finding(file, message, "a recipe is a few kB; is this the right file"),))
    try:
        return raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 text: byte 0x{raw[error.start]:02x} on line {line}"
        raise RecipeError((_file_finding(file, message, "save it as UTF-8", line=line),)) from None


def _unreadable(file: Path, error: Exception) -> Finding:
    if isinstance(error, IsADirectoryError):
        return _file_finding(file, "this is a directory, not a recipe", "name a .yaml file inside it")
    if isinstance(error, FileNotFoundError):
        near = _nearest_file(file)
        hint = (
            f"did you mean {near}"
            if near
            else "check the path; `bwdeploy recipes list` shows what is shipped"
        )
        return _file_finding(file, "there is no such file", hint)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _file_finding(file, f"the file cannot be read: {reason}", "check the path and its permissions")


def _nearest_file(file: Path) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - only on the way to an error

    try:
        names = [entry.name for entry in file.parent.iterdir() if entry.suffix in {".yaml", ".yml"}]
    except OSError:
        return ""
    near = get_close_matches(file.name, names, n=1)
    return str(file.parent / near[0]) if near else ""


def _file_finding(file: Path, message: str, hint: str, *, line: int = 0) -> Finding:
    name = str(file).replace("\x00", "\\0")
    return Finding(
        rule="recipe-file", severity="error", path="", message=message, hint=hint,
        file=name, line=line, column=1 if line else 0,
    )  # fmt: skip
