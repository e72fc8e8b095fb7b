"""Each rule speaks up when it should, and only then."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bwdeploy.checks import RULES, check
from bwdeploy.checks.rule import subject_of
from bwdeploy.errors import Finding
from bwdeploy.recipe.load import load_recipes
from bwdeploy.recipe.schema import Recipe

PROJECT = Path(__file__).parents[2]
RECIPE = """\
schema: 1
name: tiny
model: {source: file://model}
quantize: {format: nvfp4}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "calib.jsonl").touch()
    (tmp_path / "weights.bin").touch()
    file = tmp_path / "r.yaml"
    file.write_text(RECIPE)
    return file


def found(file: Path, *overrides: str) -> dict[str, Finding]:
    (loaded,) = load_recipes(file, overrides=overrides)
    findings = {finding.rule: finding for finding in check(loaded)}
    assert all(finding.hint and finding.message for finding in findings.values())
    return findings


def test_a_sound_recipe_has_no_findings(recipe: Path) -> None:
    assert found(recipe) == {}


def test_rule_ids_are_unique_and_kebab_case() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in ids)
    assert all(rule.summary and rule.source for rule in RULES)


CASES = [
    # quantize and gate
    (["quantize={method: ptq}", "quantize.format=null"], "quantize-format-missing", "error", "quantize"),
    (["quantize.recipe=general/ptq/x"], "quantize-format-and-recipe", "error", "quantize.format"),
    (["quantize.method=none"], "quantize-setting-unused", "error", "quantize.format"),
    (
        ["quantize={method: prequantized, kv_cache: fp8}", "quantize.format=null"],
        "quantize-setting-unused",
        "error",
        "quantize.kv_cache",
    ),
    (
        ["quantize={recipe: general/x, format: null, overrides: [{modules: a, format: fp8}]}"],
        "quantize-overrides-with-recipe",
        "error",
        "quantize.overrides",
    ),
    (
        ["quantize.overrides=[{modules: a, format: fp8}, {modules: a, format: nvfp4}]"],
        "quantize-override-shadowed",
        "warning",
        "quantize.overrides[0]",
    ),
    (
        ["quantize.overrides=[{modules: '*', format: none}]"],
        "quantize-override-everything",
        "error",
        "quantize.overrides[0]",
    ),
    (["quantize={format: null, recipe: ../x}"], "quantize-recipe-name", "error", "quantize.recipe"),
    (["quantize={format: null, recipe: /etc/x}"], "quantize-recipe-name", "error", "quantize.recipe"),
    (["layout.gpu=H100"], "quantize-format-on-gpu", "error", "quantize.format"),
    (
        ["layout.gpu=RTX5090", "quantize.format=fp8_block_weight_only"],
        "quantize-format-on-gpu",
        "error",
        "quantize.format",
    ),
    (
        ["layout.gpu=H100", "quantize.format=nvfp4_weight_only"],
        "quantize-format-on-gpu",
        "warning",
        "quantize.format",
    ),
    (["layout.gpu=dgx-spark"], "quantize-format-on-gpu", "warning", "quantize.format"),
    (
        ["layout.gpu=H100", "quantize={format: fp8, overrides: [{modules: a, format: nvfp4}]}"],
        "quantize-format-on-gpu",
        "error",
        "quantize.overrides[0].format",
    ),
    (
        ["layout.gpu=RTX5090", "quantize.kv_cache=nvfp4"],
        "quantize-kv-cache-on-gpu",
        "error",
        "quantize.kv_cache",
    ),
    (["quantize.kv_cache=nvfp4"], "quantize-kv-cache-nvfp4-gate", "warning", "quantize.kv_cache"),
    (["gate.max_bits_per_weight=4.2"], "gate-bits-impossible", "error", "gate.max_bits_per_weight"),
    # engine
    (["engine.tensorrt_llm='1.1.0'"], "engine-version-unknown", "error", "engine.tensorrt_llm"),
    (["engine.tensorrt_llm='1.2.0'"], "engine-version-approximate", "warning", "engine.tensorrt_llm"),
    (["engine.max_num_tokens=8"], "engine-tokens-below-batch", "warning", "engine.max_num_tokens"),
    (["engine.max_num_tokens=4096"], "engine-tokens-below-prompt", "warning", "engine.max_num_tokens"),
    (
        ["engine.llm_args={cuda_graph_config: {batch_sizes: [1, 128]}}"],
        "engine-graph-sizes",
        "error",
        "engine.llm_args.cuda_graph_config.batch_sizes",
    ),
    (
        ["engine.llm_args={cuda_graph_config: {batch_sizes: [1, 8], max_batch_size: 4}}"],
        "engine-graph-sizes",
        "error",
        "engine.llm_args.cuda_graph_config.max_batch_size",
    ),
    (
        ["engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 0.99}}"],
        "engine-kv-fraction",
        "warning",
        "engine.llm_args.kv_cache_config.free_gpu_memory_fraction",
    ),
    (
        ["engine.llm_args={kv_cache_config: {free_gpu_memory_fraction: 0}}"],
        "engine-kv-fraction",
        "error",
        "engine.llm_args.kv_cache_config.free_gpu_memory_fraction",
    ),
    (
        ["engine.llm_args={enable_chunked_prefil: true}"],
        "llm-args-unknown-key",
        "error",
        "engine.llm_args.enable_chunked_prefil",
    ),
    # layout
    (["layout.tp=2"], "layout-world-size", "error", "layout"),
    (["layout={tp: 4, gpus_per_node: 4, ep: 3}"], "layout-ep-divides-tp", "error", "layout.ep"),
    (["layout.gpu=B2000"], "layout-gpu-unknown", "error", "layout.gpu"),
    (["layout.gpu=jetson-thor"], "layout-gpu-runtime", "error", "layout.gpu"),
    (["layout.gpu=dgx-spark"], "layout-gpu-runtime", "warning", "layout.gpu"),
    (
        ["layout={gpu: GB200, gpus_per_node: 8, tp: 8}"],
        "layout-gpus-per-node",
        "warning",
        "layout.gpus_per_node",
    ),
    (
        ["layout={gpu: rtx-pro-6000, gpus_per_node: 2, tp: 2}"],
        "layout-tp-without-nvlink",
        "warning",
        "layout.tp",
    ),
    (["layout={gpus_per_node: 3, tp: 3}"], "layout-tp-power-of-two", "warning", "layout.tp"),
    # serve
    (["engine.tensorrt_llm='1.3.0rc20'"], "serve-no-triton-image", "error", "engine.tensorrt_llm"),
    (["serve.flush_interval_ms=0"], "serve-flush-without-effect", "warning", "serve.flush_interval_ms"),
    (
        ["serve={cumulative_text: true, streaming: false}"],
        "serve-cumulative-without-streaming",
        "warning",
        "serve.cumulative_text",
    ),
    (["serve.max_output_tokens=8192"], "serve-output-beyond-sequence", "warning", "serve.max_output_tokens"),
    (["serve.max_running=65"], "serve-running-beyond-batch", "warning", "serve.max_running"),
    # source
    (["model.source=hf://justaname"], "source-form", "error", "model.source"),
    (["model.source=package://dist/../../etc/passwd"], "source-form", "error", "model.source"),
    (["model.source=hf://org/name"], "source-revision-missing", "error", "model.source"),
    (["model.source=hf://org/name@main"], "source-revision-moves", "warning", "model.source"),
    (
        ["quantize.calibration.dataset=hf://org/name"],
        "source-revision-missing",
        "error",
        "quantize.calibration.dataset",
    ),
    (["model.source=file:///nowhere/at/all"], "source-file-missing", "error", "model.source"),
    (
        ["quantize.calibration.dataset=file:///nowhere.txt"],
        "source-file-missing",
        "error",
        "quantize.calibration.dataset",
    ),
    (
        ["quantize={format: null, recipe: 'file:///nowhere.yaml'}"],
        "source-file-missing",
        "error",
        "quantize.recipe",
    ),
    (["gate.evaluation.dataset=ftp://x"], "source-dataset-form", "error", "gate.evaluation.dataset"),
    (["model.source=package://no-such-dist/m.gguf"], "source-package-missing", "warning", "model.source"),
    # security
    (["model.trust_remote_code=true"], "security-trust-remote-code", "warning", "model.trust_remote_code"),
    (
        ["model={source: 'hf://a/b@main', trust_remote_code: true}"],
        "security-trust-unpinned-code",
        "error",
        "model.source",
    ),
]


@pytest.mark.parametrize(
    ("overrides", "rule", "severity", "path"), CASES, ids=[f"{case[1]}:{case[0][0]}" for case in CASES]
)
def test_a_rule_finds_its_problem_at_its_place(
    recipe: Path, overrides: list[str], rule: str, severity: str, path: str
) -> None:
    finding = found(recipe, *overrides)[rule]
    assert (finding.severity, finding.path) == (severity, path)


def test_every_rule_has_a_case() -> None:
    covered = {rule for _, rule, _, _ in CASES} | {"source-not-a-model", "engine-version-installed"}
    elsewhere = {rule.id for rule in RULES if rule.id.startswith("llm-args-")}
    assert {rule.id for rule in RULES} - elsewhere <= covered


@pytest.mark.parametrize("name", ["weights.bin", "."])
def test_a_file_or_directory_that_is_no_model_is_named(recipe: Path, name: str) -> None:
    finding = found(recipe, f"model.source=file://{recipe.parent / name}")["source-not-a-model"]
    assert finding.severity == "error"


@pytest.mark.parametrize(
    "overrides",
    [
        ["layout.gpu=B200", "quantize.kv_cache=nvfp4", "gate.max_perplexity_increase=0.1"],
        ["layout={gpu: B200, gpus_per_node: 8, tp: 4, pp: 2, ep: 2}"],
        ["layout.gpu=H100", "quantize.format=fp8", "quantize.kv_cache=fp8"],
        ["engine.max_num_tokens=4096", "engine.llm_args.enable_chunked_prefill=true"],
        ["engine.tensorrt_llm='1.2.1'", "serve.runtime=reference"],
        ["quantize={format: null, method: none}"],
        ["quantize={format: null, recipe: general/ptq/nvfp4_default-kv_fp8_cast}"],
        ["model.source=hf://org/name@0123456789abcdef0123456789abcdef01234567"],
    ],
)
def test_rules_stay_silent_about_what_is_right(recipe: Path, overrides: list[str]) -> None:
    assert found(recipe, *overrides) == {}


def test_the_reference_runtime_needs_no_triton_image(recipe: Path) -> None:
    findings = found(recipe, "engine.tensorrt_llm='1.3.0rc20'", "serve.runtime=reference")
    assert set(findings) == {"engine-version-approximate"}


def test_a_finding_points_to_the_line_of_the_recipe(recipe: Path) -> None:
    recipe.write_text(RECIPE + "engine:\n  llm_args:\n    moe_config:\n      backend: AUTO\n")
    finding = found(recipe)["llm-args-renamed"]
    assert (finding.file, finding.line, finding.column) == (str(recipe), 8, 16)
    assert finding.path == "engine.llm_args.moe_config.backend"


def test_an_unknown_gpu_names_the_nearest(recipe: Path) -> None:
    assert found(recipe, "layout.gpu=B20")["layout-gpu-unknown"].hint.startswith("Did you mean b")


def test_rules_never_compare_compute_capabilities_by_order() -> None:
    """Kernels exist for named architectures only, so SM >= 100 is always wrong."""
    for file in (PROJECT / "src" / "bwdeploy" / "checks").glob("*.py"):
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
    for rule in RULES:
        for problem in rule.find(subject):
            assert problem.message
            assert problem.hint
