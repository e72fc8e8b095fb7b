"""From a recipe file to builds: base, overrides, matrix, validation."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.errors import Finding, RecipeError
from bwdeploy.recipe.load import LoadedRecipe, load_recipes
from bwdeploy.recipe.schema import Recipe

MINIMAL = """\
schema: 1
name: tiny
model: {source: file://model}
"""


def write(directory: Path, text: str, name: str = "r.yaml") -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))
    return file


def load_one(file: Path, *overrides: str) -> LoadedRecipe:
    (loaded,) = load_recipes(file, overrides=overrides)
    return loaded


def findings(file: Path, *overrides: str) -> tuple[Finding, ...]:
    with pytest.raises(RecipeError) as caught:
        load_recipes(file, overrides=overrides)
    assert all(finding.hint for finding in caught.value.findings), str(caught.value)
    return caught.value.findings


def test_a_minimal_recipe_gets_every_default(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL)
    loaded = load_one(file)
    assert loaded.recipe.name == "tiny"
    assert loaded.recipe.serve.flush_tokens == 16
    assert loaded.recipe.gate.evaluation.seq_len == 256
    assert loaded.text == MINIMAL
    assert loaded.files == (file,)


def test_all_problems_are_reported_at_once_in_reading_order(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """\
        schema: 1
        name: a b
        model: {sourc: x}
        quantize:
          format: nvfp
          calibration: {samples: many, seed: -1}
        engine: {tensorrt_llm: 1.10}
        gate:
        """,
    )
    found = findings(file)
    assert [(one.line, one.rule, one.path) for one in found] == [
        (2, "recipe-wrong-form", "name"),
        (3, "recipe-missing-key", "model.source"),
        (3, "recipe-unknown-key", "model.sourc"),
        (5, "recipe-not-a-choice", "quantize.format"),
        (6, "recipe-wrong-type", "quantize.calibration.samples"),
        (6, "recipe-out-of-bounds", "quantize.calibration.seed"),
        (7, "recipe-wrong-type", "engine.tensorrt_llm"),
        (8, "recipe-wrong-type", "gate"),
    ]
    assert str(found[3]).startswith(f"{file}:5:11: quantize.format: the text 'nvfp' is not one of: nvfp4,")
    assert str(found[3]).endswith(". Did you mean nvfp4.")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (
            "model: {source: file://m, trust_remote_code: no}",
            "expected true or false, got the text 'no'",
            "Write false",
        ),
        ("serve: {streaming: on}", "got the text 'on'", "Write true"),
        ("engine: {tensorrt_llm: 1.10}", "expected text, got the number 1.1", 'Put it in quotes: "1.10"'),
        (
            "engine: {max_batch_size: '8'}",
            "expected a whole number, got the text '8'",
            "Write 8 without quotes",
        ),
        ("engine: {max_num_tokens: 8_192}", "got the text '8_192'", "Write 8192 without quotes"),
        (
            "engine: {max_batch_size: 1.5}",
            "expected a whole number, got the number 1.5",
            "Write a whole number",
        ),
        ("engine: {max_batch_size: true}", "expected a whole number, got true", "Write a whole number"),
        ("serve: {prompts: hello}", "expected a list, got the text 'hello'", "Write a list"),
        ("engine: {llm_args: [1]}", "expected a mapping (key: value), got a list", "Write a mapping"),
        ("quantize: {format: FP8}", "'FP8' is not one of", "Did you mean fp8"),
        ("quantize: {kv_cache: null}", "nothing is not one of", "Did you mean none"),
        ("format: nvfp4", "a recipe has no key 'format'", "Did you mean quantize.format"),
        ("quantise: {}", "a recipe has no key 'quantise'", "Did you mean quantize"),
        ("zzz: 1", "a recipe has no key 'zzz'", "Valid here: schema, name, model"),
        ("serve: {model_name: '../x'}", "does not have the right form", "Expected letters, digits"),
        (
            "speculative: {method: mtp, draft_len: 0}",
            "expected at least 1, got the number 0",
            "Choose a value within the bounds, or choose one of: auto",
        ),
        (
            "speculative: {method: mtp, draft_len: [3]}",
            "expected a whole number, got a list",
            "Write a whole number, or choose one of: auto",
        ),
        ("speculative: {method: mtp, draft_len: atuo}", "'atuo' is not one of: auto", "Did you mean auto"),
        (
            "engine: {environment: {PATH: /x}}",
            "the text 'PATH' does not have the right form",
            "Expected a variable of TensorRT-LLM",
        ),
    ],
)
def test_messages_speak_the_users_words(tmp_path: Path, line: str, message: str, hint: str) -> None:
    text = MINIMAL if not line.startswith("model:") else "schema: 1\nname: tiny\n"
    (finding,) = findings(write(tmp_path, text + line + "\n"))
    assert message in finding.message
    assert finding.hint.startswith(hint)
    assert "pydantic" not in str(finding)


@pytest.mark.parametrize("version", ["2", "'1'", "1.5", "null"])
def test_another_schema_version_is_refused(tmp_path: Path, version: str) -> None:
    (finding,) = findings(write(tmp_path, MINIMAL.replace("schema: 1", f"schema: {version}")))
    assert finding.path == "schema"
    assert "schema 1" in finding.hint


@pytest.mark.parametrize("text", ["- a\n", "just text\n", "3\n", "null\n"])
def test_what_is_no_mapping_is_no_recipe(tmp_path: Path, text: str) -> None:
    (finding,) = findings(write(tmp_path, text))
    assert "a recipe is a mapping" in finding.message


# base:


def test_a_base_is_merged_deeply_and_the_later_file_wins(tmp_path: Path) -> None:
    write(
        tmp_path,
        MINIMAL + "engine: {max_batch_size: 4, max_seq_len: 512}\nserve: {prompts: [a, b]}\n",
        "below/base.yaml",
    )
    file = write(
        tmp_path, "base: below/base.yaml\nname: child\nengine: {max_batch_size: 8}\nserve: {prompts: [c]}\n"
    )
    loaded = load_one(file)
    assert loaded.recipe.name == "child"
    assert (loaded.recipe.engine.max_batch_size, loaded.recipe.engine.max_seq_len) == (8, 512)
    assert loaded.recipe.serve.prompts == ("c",), "lists are replaced"
    assert [one.name for one in loaded.files] == ["r.yaml", "base.yaml"]


def test_a_problem_in_a_base_names_the_bases_file_and_line(tmp_path: Path) -> None:
    base = write(tmp_path, MINIMAL + "engine: {max_batch_size: 0}\n", "base.yaml")
    (finding,) = findings(write(tmp_path, "base: base.yaml\nname: child\n"))
    assert (finding.file, finding.line) == (str(base), 4)


def test_a_child_can_take_back_what_its_base_says(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL + "quantize: {format: fp8}\n", "base.yaml")
    loaded = load_one(write(tmp_path, "base: base.yaml\nquantize: {format: null, recipe: general/ptq/x}\n"))
    assert loaded.recipe.quantize.format is None


def test_replaced_values_leave_no_stale_places(tmp_path: Path) -> None:
    write(
        tmp_path,
        MINIMAL + "quantize:\n  overrides: [{modules: a, format: fp8}, {modules: b, format: fp9}]\n",
        "base.yaml",
    )
    file = write(
        tmp_path,
        "base: base.yaml\nquantize: {overrides: [{modules: a, format: fp8}, {modules: 3, format: fp8}]}\n",
    )
    (finding,) = findings(file)
    assert (finding.file, finding.line) == (str(file), 2)


@pytest.mark.parametrize(
    "base", ["/etc/passwd", "../outside.yaml", "~/x.yaml", "below/../../outside.yaml", "link.yaml"]
)
def test_a_base_outside_the_recipes_directory_is_refused(tmp_path: Path, base: str) -> None:
    write(tmp_path, MINIMAL, "outside.yaml")
    file = write(tmp_path, f"base: {base}\n", "inside/r.yaml")
    (tmp_path / "inside" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (finding,) = findings(file)
    assert "outside the recipe's own directory" in finding.message
    assert finding.line == 1


def test_a_base_may_go_up_as_long_as_it_stays_below_the_first_recipe(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "shared.yaml")
    write(tmp_path, "base: ../shared.yaml\nserve: {flush_tokens: 3}\n", "below/middle.yaml")
    assert load_one(write(tmp_path, "base: below/middle.yaml\n")).recipe.serve.flush_tokens == 3


def test_a_circle_of_bases_is_named(tmp_path: Path) -> None:
    write(tmp_path, "base: r.yaml\n", "b.yaml")
    (finding,) = findings(write(tmp_path, "base: b.yaml\n"))
    assert "r.yaml → b.yaml → r.yaml" in finding.message


def test_a_tower_of_bases_is_refused(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path, f"base: r{number + 1}.yaml\n", f"r{number}.yaml")
    (finding,) = findings(tmp_path / "r0.yaml")
    assert "more than 10 bases" in finding.message


@pytest.mark.parametrize("base", ["missing.yaml", "''", "[a]", "3", "'a\\nb'", ".", "x" * 5000])
def test_a_base_that_is_no_file_is_a_finding(tmp_path: Path, base: str) -> None:
    (finding,) = findings(write(tmp_path, f"base: {base}\n"))
    assert finding.rule in {"recipe-base", "recipe-file"}


# --set


def test_an_override_wins_over_file_and_base(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "base.yaml")
    file = write(tmp_path, "base: base.yaml\nengine: {max_batch_size: 8}\n")
    loaded = load_one(file, "engine.max_batch_size=16", "name=other", 'serve.prompts=["a: b", c]')
    assert (loaded.recipe.engine.max_batch_size, loaded.recipe.name) == (16, "other")
    assert loaded.recipe.serve.prompts == ("a: b", "c")


def test_an_override_value_is_not_cut_at_yaml_signs(tmp_path: Path) -> None:
    loaded = load_one(write(tmp_path, MINIMAL), "model.source=file:///a b #c: d")
    assert loaded.recipe.model.source == "file:///a b #c: d"


def test_an_override_reaches_into_llm_args(tmp_path: Path) -> None:
    loaded = load_one(write(tmp_path, MINIMAL), "engine.llm_args.kv_cache_config.dtype=fp8")
    assert loaded.recipe.engine.llm_args == {"kv_cache_config": {"dtype": "fp8"}}


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("engine.max_batch_sise=3", "no key", ""),
        ("engin.max_batch_size=3", "", "Did you mean engine"),
        ("format=fp8", "", "Did you mean quantize.format"),
        ("name.first=x", "name is a single value", ""),
        ("name", "expected a.b=value", ""),
        ("=3", "expected a.b=value", ""),
        ("a..b=3", "expected a.b=value", ""),
        ("base=x.yaml", "only be given in a file", ""),
        ("engine.max_batch_size=[1", "not valid YAML", ""),
        ("engine.max_batch_size=.nan", "finite", ""),
        ("engine.max_batch_size=x", "expected a whole number", ""),
        ("quantize=3", "expected a mapping", ""),
    ],
)
def test_a_wrong_override_is_named_with_the_way_out(
    tmp_path: Path, override: str, message: str, hint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipes(write(tmp_path, MINIMAL), overrides=[override])
    (finding,) = caught.value.findings
    assert message.replace("no key", "no recipe has the key") in finding.message
    assert finding.hint.startswith(hint)
    assert f"--set {override}" in finding.message
    assert finding.file == ""


def test_all_wrong_overrides_are_reported_at_once(tmp_path: Path) -> None:
    assert len(findings(write(tmp_path, MINIMAL), "a=1", "b=2")) == 2


# matrix:


def test_a_matrix_is_the_product_of_its_axes_with_names(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        MINIMAL
        + "matrix:\n  quantize.format: [nvfp4, fp8]\n  engine: [{max_batch_size: 1}, {max_batch_size: 64}]\n",
    )
    builds = load_recipes(file)
    assert [build.recipe.name for build in builds] == [
        "tiny-nvfp4-1",
        "tiny-nvfp4-64",
        "tiny-fp8-1",
        "tiny-fp8-64",
    ]
    assert [build.recipe.engine.max_batch_size for build in builds] == [1, 64, 1, 64]
    assert builds[2].recipe.quantize.format == "fp8"


def test_an_override_of_an_axis_keeps_one_value(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "matrix:\n  quantize.format: [nvfp4, fp8]\n  layout.tp: [1, 2]\n")
    builds = load_recipes(file, overrides=["quantize.format=fp8", "name=n"])
    assert [build.recipe.name for build in builds] == ["n-fp8-1", "n-fp8-2"]


def test_an_override_inside_an_axis_wins_over_the_axis(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + "matrix:\n  engine: [{max_batch_size: 1, max_num_tokens: 5}]\n")
    loaded = load_one(file, "engine.max_batch_size=7")
    assert (loaded.recipe.engine.max_batch_size, loaded.recipe.engine.max_num_tokens) == (7, 5)


def test_a_wrong_value_in_a_matrix_is_named_where_it_stands(tmp_path: Path) -> None:
    (finding,) = findings(write(tmp_path, MINIMAL + "matrix:\n  quantize.format:\n    - fp8\n    - nvfp5\n"))
    assert (finding.line, finding.path) == (7, "quantize.format")


def test_a_problem_of_all_builds_is_told_once(tmp_path: Path) -> None:
    found = findings(
        write(tmp_path, MINIMAL + "engine: {max_batch_size: 0}\nmatrix: {quantize.format: [nvfp4, fp8]}\n")
    )
    assert len(found) == 1


def test_values_that_make_no_name_are_numbered(tmp_path: Path) -> None:
    file = write(tmp_path, MINIMAL + f"matrix:\n  serve.prompts: [['?'], ['{'x' * 99}']]\n")
    assert [build.recipe.name for build in load_recipes(file)] == ["tiny-1", "tiny-2"]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("3", "expected a mapping"),
        ("{}", "expected a mapping"),
        ("{quantize.formt: [fp8]}", "no recipe has the key quantize.formt"),
        ("{quantize.format: fp8}", "expected a list"),
        ("{quantize.format: []}", "expected a list"),
        ("{name: [a]}", "cannot be an axis"),
        ("{layout.tp: [1, 1]}", "both be called tiny-1"),
        ("{layout.tp: [" + ", ".join(map(str, range(1, 1101))) + "]}", "1100 builds"),
        ("{name.x.y: [1]}", "single value"),
    ],
)
def test_a_wrong_matrix_is_a_finding(tmp_path: Path, matrix: str, message: str) -> None:
    (finding,) = findings(write(tmp_path, MINIMAL + f"matrix: {matrix}\n"))
    assert finding.rule == "recipe-matrix"
    assert message in finding.message


# file:// values


def test_a_relative_file_starts_at_the_file_that_says_it(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "below/base.yaml")
    file = write(
        tmp_path, "base: below/base.yaml\nquantize: {calibration: {dataset: 'file://./calib.jsonl'}}\n"
    )
    recipe = load_one(file).recipe
    assert recipe.model.source == f"file://{tmp_path}/below/model"
    assert recipe.quantize.calibration.dataset == f"file://{tmp_path}/calib.jsonl"


def test_a_relative_file_in_a_list_starts_there_too(tmp_path: Path) -> None:
    tasks = "gate: {tasks: [{task: arc_easy}, {task: 'file://./own.yaml'}, {task: 'file:///a/b.yaml'}]}\n"
    recipe = load_one(write(tmp_path, MINIMAL + tasks)).recipe
    assert [one.task for one in recipe.gate.tasks] == [
        "arc_easy",
        f"file://{tmp_path}/own.yaml",
        "file:///a/b.yaml",
    ]


def test_an_absolute_file_stays_as_it_is(tmp_path: Path) -> None:
    assert (
        load_one(write(tmp_path, MINIMAL), "model.source=file:///a/m.gguf").recipe.model.source
        == "file:///a/m.gguf"
    )


def test_a_file_of_the_command_line_starts_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_one(write(tmp_path, MINIMAL, "elsewhere/r.yaml"), "model.source=file://m.gguf")
    assert loaded.recipe.model.source == f"file://{tmp_path}/m.gguf"


# no input gives a traceback

WORDS = sorted(
    {
        *Recipe.model_fields,
        "schema",
        "base",
        "matrix",
        "format",
        "source",
        "overrides",
        "modules",
        "llm_args",
        "calibration",
        "dataset",
        "evaluation",
        "quantize.format",
        "draft_len",
        "environment",
        "a",
    }
)
SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=12)
    | st.sampled_from(
        ["nvfp4", "fp8", "none", "file://x", "hf://a/b", "package://a/b", "r.yaml", ".", "\0", "1.2.1"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=250, deadline=None)
@given(
    data=st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=8),
    overrides=st.lists(
        st.text(max_size=30) | st.sampled_from(["layout.tp=2", "name=x", "model.source=", "matrix=1"]),
        max_size=2,
    ),
)
def test_no_structure_gives_a_traceback(
    data: dict[str, Any], overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "structure.yaml"
    with file.open("w", encoding="utf-8", errors="replace") as stream:
        yaml.safe_dump({"schema": 1, "name": "n", "model": {"source": "file://m"}, **data}, stream)
    problems: tuple[Finding, ...] = ()
    builds: tuple[LoadedRecipe, ...] = ()
    try:
        builds = load_recipes(file, overrides=overrides)
    except RecipeError as error:
        problems = error.findings
    assert bool(builds) != bool(problems)
    assert all(problem.message and problem.hint for problem in problems)


def test_a_file_with_thousands_of_problems_is_answered_quickly(tmp_path: Path) -> None:
    file = write(
        tmp_path, MINIMAL + "engine:\n" + "".join(f"  max_batch{number}: 1\n" for number in range(15_000))
    )
    started = time.monotonic()
    found = findings(file)
    assert time.monotonic() - started < 20
    assert len(found) == 201
    assert any("14800 more problems" in one.message for one in found)


def test_a_matrix_cannot_multiply_a_large_recipe(tmp_path: Path) -> None:
    many = ", ".join(f"'{number}'" for number in range(5000))
    file = write(
        tmp_path,
        MINIMAL + f"engine: {{llm_args: {{a: [{many}]}}}}\nmatrix: {{layout.tp: {list(range(1, 200))}}}\n",
    )
    (finding,) = findings(file)
    assert "too much" in finding.message


@pytest.mark.parametrize("said", ["layout: auto", "layout: {auto: throughput}"])
def test_layout_auto_keeps_the_gpu_of_its_base(tmp_path: Path, said: str) -> None:
    (tmp_path / "base.yaml").write_text(MINIMAL + "layout: {gpu: H200, gpus_per_node: 8}\n")
    file = tmp_path / "r.yaml"
    file.write_text(f"base: base.yaml\n{said}\n")
    (loaded,) = load_recipes(file)
    assert (loaded.recipe.layout.gpu, loaded.recipe.layout.auto) == ("H200", "throughput")


def test_layout_auto_may_be_set_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(MINIMAL)
    (loaded,) = load_recipes(file, overrides=["layout=auto"])
    assert loaded.recipe.layout.auto == "throughput"
