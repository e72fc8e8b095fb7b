"""YAML text to a small tree of nodes, from PyYAML's event stream (libyaml's parser where the wheel has it).

Refuses what a recipe has no use for and a stranger might abuse: tags, several documents, anchors that
contain themselves, keys that are not plain words, bottomless nesting. Values stay text here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from yaml import events as ev
from yaml.error import MarkedYAMLError, YAMLError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 40
MAX_NODES = 20_000
"""Of the text itself, and of the document with its aliases written out."""
_NOT_ALLOWED = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""Everything but YAML's printable characters."""
_STRING_TAG = "tag:yaml.org,2002:str"
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Only its scanner and parser are used; libyaml's is thirty times faster."""
_WHAT = "Remove the tag; quote a value to make it text"


class NodeError(Exception):
    """The text is not a YAML document that a recipe can be made of."""

    def __init__(self, message: str, *, hint: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message, self.hint, self.line, self.column = message, hint, line, column


class ScalarNode(NamedTuple):
    """A word as it was written."""

    line: int
    column: int
    text: str
    quoted: bool


class ListNode(NamedTuple):
    """A sequence."""

    line: int
    column: int
    items: list[Node]


class MapNode(NamedTuple):
    """A mapping; the same key may stand twice."""

    line: int
    column: int
    items: list[tuple[ScalarNode, Node]]


Node = ScalarNode | ListNode | MapNode


def compose(text: str) -> Node:
    """The tree of the only document in `text`.

    Raises:
        NodeError: not YAML, not one document, or one of the refused constructs.
    """
    events = _events(text)
    next(events)  # start of the stream
    first = next(events)
    if isinstance(first, ev.StreamEndEvent):
        raise NodeError(
            "the document is empty",
            hint="a recipe starts with `schema: 1`, a name and a model",
            line=1,
            column=1,
        )
    composer = _Composer(events)
    node = composer.node(next(events), depth=0)
    next(events)  # end of the document
    after = next(events)
    if not isinstance(after, ev.StreamEndEvent):
        raise _error(
            after,
            "a second YAML document starts here",
            "one file is one recipe; see matrix: for several builds",
        )
    return node


class _Composer:
    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.anchors: dict[str, Node | None] = {}
        self.count = 0

    def node(self, event: Any, *, depth: int) -> Node:  # noqa: ANN401 - PyYAML's events are untyped
        if isinstance(event, ev.AliasEvent):
            return self._alias(event)
        self.count += 1
        if self.count > MAX_NODES:
            raise _error(event, f"more than {MAX_NODES} values", "put long texts into files of their own")
        if depth > MAX_DEPTH:
            raise _error(event, f"nested deeper than {MAX_DEPTH} levels", "a recipe needs about five")
        if event.anchor:
            self.anchors[event.anchor] = None
        node = self._fresh(event, depth=depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def _fresh(self, event: Any, *, depth: int) -> Node:  # noqa: ANN401 - PyYAML's events are untyped
        tag = event.tag
        if tag and not (tag == _STRING_TAG and isinstance(event, ev.ScalarEvent)):
            raise _error(event, f"the YAML tag {_shown(tag)} is not allowed", _WHAT)
        if isinstance(event, ev.ScalarEvent):
            return _scalar(event, quoted=bool(tag) or not event.implicit[0])
        line, column = _spot(event)
        if isinstance(event, ev.SequenceStartEvent):
            sequence = ListNode(line=line, column=column, items=[])
            sequence.items.extend(
                self.node(item, depth=depth + 1) for item in self._until(ev.SequenceEndEvent)
            )
            return sequence
        mapping = MapNode(line=line, column=column, items=[])
        for key in self._until(ev.MappingEndEvent):
            word = self._key(key)
            mapping.items.append((word, _beside(word, self.node(next(self.events), depth=depth + 1))))
        return mapping

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self.events:
            if isinstance(event, end):
                return
            yield event

    def _key(self, event: Any) -> ScalarNode:  # noqa: ANN401 - PyYAML's events are untyped
        if isinstance(event, ev.AliasEvent) or not isinstance(event, ev.ScalarEvent):
            raise _error(event, "a key must be a plain word", "write `key: value`")
        if event.tag or event.anchor:
            raise _error(event, "a key must be a plain word without tag or anchor", "write `key: value`")
        if event.value == "<<" and event.implicit[0]:
            raise _error(
                event, "merge keys (<<) are not part of YAML 1.2", "use base: to build on another recipe"
            )
        return _scalar(event, quoted=True)

    def _alias(self, event: Any) -> Node:  # noqa: ANN401 - PyYAML's events are untyped
        name = event.anchor
        if name not in self.anchors:
            raise _error(
                event, f"the alias *{name} names no anchor above it", f"define it with &{name} first"
            )
        node = self.anchors[name]
        if node is None:
            raise _error(event, f"the anchor &{name} contains itself", "write the value out")
        return node


def _beside(key: ScalarNode, value: Node) -> Node:
    """The value; one that was left out stands where its key stands, not on a later line."""
    if isinstance(value, ScalarNode) and not value.text and not value.quoted:
        return ScalarNode(line=key.line, column=key.column, text="", quoted=False)
    return value


def _scalar(event: Any, *, quoted: bool) -> ScalarNode:  # noqa: ANN401 - PyYAML's events are untyped
    value: str = event.value
    if "\0" in value or (not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value)):
        raise _error(event, "a NUL character or half of a surrogate pair stands in this text", "remove it")
    line, column = _spot(event)
    return ScalarNode(line=line, column=column, text=value, quoted=quoted)


def _events(text: str) -> Iterator[Any]:
    # The expression is compiled for the few texts that have something to find.
    printable = text.replace("\n", "").replace("\t", "").isprintable()
    if not printable and (bad := re.search(_NOT_ALLOWED, text)):
        line, column = _line_and_column(text, bad.start())
        raise NodeError(
            f"the character U+{ord(bad[0]):04X} is not allowed in YAML",
            hint="remove it or write it as an escape in double quotes", line=line, column=column,
        )  # fmt: skip
    try:
        yield from yaml.parse(text, Loader=_LOADER)
    except MarkedYAMLError as error:
        raise _from_marked(error, text) from None
    except YAMLError as error:
        raise NodeError(
            f"not valid YAML: {error}", hint="compare with a shipped recipe", line=1, column=1
        ) from None


def _from_marked(error: MarkedYAMLError, text: str) -> NodeError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = str(error.problem or error.context or "syntax error")
    lines = text.split("\n")
    if line <= len(lines) and "\t" in lines[line - 1][: column + 1] and "token" in problem:
        return NodeError(
            "a tab stands where only spaces may indent", hint="indent with spaces", line=line, column=column
        )
    if "Unicode character escape" in problem:
        return NodeError(
            "half of a surrogate pair stands in this text",
            hint="write the whole character",
            line=line,
            column=column,
        )
    if "mapping values are not allowed" in problem:
        return NodeError(
            "a second `: ` stands in this value",
            hint="quote the whole value, or start a new line",
            line=line,
            column=column,
        )
    hint = "check indentation, quotes and brackets here and on the line above"
    return NodeError(
        f"not valid YAML: {problem}", hint=hint, line=min(line, text.count("\n") + 1), column=column
    )


def _error(event: Any, message: str, hint: str) -> NodeError:  # noqa: ANN401 - PyYAML's events are untyped
    line, column = _spot(event)
    return NodeError(message, hint=hint, line=line, column=column)


def _spot(event: Any) -> tuple[int, int]:  # noqa: ANN401 - PyYAML's events are untyped
    return event.start_mark.line + 1, event.start_mark.column + 1


def _shown(tag: object) -> str:
    return str(tag).replace("tag:yaml.org,2002:", "!!")[:80]


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - before.rfind("\n")
