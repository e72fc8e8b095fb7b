"""A group that is split by names and patterns, against looking at every name of it."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bwdeploy.model.shape import Weight
from bwdeploy.planner.weights.module_patterns import ModuleList, matches, split_group

LAYERS = (0, 1, 5, 10, 12, 55)
GROUPS = (
    Weight("lm_head", "head", 8, 8),
    Weight("model.layers.{layer}.self_attn.q_proj", "attention", 8, 8, LAYERS),
    Weight("model.layers.{layer}.mlp.down_proj", "ffn", 8, 8, LAYERS[:2]),
    Weight("model.layers.{layer}.mlp.experts.{expert}.up_proj", "expert", 8, 8, LAYERS[2:], copies=13),
    Weight("vision.blocks.3.proj", "vision", 8, 8),
)
PIECES = (
    "model", "layers", "0", "1", "5", "12", "1*", "5?", "[0-1]", "*", "?", "mlp", "self_attn", "experts", "3",
    "*proj", "up_proj", "q_proj", "lm_head", "vision", "blocks", "1*.mlp",
)  # fmt: skip
PATTERNS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(".".join)


def names(weight: Weight, layer: int) -> list[str]:
    module = weight.module.replace("{layer}", str(layer))
    return [module.replace("{expert}", str(expert)) for expert in range(weight.copies)]


def counted(parts: object) -> Counter[tuple[int, bool]]:
    found: Counter[tuple[int, bool]] = Counter()
    for part, verdict in parts:  # type: ignore[attr-defined]
        for layer in part.layers or (0,):
            found[layer, verdict] += part.copies
    return found


@given(PATTERNS, st.sampled_from(GROUPS))
def test_a_pattern_splits_as_name_by_name(pattern: str, weight: Weight) -> None:
    expected = Counter(
        (layer, fnmatchcase(name, pattern))
        for layer in weight.layers or (0,)
        for name in names(weight, layer)
    )
    assert counted(split_group(weight, pattern)) == expected


@given(st.lists(PATTERNS, max_size=4), st.sampled_from([one for one in GROUPS if one.role != "expert"]))
def test_a_list_covers_what_one_of_its_entries_covers(entries: list[str], weight: Weight) -> None:
    def covered(name: str) -> bool:
        return any(fnmatchcase(name, entry) or fnmatchcase(name, f"{entry}.*") for entry in entries)

    expected = Counter((layer, covered(names(weight, layer)[0])) for layer in weight.layers or (0,))
    assert counted(ModuleList.of(entries).split(weight)) == expected


@pytest.mark.parametrize(
    ("entry", "covered"),
    [
        ("model.layers.5.mlp", {5: 13}),
        ("model.layers.5.mlp.experts.0.up_proj", {5: 13}),  # all experts of a layer are listed, or none
        ("model.layers.1*", {10: 13, 12: 13}),
        ("model.layers.12.mlp.experts.1*", {12: 4}),
        ("model.layers.*.mlp.experts.12.*", {5: 1, 10: 1, 12: 1, 55: 1}),
    ],
)
def test_entries_of_experts(entry: str, covered: dict[int, int]) -> None:
    found = counted(ModuleList.of([entry]).split(GROUPS[3]))
    assert {layer: count for (layer, verdict), count in found.items() if verdict} == covered


@given(name=st.text("ab.", max_size=8), pattern=st.text("ab.*", max_size=7))
def test_stars_mean_what_fnmatch_says(name: str, pattern: str) -> None:
    assert matches(name, pattern) == fnmatchcase(name, pattern)
