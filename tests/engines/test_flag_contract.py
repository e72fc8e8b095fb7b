"""Every option of trtllm-build: a legal value passes rules, command line and parser, an illegal one none.

The parser is the stand-in's, which knows nothing of our table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.checks import check
from bwdeploy.engines.command import EngineRequest, build_command, parse_build_command
from bwdeploy.errors import RecipeError
from bwdeploy.facts.build_flags import BuildFlag, build_flags
from bwdeploy.recipe.load import load_recipes
from tests.checks.model_configs import SMALL_LLAMA
from tests.tools import stand_in_trtllm_build

FLAGS = build_flags()
SAID_ELSEWHERE = (
    "checkpoint_dir", "model_config", "build_config", "output_dir", "max_batch_size", "max_num_tokens",
    "max_seq_len",
)  # fmt: skip
ABOUT_ONE_FLAG = {"build-flag-unknown", "build-flag-removed", "build-flag-type", "build-flag-choice"}


def legal_values(flag: BuildFlag) -> list[Any]:
    if flag.kind == "list":
        return [[choice] for choice in flag.choices[:2]] or [["a", "b"]]
    if flag.choices:
        return list(flag.choices)
    values: dict[str, list[Any]] = {"whole": [0, 7], "switch": [True], "text": ["some/file"]}
    return values[flag.kind]


def illegal_values(flag: BuildFlag) -> list[Any]:
    if flag.kind == "text":
        return ["nonsense", "--nccl_plugin"] if flag.choices else ["--workers"]
    values: dict[str, list[Any]] = {
        "whole": ["many", "1.5"],
        "switch": ["enable"],
        "list": [[], ["--workers"]],
    }
    return values[flag.kind]


LEGAL = [(flag, value) for flag in FLAGS.values() for value in legal_values(flag)]
ILLEGAL = [(flag, value) for flag in FLAGS.values() for value in illegal_values(flag)]


def row_id(row: object) -> str:
    return row.name if isinstance(row, BuildFlag) else str(row)


def request(**flags: Any) -> EngineRequest:
    return EngineRequest(Path("ckpt"), Path("out"), 8, 64, 32, 1, flags)


def findings(directory: Path, name: str, value: object) -> list[Any]:
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text(json.dumps(SMALL_LLAMA))
    recipe = {
        "schema": 1,
        "name": "tiny",
        "model": {"source": "file://model"},
        "quantize": {"format": "nvfp4"},
        "engine": {"backend": "tensorrt", "build_flags": {name: value}},
    }
    (directory / "r.yaml").write_text(json.dumps(recipe))
    return [one for loaded in load_recipes(directory / "r.yaml") for one in check(loaded)]


@pytest.mark.parametrize(("flag", "value"), LEGAL, ids=row_id)
def test_a_legal_value_passes_everything(flag: BuildFlag, value: object, tmp_path: Path) -> None:
    raw = spelled(flag, value)
    assert getattr(stand_in_trtllm_build.parser().parse_args(raw), flag.name) is not None
    parsed = parse_build_command(raw)
    assert (parsed.flags, parsed.problems) == ({flag.name: value}, ())
    if flag.name not in SAID_ELSEWHERE:
        arguments = stand_in_trtllm_build.parser().parse_args(build_command(request(**{flag.name: value})))
        found = getattr(arguments, flag.name)
        assert found == (value.upper() if flag.name == "kv_cache_type" and isinstance(value, str) else value)
        said = findings(tmp_path, flag.name, value)
        assert not {one.rule for one in said if one.severity == "error"} & ABOUT_ONE_FLAG


@pytest.mark.parametrize(("flag", "value"), ILLEGAL, ids=row_id)
def test_an_illegal_value_is_refused_everywhere(
    flag: BuildFlag, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = spelled(flag, value)
    if (flag.name, value) != ("paged_kv_cache", "nonsense"):  # the real parser takes any text there, too
        with pytest.raises(SystemExit) as ended:
            stand_in_trtllm_build.parser().parse_args(raw)
        assert ended.value.code == 2
        assert "trtllm-build: error: " in capsys.readouterr().err
    assert parse_build_command(raw).problems
    with pytest.raises(RecipeError):
        build_command(request(**{flag.name: value}))
    said = findings(tmp_path, flag.name, value)
    assert {"build-flag-said-elsewhere", *ABOUT_ONE_FLAG} & {
        one.rule for one in said if one.severity == "error"
    }


def spelled(flag: BuildFlag, value: object) -> list[str]:
    """As somebody would type it, whether it is right or not."""
    if value is True:
        return [f"--{flag.name}"]
    return [f"--{flag.name}", *(map(str, value) if isinstance(value, list) else [str(value)])]


def test_the_table_and_the_parser_have_the_same_options() -> None:
    actions = [action for action in stand_in_trtllm_build.parser()._actions if action.dest != "help"]
    spellings = {name.removeprefix("--") for action in actions for name in action.option_strings}
    assert spellings == {word for flag in FLAGS.values() for word in (flag.name, *flag.aliases)}


def test_the_table_and_the_parser_have_the_same_defaults_and_choices() -> None:
    for action in stand_in_trtllm_build.parser()._actions:
        flag = FLAGS.get(action.dest)
        if flag is None or flag.name in {"kv_cache_type", "paged_kv_cache"}:
            continue
        assert action.default == flag.default, flag.name
        assert tuple(action.choices or ()) == flag.choices, flag.name
