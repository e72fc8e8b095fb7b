"""What counts as content of a directory, and that links cannot lead out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bwdeploy.errors import HostError
from bwdeploy.pipeline.trees import content_files, link_tree


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".git/x", ".hidden", "config.json"):
        (tmp_path / name).write_text("x")
    assert list(content_files(tmp_path)) == ["config.json"]


def test_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(HostError, match="outside of the model directory"):
        content_files(model)


def test_hub_cache_snapshot_may_link_to_its_blobs(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "abc"
    snapshot = tmp_path / "snapshots" / "rev"
    blob.parent.mkdir()
    snapshot.mkdir(parents=True)
    blob.write_text("x")
    (snapshot / "config.json").symlink_to(blob)
    assert content_files(snapshot) == {"config.json": blob}


def test_link_tree_links_every_file(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_text("x")
    link_tree(tmp_path / "a", tmp_path / "new")
    assert (tmp_path / "new/b/c").samefile(tmp_path / "a/b/c")
