"""Writes the smallest ELF file that has what a loader looks at first: NEEDED entries and symbol versions."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STRTAB, _DYNAMIC, _VERNEED = 3, 6, 0x6FFFFFFE


def shared_library(needed: Sequence[str], versions: Mapping[str, Sequence[str]]) -> bytes:
    """A file with these NEEDED entries and, for each library, these versions."""
    texts = b"\0"
    offsets: dict[str, int] = {}
    for text in (*needed, *versions, *(one for several in versions.values() for one in several)):
        offsets.setdefault(text, len(texts))
        if offsets[text] == len(texts):
            texts += text.encode() + b"\0"
    dynamic = b"".join(struct.pack("<qQ", 1, offsets[name]) for name in needed) + struct.pack("<qQ", 0, 0)
    verneed = b""
    for index, (library, names) in enumerate(versions.items(), start=1):
        size = 16 * (1 + len(names))
        following = size if index < len(versions) else 0
        verneed += struct.pack("<HHIII", 1, len(names), offsets[library], 16, following)
        for place, name in enumerate(names, start=1):
            to_next = 16 if place < len(names) else 0
            verneed += struct.pack("<IHHII", 0, 0, place, offsets[name], to_next)
    parts = [texts, dynamic, verneed]
    starts = [64, 64 + len(texts), 64 + len(texts) + len(dynamic)]
    kinds = [(_STRTAB, 0, 0), (_DYNAMIC, 1, 0), (_VERNEED, 1, len(versions))]
    table = bytes(64)
    for (kind, link, info), start, part in zip(kinds, starts, parts, strict=True):
        table += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, start, len(part), link, info, 1, 0)
    body = b"".join(parts)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 4, 0
    )
    return header + body + table
