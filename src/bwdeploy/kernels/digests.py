"""What an op is compiled from, and the digest that a measurement of it belongs to.

`#include "…"` is followed from the units and the binding, so that a shared header counts only for the ops
that use it. The digest leaves comments, white space and line breaks out: rewording a comment does not make
what was measured untrue.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from bwdeploy.kernels.ops import BINDING

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.kernels.ops import OpDeclaration

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_CONTINUED = re.compile(r"\\[ \t]*\n")
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
    |(?P<raw>(?:u8|[uUL])?R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)")
    |(?P<text>(?:u8|[uUL])?"(?:\\.|[^"\\\n])*"|(?:u8|[uUL])?'(?:\\.|[^'\\\n])+')
    |(?P<word>(?:\.?[0-9](?:[eEpP][+-]|'?[\w.])*|[A-Za-z_]\w*))
    |(?P<line>\n)
    |(?P<space>[^\S\n]+)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
_OPERATORS = frozenset("+-*/%&|^!=<>:.#")


def source_files(op: OpDeclaration) -> dict[str, Path]:
    """Path below `plugins/` → file, for each file of the tree that the op's units and binding are made of."""
    plugins = op.folder.parent
    names = {unit.source for unit in op.units} | {BINDING}
    found: dict[str, Path] = {}
    for name in names:
        found |= files_of_unit(f"{op.folder.name}/{name}", plugins=plugins)
    return dict(sorted(found.items()))


def files_of_unit(source: str, *, plugins: Path) -> dict[str, Path]:
    """Path below `plugins` → file, for a source and everything of the tree that it includes."""
    found: dict[str, Path] = {}
    pending = [plugins / source]
    while pending:
        file = pending.pop()
        name = file.relative_to(plugins).as_posix()
        if name not in found:
            found[name] = file
            pending += included_files(file, plugins=plugins)
    return dict(sorted(found.items()))


def included_files(file: Path, *, plugins: Path) -> list[Path]:
    """The files below `plugins` that a source includes in quotes, found as the compiler finds them."""
    root = plugins.resolve()
    found = []
    for name in _INCLUDE.findall(file.read_text(encoding="utf-8")):
        candidates = ((place / name).resolve() for place in (file.parent, plugins))
        below = [one for one in candidates if one.is_file() and one.is_relative_to(root)]
        found += [plugins / below[0].relative_to(root)] if below else []
    return found


def source_digest(op: OpDeclaration) -> str:
    """SHA-256 over the normalized sources of an op and over how its units are compiled."""
    digest = hashlib.sha256()
    units = [[unit.source, dict(sorted(unit.defines.items()))] for unit in op.units]
    digest.update(json.dumps([op.name, units], sort_keys=True).encode())
    for name, file in source_files(op).items():
        text = normalized(file.read_text(encoding="utf-8"))
        digest.update(f"\0{name}\0{len(text)}\0{text}".encode())
    return digest.hexdigest()


def normalized(source: str) -> str:
    """C++ without comments, with the least white space that keeps its tokens apart.

    Lines of the preprocessor stay lines, and a blank in them stays a blank: there it can mean something.
    """
    parts: list[str] = []
    code: list[str] = []
    for line in _token_lines(source):
        words = "".join(line).split()
        if words and words[0].startswith("#"):
            parts += [_closed_up(code), " ".join(words)]
            code = []
        else:
            code += [" ", *line]
    return "\n".join(part for part in (*parts, _closed_up(code)) if part)


def _token_lines(source: str) -> list[list[str]]:
    """The tokens of each line, with a blank for white space and comments between them."""
    lines: list[list[str]] = [[]]
    for match in _TOKEN.finditer(_CONTINUED.sub(" ", source)):
        if match["line"]:
            lines.append([])
        else:
            lines[-1].append(" " if match["comment"] or match["space"] else match[0])
    return lines


def _closed_up(tokens: list[str]) -> str:
    """Tokens with a blank only where two of them would otherwise become another token."""
    text, blank = "", False
    for piece in tokens:
        if piece == " ":
            blank = True
            continue
        text += (" " if blank and text and _would_merge(text[-1], piece[0]) else "") + piece
        blank = False
    return text


def _would_merge(left: str, right: str) -> bool:
    return (_is_word(left) and _is_word(right)) or (left in _OPERATORS and right in _OPERATORS)


def _is_word(sign: str) -> bool:
    return sign.isalnum() or sign in "_\"'"
