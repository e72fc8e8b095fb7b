"""The real search of ModelOpt on a tiny model, on the CPU."""

from __future__ import annotations

from importlib import import_module
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.schema import FormatOverride, FormatSearch
from tests.worker.jobs_in_process import audit_tiny, quantize_tiny
from tests.worker.tiny_llama import make_tiny_llama
from tests.worker.training.searches import BUDGET, Searched, search_tiny

if TYPE_CHECKING:
    from pathlib import Path


def tensors_of(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = import_module("safetensors.torch").load_file(directory / "model.safetensors")
    return loaded


@pytest.fixture(scope="module")
def searched(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """The default search at 6 bits."""
    return search_tiny(tiny_llama, tmp_path_factory.mktemp("search"))


def test_budget_is_used_and_every_layer_is_scored(searched: Searched) -> None:
    result = searched.result
    groups = result.sensitivity
    assert result.effective_bits is not None
    assert 5.5 < result.effective_bits <= BUDGET
    assert sum(len(group.modules) for group in groups) == result.quantized_modules == 14
    assert {group.chosen for group in groups} == {"nvfp4", "fp8"}
    for group in groups:
        assert list(group.scores) == ["nvfp4", "fp8", "none"]
        assert group.scores["nvfp4"] > group.scores["fp8"] > group.scores["none"] == 0.0
        assert group.bits["nvfp4"] * 16 == group.bits["none"] * 4.5


def test_no_choice_within_the_budget_does_less_damage(searched: Searched) -> None:
    groups = searched.result.sensitivity
    weights = sum(group.bits["none"] for group in groups) / 16

    def damage(words: tuple[str, ...]) -> float:
        return sum(group.scores[word] for group, word in zip(groups, words, strict=True))

    def bits(words: tuple[str, ...]) -> float:
        return sum(group.bits[word] for group, word in zip(groups, words, strict=True)) / weights

    choices = product(*(group.scores for group in groups))
    best = min(damage(words) for words in choices if bits(words) <= BUDGET)
    assert damage(tuple(group.chosen for group in groups)) == pytest.approx(best, rel=1e-9)


def test_checkpoint_is_clean_and_as_large_as_promised(searched: Searched, tiny_llama: Path) -> None:
    report = audit_tiny(searched.out, tiny_llama)
    assert report.findings == ()
    assert report.quant_algo == searched.result.quant_algo == "MIXED_PRECISION"
    assert report.activations == "quantized"
    assert report.bits_per_quantized_parameter == pytest.approx(searched.result.effective_bits, abs=0.05)


def test_recipe_that_lists_the_found_formats_gives_the_same_bytes(
    searched: Searched, tiny_llama: Path, tmp_path: Path
) -> None:
    found = [
        FormatOverride.model_validate({"modules": name, "format": group.chosen})
        for group in searched.result.sensitivity
        for name in group.modules
    ]
    quantize_tiny(tiny_llama, tmp_path / "ptq", format="nvfp4", overrides=tuple(found))
    assert (tmp_path / "ptq/model.safetensors").read_bytes() == (
        searched.out / "model.safetensors"
    ).read_bytes()


def test_same_request_finds_the_same(searched: Searched, tiny_llama: Path, tmp_path: Path) -> None:
    assert search_tiny(tiny_llama, tmp_path).result.sensitivity == searched.result.sensitivity


def test_progress_counts_calibration_and_scoring(searched: Searched) -> None:
    for phase, total in (("search: calibrate", 4), ("search: score", 2)):
        counted = [said.done for said in searched.said if said.phase == phase]
        assert counted == list(range(total))
        assert {said.total for said in searched.said if said.phase == phase} == {total}


def test_interrupted_build_does_not_search_again(
    searched: Searched, tiny_llama: Path, tmp_path: Path
) -> None:
    again = search_tiny(tiny_llama, tmp_path, state=searched.state)
    assert [said for said in again.said if said.phase.startswith("search")] == []
    assert again.result.sensitivity == searched.result.sensitivity
    assert again.result.effective_bits == searched.result.effective_bits


def test_overrides_kv_cache_and_the_head_keep_out_of_the_budget(tmp_path: Path) -> None:
    (tmp_path / "untied").mkdir()
    source = make_tiny_llama(tmp_path / "untied", tie_word_embeddings=False)
    overrides = (
        FormatOverride(modules="*.layers.0.mlp.*", format="none"),
        FormatOverride(modules="*.layers.1.self_attn.*", format="fp8"),
    )
    # only feasible when nothing but the searched layers counts
    lowest = FormatSearch(effective_bits=4.5, score_batches=1)
    searched = search_tiny(source, tmp_path / "out", overrides=overrides, kv_cache="fp8", search=lowest)
    tensors = tensors_of(searched.out)
    assert str(tensors["lm_head.weight"].dtype) == "torch.bfloat16"
    assert str(tensors["model.layers.0.mlp.up_proj.weight"].dtype) == "torch.bfloat16"
    assert str(tensors["model.layers.1.self_attn.o_proj.weight"].dtype) == "torch.float8_e4m3fn"
    assert searched.result.effective_bits == 4.5
    assert searched.result.kv_cache_quant_algo == "FP8"
    names = [name for group in searched.result.sensitivity for name in group.modules]
    assert len(names) == 7
    assert all(str(tensors[f"{name}.weight"].dtype) == "torch.uint8" for name in names)
    assert audit_tiny(searched.out, source, kv_cache="fp8").findings == ()


@pytest.mark.slow
def test_engine_gets_the_found_formats_too(tiny_llama: Path, tmp_path: Path) -> None:
    searched = search_tiny(tiny_llama, tmp_path, layout="tensorrt_llm")
    assert searched.result.quant_algo == "MIXED_PRECISION"
    report = audit_tiny(searched.out, tiny_llama, layout="tensorrt_llm")
    assert report.findings == ()
    assert report.quant_algo == "MIXED_PRECISION"


def test_scoring_by_divergence_keeps_the_budget(tiny_llama: Path, tmp_path: Path) -> None:
    search = FormatSearch(effective_bits=BUDGET, scoring="kl_div", score_batches=1)
    result = search_tiny(tiny_llama, tmp_path, search=search).result
    worst = max(group.scores[group.chosen] for group in result.sensitivity)
    assert result.effective_bits is not None
    assert 4.5 < result.effective_bits <= BUDGET
    # what got the smaller format would all have been better with the larger one, and the rest needed it
    assert all(group.scores["nvfp4"] > worst for group in result.sensitivity if group.chosen == "fp8")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": FormatSearch(effective_bits=4.2)}, "it is 4.5. Set 4.5 or more"),
        pytest.param(
            {"search": FormatSearch(effective_bits=16.0, score_batches=1)},
            "leaves every layer unquantized",
            marks=pytest.mark.slow,
        ),
        ({"kv_cache": "fp4"}, "'fp4' is no format"),
        (
            {
                "layout": "tensorrt_llm",
                "search": FormatSearch(formats=("nvfp4", "fp8_per_channel_per_token")),
            },
            "replaces whole blocks of an engine",
        ),
    ],
)
def test_what_cannot_work_is_refused(
    changes: dict[str, Any], words: str, tiny_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        search_tiny(tiny_llama, tmp_path, **changes)
    assert words in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
