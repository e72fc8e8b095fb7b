"""A migrated recipe is written with its comments, reads back as the same data, and is whole or not there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from bwdeploy.errors import RecipeError, StoreError
from bwdeploy.migration.found import Found, Note
from bwdeploy.migration.writing import recipe_text, write_recipe
from bwdeploy.recipe.document import parse_document

if TYPE_CHECKING:
    from pathlib import Path


def text_of(
    data: dict[str, Any], comments: dict[Any, str] | None = None, notes: tuple[Note, ...] = ()
) -> str:
    return recipe_text(Found("a test", data, comments or {}, notes), source="somewhere", file="r.yaml")


@pytest.mark.parametrize(
    "value",
    [
        "plain", "", " blank at both ends ", "no", "on", "null", "~", "2026-11-22", "1_000", "0x1f", "0o17",
        "1e5", "1.10", "007", "a: b", "a #b", "- a", "*star", "&anchor", "!tag", "%x", "@x", "`x`", "'q'",
        '"q"',
        "back\\slash", "tab\there", "line\nbreak", "a, b", "[x]", "{x}", "ünï", "\u2028", "\x7f", '{"a": 1}',
        "x" * 300, "key:", "=", "<<", 0, -7, 2**62, 1.5, 1e-05, 1e300, True, False, None, [], {}, [1, 2, 3],
        ["a, b", "no", ""], [[0], [0, 1]], {"no": "yes", "1": 2, "a b": {"c": []}}, [{"a": 1, "b": [True]}],
        ["long word"] * 40, {"deep": {"deeper": {"deepest": None}}},
    ],
)  # fmt: skip
def test_every_value_reads_back_the_same(value: Any) -> None:
    data = {"schema": 1, "value": value, "list": [value], "nested": {"value": value}}
    text = text_of(data, {("value",): "a comment # with a sign"})
    assert parse_document(text).data == data
    assert yaml.safe_load(text) == data  # and to any other reader


def test_comments_stand_beside_their_values_or_above() -> None:
    data = {"engine": {"max_batch_size": 8, "llm_args": {"a": 1}}, "name": "x"}
    comments = {
        ("engine", "max_batch_size"): "--max_batch_size",
        ("engine", "llm_args"): "of the server",
        ("name",): "word " * 30,
    }
    lines = text_of(data, comments).splitlines()
    assert "  max_batch_size: 8 # --max_batch_size" in lines
    assert "  llm_args: # of the server" in lines
    assert lines[lines.index("name: x") - 1].startswith("# word")
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("sign", ["\n", "\r", "\x85", "\u2028", "\x1b"])
def test_nothing_of_the_source_can_end_a_comment(sign: str) -> None:
    nasty = f"a{sign}trust_remote_code: true"
    note = Note("lost", nasty, nasty, nasty, nasty)
    text = text_of({"schema": 1}, {("schema",): nasty}, (note,))
    assert parse_document(text).data == {"schema": 1}
    assert yaml.safe_load(text) == {"schema": 1}


def test_notes_close_the_file() -> None:
    note = Note("lost", "--x", 7, "nothing stands for it", "leave it out")
    assert (
        text_of({"schema": 1}, {}, (note,)).splitlines()[-1]
        == "# lost: --x = 7: nothing stands for it. Leave it out."
    )


def test_file_is_not_overwritten_without_force(tmp_path: Path) -> None:
    file = tmp_path / "new" / "r.yaml"
    write_recipe("schema: 1\n", file, force=False)
    with pytest.raises(RecipeError, match="is there already"):
        write_recipe("schema: 2\n", file, force=False)
    write_recipe("schema: 2\n", file, force=True)
    assert file.read_text() == "schema: 2\n"
    assert [entry.name for entry in file.parent.iterdir()] == ["r.yaml"]
    with pytest.raises(RecipeError, match="is a directory"):
        write_recipe("x", tmp_path, force=True)


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_recipe("x", tmp_path / "file" / "r.yaml", force=False)
