"""Short names of kernels: `_ZN8bwdeploy4normIfLi8EEEv…` → `norm<float, 8>`.

Reads as much of the Itanium C++ ABI as names of kernels use (https://itanium-cxx-abi.github.io/cxx-abi/abi.html,
"Mangling"): namespaces, template arguments that are types, numbers or enumerators. Any other name comes back
as it is; nothing depends on it but people.
"""

from __future__ import annotations

import re

_BUILTIN = {
    "v": "void", "b": "bool", "c": "char", "a": "signed char", "h": "unsigned char", "s": "short",
    "t": "unsigned short", "i": "int", "j": "unsigned", "l": "long", "m": "unsigned long", "f": "float",
    "d": "double",
}  # fmt: skip
_LENGTH = re.compile(r"L?(\d+)")
_SUBSTITUTION = re.compile(r"S[0-9A-Z]*_|St")
_LITERAL = re.compile(r"(n?)(\d+)E")
_HIDDEN = "_GLOBAL__N_"


def short_name(mangled: str) -> str:
    """Function and template arguments without namespaces and parameters."""
    if not mangled.startswith("_Z"):
        return mangled
    try:
        return _Reader(mangled[2:]).name()
    except ValueError:
        return mangled


class _Reader:
    """Reads from the left; ValueError where it meets what it does not know."""

    def __init__(self, text: str) -> None:
        self._text = text

    def name(self) -> str:
        """A plain or nested name with its template arguments: the last part of it."""
        nested = self._take("N")
        last = ""
        while not (nested and self._take("E")):
            if self._text.startswith("I"):
                last += self._template_arguments()
            elif found := _SUBSTITUTION.match(self._text):
                self._skip(found.end())
            else:
                last = self._identifier()
            if not nested and not self._text.startswith("I"):
                break
        if not last:
            raise ValueError(self._text)
        return last

    def _template_arguments(self) -> str:
        self._take("I")
        arguments: list[str] = []
        while not self._take("E"):
            if self._take("J"):  # an argument pack
                while not self._take("E"):
                    arguments.append(self._argument())
            else:
                arguments.append(self._argument())
        return f"<{', '.join(arguments)}>"

    def _argument(self) -> str:
        if not self._take("L"):
            return self._type()
        kind = self._type()
        found = _LITERAL.match(self._text)
        if found is None:
            raise ValueError(self._text)
        self._skip(found.end())
        if kind == "bool":
            return "true" if found[2] == "1" else "false"
        return ("-" if found[1] else "") + found[2]

    def _type(self) -> str:
        for sign, suffix in (("P", "*"), ("K", " const")):
            if self._take(sign):
                return self._type() + suffix
        if self._text[:1] in _BUILTIN:
            builtin = _BUILTIN[self._text[0]]
            self._skip(1)
            return builtin
        if self._text[:1].isdigit() or self._text.startswith("N"):
            return self.name()
        raise ValueError(self._text)

    def _identifier(self) -> str:
        found = _LENGTH.match(self._text)
        if found is None or found.end() + int(found[1]) > len(self._text):
            raise ValueError(self._text)
        self._skip(found.end())
        identifier = self._text[: int(found[1])]
        self._skip(len(identifier))
        return "" if identifier.startswith(_HIDDEN) else identifier

    def _take(self, sign: str) -> bool:
        found = self._text.startswith(sign)
        if found:
            self._skip(len(sign))
        elif not self._text:
            raise ValueError("the name ends too early")
        return found

    def _skip(self, count: int) -> None:
        self._text = self._text[count:]
