"""Read a file while another process, here or on another machine, writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Follower:
    """Gives what was added to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._partial = b""

    def added(self) -> bytes:
        """The new bytes; none while the file does not exist."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return b""
        self._position += len(data)
        return data

    def lines(self) -> Iterator[str]:
        """The new whole lines; a line that is still being written waits."""
        *whole, self._partial = (self._partial + self.added()).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
