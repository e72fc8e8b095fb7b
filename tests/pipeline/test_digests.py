"""Digests are right, and a file is read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bwdeploy.errors import StoreError
from bwdeploy.pipeline import digests
from bwdeploy.pipeline.digests import FileDigests


def test_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    expected = hashlib.sha256(b"x" * 1000).hexdigest()
    assert FileDigests(tmp_path / "db").of_file(file) == expected
    monkeypatch.delattr(digests, "sha256_of")
    assert FileDigests(tmp_path / "db").of_file(file) == expected


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a")
    memory = FileDigests(tmp_path / "db")
    first = memory.of_file(file)
    file.write_bytes(b"b")
    os.utime(file, ns=(1, 1))
    assert memory.of_file(file) != first


def test_broken_memory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database" * 100)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="digest memory"):
        FileDigests(tmp_path / "db").of_file(tmp_path / "file")
