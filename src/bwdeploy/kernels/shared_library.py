"""What a shared library needs from the system that loads it, read from its ELF headers.

64-bit little-endian ELF only (x86_64, aarch64): a linker of this machine has just written the file.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
_DYNAMIC, _VERSIONS_NEEDED = 6, 0x6FFFFFFE
_NEEDED = 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_VERSION = re.compile(r"([A-Z]+)_(\d+(?:\.\d+)*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLibrary:
    """What the loader will ask for."""

    needed: tuple[str, ...]
    """Names of libraries (NEEDED)."""
    versions: tuple[str, ...]
    """Symbol versions, for example `GLIBC_2.34`."""

    def highest(self, family: str) -> str:
        """The highest version of `GLIBC`, `GLIBCXX`, …; `0.0` when no symbol has one."""
        found = (_VERSION.fullmatch(version) for version in self.versions)
        numbers = [match[2] for match in found if match and match[1] == family]
        return max(numbers, key=lambda text: tuple(map(int, text.split("."))), default="0.0")


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    offset: int
    size: int
    link: int
    count: int
    """Entries, where the kind of section says so."""


def read_shared_library(path: Path) -> SharedLibrary:
    """Read the headers of `path`.

    Raises:
        ValueError: it is no such file.
    """
    content = path.read_bytes()
    if not content.startswith(_MAGIC):
        raise ValueError(f"{path} is no 64-bit little-endian ELF file")
    try:
        sections = list(_sections(content))
        needed = tuple(_needed(content, sections))
        versions = tuple(sorted(_versions(content, sections)))
    except (struct.error, IndexError) as error:
        raise ValueError(f"{path} is a damaged ELF file: {error}") from error
    return SharedLibrary(needed=needed, versions=versions)


def _sections(content: bytes) -> Iterator[_Section]:
    header = _HEADER.unpack_from(content)
    start, size, count = header[6], header[11], header[12]
    for index in range(count):
        _, kind, _, _, offset, length, link, info, _, _ = _SECTION.unpack_from(content, start + index * size)
        yield _Section(kind, offset, length, link, info)


def _needed(content: bytes, sections: list[_Section]) -> Iterator[str]:
    for section in sections:
        if section.kind == _DYNAMIC:
            texts = sections[section.link]
            for tag, value in struct.iter_unpack(
                "<qQ", content[section.offset : section.offset + section.size]
            ):
                if tag == _NEEDED:
                    yield _text(content, texts.offset + value)


def _versions(content: bytes, sections: list[_Section]) -> Iterator[str]:
    for section in sections:
        if section.kind != _VERSIONS_NEEDED:
            continue
        texts, file = sections[section.link], section.offset
        for _ in range(section.count):
            _, versions, _, first, following = struct.unpack_from("<HHIII", content, file)
            entry = file + first
            for _ in range(versions):
                _, _, _, name, to_next = struct.unpack_from("<IHHII", content, entry)
                yield _text(content, texts.offset + name)
                entry += to_next
            file += following


def _text(content: bytes, offset: int) -> str:
    return content[offset : content.index(b"\0", offset)].decode()
