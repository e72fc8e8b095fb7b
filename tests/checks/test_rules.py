"""What holds for all rules together: none crashes, none compares architectures by order, places are right."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.checks import all_rules, check
from bwdeploy.checks.rule import subject_of
from bwdeploy.errors import Finding
from bwdeploy.recipe.load import load_recipes
from bwdeploy.recipe.schema import Recipe
from tests.checks.test_every_rule import RECIPE, found

PROJECT = Path(__file__).parents[2]


def by_rule(directory: Path, *overrides: str) -> dict[str, Finding]:
    return {finding.rule: finding for finding in found(directory, overrides, None)}


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("layout.gpu=B200",),
        ("layout.gpu=B200", "quantize.kv_cache=nvfp4", "gate.max_perplexity_increase=0.1"),
        ("layout={gpu: B200, gpus_per_node: 8, tp: 4, pp: 2}",),
        ("layout.gpu=H100", "quantize.format=fp8", "quantize.kv_cache=fp8"),
        ("engine.max_num_tokens=4096", "engine.llm_args.enable_chunked_prefill=true"),
        ("serve.runtime=reference",),
        ("quantize={format: null, method: none}",),
        ("quantize={format: null, recipe: general/ptq/nvfp4_default-kv_fp8_cast}",),
    ],
    ids=" ".join,
)
def test_a_sound_recipe_has_no_errors_or_warnings(overrides: tuple[str, ...], tmp_path: Path) -> None:
    serious = [one for one in found(tmp_path, overrides, None) if one.severity != "info"]
    assert serious == []


def test_a_finding_points_to_the_line_of_the_recipe(tmp_path: Path) -> None:
    found(tmp_path, (), None)  # writes the model
    file = tmp_path / "lines.yaml"
    file.write_text(RECIPE + "engine:\n  llm_args:\n    moe_config:\n      backend: AUTO\n")
    (loaded,) = load_recipes(file)
    finding = next(one for one in check(loaded) if one.rule == "llm-args-renamed")
    assert (finding.file, finding.line, finding.column) == (str(file), 8, 16)
    assert finding.path == "engine.llm_args.moe_config.backend"


def test_an_unknown_gpu_names_the_nearest(tmp_path: Path) -> None:
    assert by_rule(tmp_path, "layout.gpu=B20")["layout-gpu-unknown"].hint.startswith("Did you mean b")


def test_rules_never_compare_compute_capabilities_by_order() -> None:
    """Kernels exist for named architectures only, so SM >= 100 is always wrong."""
    for file in (PROJECT / "src" / "bwdeploy" / "checks").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Compare) and any(
                isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops
            ):
                assert ".sm" not in ast.unparse(node), f"{file.name}:{node.lineno}"


ODD_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(0, 2)
    | st.just("x")
    | st.lists(st.integers() | st.none(), max_size=3)
)
ODD_ARGS = st.dictionaries(
    st.sampled_from(
        ["cuda_graph_config", "kv_cache_config", "enable_chunked_prefill", "moe_config", "speculative_config"]
    ),
    ODD_VALUES
    | st.dictionaries(
        st.sampled_from(
            ["batch_sizes", "max_batch_size", "free_gpu_memory_fraction", "backend", "decoding_type", "dtype"]
        ),
        ODD_VALUES,
        max_size=3,
    ),
    max_size=3,
)


@settings(max_examples=150, deadline=None)
@given(
    llm_args=ODD_ARGS,
    layout=st.fixed_dictionaries(
        {}, optional={"gpu": st.sampled_from(["B200", "x"]), "tp": st.integers(1, 9), "ep": st.integers(1, 9)}
    ),
    source=st.sampled_from(["file://", "hf://", "package://"]).flatmap(
        lambda scheme: st.text("a/.@% ", min_size=1).map(scheme.__add__)
    ),
)
def test_no_recipe_gives_a_traceback(llm_args: dict[str, Any], layout: dict[str, Any], source: str) -> None:
    recipe = Recipe.model_validate({"schema": 1, "name": "n", "model": {"source": "file://m"}})
    recipe = recipe.model_copy(
        update={
            "model": recipe.model.model_copy(update={"source": source}),
            "engine": recipe.engine.model_copy(update={"llm_args": llm_args}),
            "layout": recipe.layout.model_copy(update=layout),
        }
    )
    subject = subject_of(recipe)
    for rule in all_rules():
        for problem in rule.find(subject):
            assert problem.message
            assert problem.hint
