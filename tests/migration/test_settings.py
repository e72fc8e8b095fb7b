"""Every option of trtllm-build and every template key has a row, and every row leads somewhere."""

from __future__ import annotations

import pytest

from bwdeploy.facts.build_flags import build_flags
from bwdeploy.facts.engine_to_pytorch import BUILD, changed_defaults, known_settings, setting_row
from bwdeploy.facts.llm_arg_fields import argument_field
from bwdeploy.facts.triton_templates import engine_models, template_keys
from bwdeploy.migration.deployment import Setting
from bwdeploy.migration.draft import RecipeDraft
from bwdeploy.migration.settings import put_for_engines, put_for_pytorch
from bwdeploy.migration.values import ValueMisfitError, value_of
from bwdeploy.recipe.words import path_problem

TEMPLATE_KEYS = [
    (model.name, key) for model in engine_models().values() for key in (*model.mandatory, *model.optional)
]


def test_every_option_and_every_template_key_has_a_row() -> None:
    assert set(known_settings()) == {(BUILD, name) for name in build_flags()} | set(TEMPLATE_KEYS)


@pytest.mark.parametrize(("group", "key"), known_settings(), ids=lambda word: word)
def test_row_leads_to_a_place_that_exists_and_gives_its_reason(group: str, key: str) -> None:
    row = setting_row(group, key)
    assert row is not None
    for path in (row.use, tuple(row.engine.split(".")) if "." in row.engine else ()):
        if path[:2] == ("engine", "llm_args"):
            field = argument_field("1.2.1", path[2:3])
            assert argument_field("1.2.1", path[2:]) or (field and "properties" not in field), path
        elif path[:2] == ("engine", "build_flags"):
            assert path[2] in build_flags()
        elif path:
            assert path_problem(path) is None, path
    assert row.why or row.use or row.effect == "renamed"
    assert bool(row.use) == (row.effect == "renamed") or row.effect == "changed"
    assert row.engine not in {"changed", "lost", "no-effect"} or row.engine_why


@pytest.mark.parametrize("default", changed_defaults(), ids=lambda default: default.key)
def test_changed_default_names_known_settings(default: object) -> None:
    known = {f"{group}.{key}" for group, key in known_settings()}
    assert set(default.unless) <= known  # type: ignore[attr-defined]


@pytest.mark.parametrize(("group", "key"), known_settings(), ids=lambda word: word)
def test_no_setting_is_dropped_in_silence(group: str, key: str) -> None:
    """A value that nobody would call a default ends in the recipe or in the loss report."""
    odd = {
        "whole": 7,
        "switch": True,
        "list": ["a"],
        "wholes": [7],
        "groups": [[1]],
        "tree": [[0]],
        "number": 0.123,
    }
    flags, row = build_flags(), setting_row(group, key)
    assert row is not None
    kind = flags[key].kind if group == BUILD else _kind_of(key)
    choices = flags[key].choices if group == BUILD else ()
    words = [
        word
        for word in (*choices, "something")
        if word not in (*row.quiet, flags[key].default if group == BUILD else None)
    ]
    value = odd.get(kind, words[0])
    if value in row.quiet:
        value = False
    for put in (put_for_engines, put_for_pytorch):
        draft = RecipeDraft()
        put(draft, [Setting(group, key, value, "place")])
        assert draft.data or any(note.key == "place" for note in draft.notes) or row.engine == "derived"


def _kind_of(key: str) -> str:
    return template_keys()[key].kind


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("whole", " 7 ", 7),
        ("number", "0.85", 0.85),
        ("switch", "True", True),
        ("switch", "0", False),
        ("wholes", "0\\,1", [0, 1]),
        ("wholes", "4096", [4096]),
        ("groups", "0,1;2,3", [[0, 1], [2, 3]]),
        ("groups", "0\\,1", [0, 1]),
        ("tree", "{{0}, {0, 1}}", [[0], [0, 1]]),
        ("list", "attn_q attn_v", ["attn_q", "attn_v"]),
        ("text", 7, "7"),
    ],
)
def test_template_texts_are_read_as_values(kind: str, text: object, value: object) -> None:
    assert value_of(kind, text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("whole", "7.5"),
        ("whole", "9" * 400),
        ("number", "nan"),
        ("number", "x"),
        ("switch", "maybe"),
        ("tree", "[0"),
        ("tree", "[" * 9999),
    ],
)
def test_texts_of_another_kind_are_refused(kind: str, text: str) -> None:
    with pytest.raises(ValueMisfitError):
        value_of(kind, text)
