from __future__ import annotations

from typing import Any

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.recipe.schema import FormatOverride, FormatSearch
from bwdeploy.worker.training.search_scores import ScoredGroup, choose_by_worst
from bwdeploy.worker.training.search_space import (
    Group,
    Layer,
    effective_bits,
    layer_config,
    require_feasible,
    search_space,
)

ATTENTION = tuple(f"model.layers.0.self_attn.{name}_proj" for name in "qkv")
MLP = tuple(f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up"))
DOWN = "model.layers.0.mlp.down_proj"
LAYERS = {
    **dict.fromkeys(ATTENTION, Layer(width=64, weights=1000)),
    **dict.fromkeys(MLP, Layer(width=64, weights=2000)),
    DOWN: Layer(width=160, weights=2000),
    "lm_head": Layer(width=64, weights=90_000),
}


def found(*overrides: FormatOverride, layers: dict[str, Layer] = LAYERS, **search: Any) -> list[Group]:
    return list(search_space(FormatSearch.model_validate(search), overrides, layers).groups)


def refusal(*overrides: FormatOverride, **search: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        found(*overrides, **search)
    return str(caught.value)


def test_layers_that_engines_fuse_are_one_group_and_the_head_is_not_searched() -> None:
    both = ("nvfp4", "fp8")
    assert found() == [Group(ATTENTION, both, 3000), Group(MLP, both, 4000), Group((DOWN,), both, 2000)]
    assert search_space(FormatSearch(), (), LAYERS).undecided == ("lm_head",)


def test_format_for_some_layers_is_offered_to_those_only() -> None:
    groups = found(formats=("nvfp4_mlp_only", "fp8"))
    assert [group.formats for group in groups] == [
        ("fp8",),
        ("nvfp4_mlp_only", "fp8"),
        ("nvfp4_mlp_only", "fp8"),
    ]


def test_format_whose_blocks_do_not_divide_a_layer_is_not_offered_to_it() -> None:
    layers = LAYERS | {DOWN: Layer(width=40, weights=2000)}
    assert [group.formats for group in found(layers=layers)][-1] == ("fp8",)


def test_layers_that_an_override_decides_are_not_searched() -> None:
    space = search_space(FormatSearch(), (FormatOverride(modules="*.mlp.*", format="none"),), LAYERS)
    assert [group.modules for group in space.groups] == [ATTENTION]
    assert space.overridden == (*MLP, DOWN)


def test_override_decides_only_layers_that_its_format_quantizes() -> None:
    override = FormatOverride(modules="*", format="nvfp4_mlp_only")
    assert [group.modules for group in found(override)] == [ATTENTION]


def test_override_that_splits_fused_layers_is_refused() -> None:
    message = refusal(FormatOverride(modules="*.q_proj", format="none"))
    assert "fuse it with model.layers.0.self_attn.k_proj" in message


def test_search_without_layers_is_refused() -> None:
    assert "no layer of the model is left" in refusal(FormatOverride(modules="*", format="fp8"))


@pytest.mark.parametrize("word", ["nvfp4_awq_lite", "nvfp4_four_over_six"])
def test_format_with_its_own_calibration_cannot_be_searched(word: str) -> None:
    message = refusal(formats=("fp8", word))
    assert "quantize.search.formats[1]" in message
    assert "calibration algorithm of its own" in message


def test_infeasible_budget_names_the_smallest_feasible_one() -> None:
    mixed = FormatSearch(formats=("nvfp4_mlp_only", "fp8"), effective_bits=5.0)
    # (3000 x 8 + 6000 x 4.5) / 9000: the head's 90,000 weights do not count
    with pytest.raises(RecipeError, match=r"5 bits cannot be reached.* it is 5\.6667\. Set 5\.6667 or more"):
        require_feasible(mixed, search_space(mixed, (), LAYERS).groups)
    enough = mixed.model_copy(update={"effective_bits": 5.6667})
    require_feasible(enough, search_space(enough, (), LAYERS).groups)


def test_effective_bits_are_weighted_by_weights() -> None:
    pairs = [(Group(ATTENTION, ("fp8",), 3000), "fp8"), (Group(MLP, ("nvfp4",), 1000), "none")]
    assert effective_bits(pairs) == 10.0


def test_configuration_of_a_layer_does_not_depend_on_its_name() -> None:
    entries = layer_config("nvfp4_mlp_only", DOWN)["quant_cfg"]
    assert [entry["quantizer_name"] for entry in entries] == ["*", "*weight_quantizer", "*input_quantizer"]
    assert layer_config("nvfp4", DOWN)["quant_cfg"] == entries


def scored(name: str, chosen: str, **scores: float) -> ScoredGroup:
    return ScoredGroup(Group((name,), ("nvfp4", "fp8"), 100), scores, chosen)


def test_worst_group_is_kept_as_good_as_the_budget_allows() -> None:
    groups = (
        scored("a", "none", nvfp4=9.0, fp8=2.0, none=0.0),
        scored("b", "none", nvfp4=3.0, fp8=1.0, none=0.0),
        scored("c", "none", nvfp4=1.5, fp8=0.5, none=0.0),
    )
    assert [group.chosen for group in choose_by_worst(groups, 8.0)] == ["fp8", "fp8", "nvfp4"]
    assert [group.chosen for group in choose_by_worst(groups, 6.0)] == ["fp8", "nvfp4", "nvfp4"]
    assert [group.chosen for group in choose_by_worst(groups, 4.5)] == ["nvfp4", "nvfp4", "nvfp4"]
