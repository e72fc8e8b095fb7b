"""YAML to data with places: traps, limits and refused constructs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.document import MAX_BYTES, parse_document, read_document

YAML_PIECES = [
    "a",
    "b: ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "&x ",
    "*x",
    "!t ",
    "!!str ",
    "\n",
    "\n  ",
    "'",
    '"',
    "|",
    "> ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "%TAG ! x\n",
    "#c\n",
    "? ",
    "\t",
    "\\",
    "@",
    "`",
    "~",
    "0x1",
    "1e999",
    "\x85",
    "\u2028",
    "é",
    "\ufeff",
    "<<: ",
    "!<",
    "%",
    "\r",
    "|2-\n",
    "|9+",
    "\x00",
    "\x7f",
    "\ud800",
    '"\\ud800"',
]


def findings_of(text: str) -> tuple[Finding, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_document(text, file="r.yaml")
    return caught.value.findings


def test_places_are_one_based_and_tell_keys_from_values() -> None:
    places = parse_document("a: 1\nb:\n  - x\n  -   y\n", file="r.yaml").places
    key, value = places.of_key(("b",)), places.of_value(("b", 1))
    assert (key.file, key.line, key.column) == ("r.yaml", 2, 1)
    assert (value.line, value.column, value.text) == (4, 7, "y")


def test_an_unknown_path_gets_the_place_of_what_is_around_it() -> None:
    places = parse_document("a: {b: 1}\n", file="r.yaml").places
    assert places.of_value(("a", "missing", "deeper")).column == 4


@pytest.mark.parametrize("word", ["no", "NO", "off", "yes", "on", "y", "n"])
def test_words_that_yaml_1_1_took_for_bools_stay_text(word: str) -> None:
    assert parse_document(f"a: {word}").data == {"a": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("3e-4", 3e-4),
        (".5", 0.5),
        ("1.", 1.0),
        ("1.2.1", "1.2.1"),
        ("2026-11-22", "2026-11-22"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("0123", "0123"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    data = parse_document(f"a: {text}\n").data
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_a_duplicate_key_names_both_lines() -> None:
    (finding,) = findings_of("a: 1\nb: 2\na: 3\n")
    assert finding.rule == "recipe-duplicate-key"
    assert "line 1 and on line 3" in finding.message
    assert (finding.line, finding.column) == (3, 1)


def test_all_duplicate_keys_are_reported_at_once() -> None:
    assert [finding.path for finding in findings_of("a: {x: 1, x: 2}\nb: 1\nb: 2\n")] == ["a.x", "b"]


def test_keys_are_the_words_as_written() -> None:
    assert parse_document("{1: a, true: b, 1.10: c}").data == {"1": "a", "true": "b", "1.10": "c"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n\t- b\n", "a tab"),
        ("a: b: c\n", "a second `: `"),
        ("a: 1\n---\nb: 2\n", "a second YAML document"),
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("a: !!python/object/apply:os.system [ls]\n", "!!python/object/apply:os.system"),
        ("a: !mine 1\n", "!mine"),
        ("a: !!binary aGk=\n", "!!binary"),
        ("? [a]\n: 1\n", "plain word"),
        ("*x : 1\n", "plain word"),
        ("a: *x\n", "names no anchor"),
        ("a: &x [*x]\n", "contains itself"),
        ("base: &x {a: 1}\nb: {<<: *x}\n", "merge keys"),
        ("a: .nan\n", "finite"),
        ("a: -.inf\n", "finite"),
        ("a: 1e999\n", "too large"),
        ("a: 99999999999999999999\n", "64 bits"),
        ("a: " + "9" * 5000 + "\n", "64 bits"),
        ('a: "\\0"\n', "NUL"),
        ('a: "\\ud800"\n', "surrogate"),
        ("a: \x01\n", "U+0001"),
        ("{\n", "not valid YAML"),
        ("[" * 100 + "]" * 100, "deeper"),
    ],
)
def test_what_a_recipe_has_no_use_for_is_refused_with_its_line(text: str, words: str) -> None:
    (finding,) = findings_of(text)
    assert words in finding.message
    assert finding.line >= 1
    assert finding.column >= 1
    assert finding.hint


def test_an_alias_is_the_value_of_its_anchor() -> None:
    assert parse_document("a: &x {k: [1]}\nb: *x\n").data == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_an_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 9) + "]" for n in range(1, 30)]
    started = time.monotonic()
    (finding,) = findings_of("\n".join(lines))
    assert finding.rule == "recipe-yaml-limit"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "text",
    [
        "- a\n" * 240_000,
        "a" * 990_000,
        "a: " + "b " * 490_000,
        "'" + "x\n" * 490_000,
        "? " * 490_000,
        "[" * 990_000,
        "&a " * 330_000,
        "- " * 490_000,
        "#" * 990_000,
        "\n" * 990_000,
        "{a: " * 240_000,
        "a:\n" + " " * 990_000 + "b",
        '"' + "\\x41" * 240_000,
        "|\n" + " x\n" * 320_000,
    ],
    ids=range(14),
)
def test_a_hostile_megabyte_takes_seconds_at_most(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(RecipeError):
        parse_document(text, file="r.yaml")
    assert time.monotonic() - started < 20


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_document(file).data == {"a": 1}


@pytest.mark.parametrize("raw", [b"a: \xff\n", "a: 1".encode("utf-16"), b"a: 1\nb: \xc3("])
def test_bytes_that_are_not_utf_8_are_a_finding(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(raw)
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_document(file)


def test_a_file_of_a_megabyte_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"a" * (MAX_BYTES + 1))
    with pytest.raises(RecipeError, match="larger than"):
        read_document(file)


def test_a_directory_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="directory"):
        read_document(tmp_path)


def test_a_missing_file_names_its_neighbor(tmp_path: Path) -> None:
    (tmp_path / "smollm2-nvfp4.yaml").touch()
    with pytest.raises(RecipeError, match=r"no such file.*smollm2-nvfp4\.yaml"):
        read_document(tmp_path / "smollm2-nvpf4.yaml")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "file.yaml/below.yaml"])
def test_a_name_that_no_file_can_have_is_a_finding(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.yaml").touch()
    with pytest.raises(RecipeError):
        read_document(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.touch(mode=0)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_document(file)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(YAML_PIECES), max_size=14).map("".join) | st.text(max_size=60))
def test_no_text_gives_a_traceback(text: str) -> None:
    try:
        document = parse_document(text, file="r.yaml")
    except RecipeError as error:
        refused = str(error)
    else:
        refused = ""
        assert () in document.places.values
    assert not refused or refused.startswith("r.yaml:")


@settings(max_examples=150, deadline=None)
@given(raw=st.binary(max_size=80))
def test_no_bytes_give_a_traceback(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "bytes.yaml"
    file.write_bytes(raw)
    findings: tuple[Finding, ...] | None = None
    try:
        read_document(file)
    except RecipeError as error:
        findings = error.findings
    assert findings is None or all(finding.message and finding.hint for finding in findings)
