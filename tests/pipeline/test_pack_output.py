"""A pack appears in one step, replaces only packs, and leaves nothing of itself behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bwdeploy.errors import StoreError, ToolError
from bwdeploy.pipeline import pack_output
from bwdeploy.pipeline.pack_output import publish_pack


def make(text: str) -> Callable[[Path, Path], str]:
    def write(directory: Path, scratch: Path) -> str:
        (scratch / "object").write_text("not for the pack")
        (directory / "lib").mkdir()
        (directory / "lib" / "op.so").write_text(text)
        manifest = {"schema": 1, "bwdeploy": "0", "sms": ["sm_90a"], "ops": []}
        (directory / "manifest.json").write_text(json.dumps(manifest))
        return text

    return write


def files(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def left_beside(out: Path) -> list[str]:
    return sorted(
        path.name for path in out.parent.iterdir() if path.name not in {out.name, f".{out.name}.lock"}
    )


def test_a_new_pack_holds_what_was_made_and_nothing_of_its_making(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pack"
    assert publish_pack(out, make("one")) == "one"
    assert set(files(out)) == {"lib/op.so", "manifest.json"}
    assert left_beside(out) == []


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_older_pack_is_replaced_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, can_exchange: bool
) -> None:
    out = tmp_path / "pack"
    publish_pack(out, make("one"))
    (out / "lib" / "stale.so").write_text("of the older pack")
    if not can_exchange:
        monkeypatch.setattr(pack_output, "_exchange", lambda one, other: False)
    publish_pack(out, make("two"))
    assert files(out)["lib/op.so"] == "two"
    assert "lib/stale.so" not in files(out)
    assert left_beside(out) == []


def test_two_directories_swap_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not pack_output._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot swap directories")
    assert (tmp_path / "one" / "file").read_text() == "other"
    assert (tmp_path / "other" / "file").read_text() == "one"


def test_a_failing_build_leaves_the_older_pack_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "pack"
    publish_pack(out, make("one"))

    def fail(directory: Path, scratch: Path) -> None:
        make("two")(directory, scratch)
        raise ToolError("nvcc failed")

    with pytest.raises(ToolError):
        publish_pack(out, fail)
    assert files(out)["lib/op.so"] == "one"
    assert left_beside(out) == []


def test_an_empty_directory_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "pack"
    out.mkdir()
    publish_pack(out, make("one"))
    assert files(out)["lib/op.so"] == "one"


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_directory_of_somebody_else_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    out = tmp_path / "pack"
    out.mkdir()
    (out / name).write_text('{"name": "a web page"}')
    with pytest.raises(StoreError, match="exists and is no kernel pack"):
        publish_pack(out, lambda directory, scratch: pytest.fail("it was made"))
    assert list(files(out)) == [name]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pack").write_text("mine")
    with pytest.raises(StoreError, match="exists and is no kernel pack"):
        publish_pack(tmp_path / "pack", make("one"))


def test_what_a_killed_build_left_beside_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "pack"
    (tmp_path / ".pack.new-dead" / "new").mkdir(parents=True)
    publish_pack(out, make("one"))
    assert left_beside(out) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Not a directory|File exists"):
        publish_pack(tmp_path / "file" / "pack", make("one"))


def test_a_pack_among_other_files_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "pack"
    publish_pack(out, make("one"))
    (out / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'notes\.txt', which is no part of a kernel pack"):
        publish_pack(out, make("two"))
    assert files(out)["notes.txt"] == "mine"
    assert files(out)["lib/op.so"] == "one"


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_is_not_replaced(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "pack"
    out.symlink_to(target)
    with pytest.raises(StoreError, match="is a link"):
        publish_pack(out, make("one"))
    assert out.is_symlink()


def test_the_current_directory_is_not_swapped_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is the current directory"):
        publish_pack(Path(), make("one"))
