"""One table of spellings, for the checker and for migrations."""

from __future__ import annotations

from itertools import combinations

import pytest

from bwdeploy.checks.schema_walk import SchemaWalk
from bwdeploy.facts.llm_arg_renames import always_renamed, renames
from bwdeploy.facts.llm_arg_spellings import arrivals, concepts, translated_versions
from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import parse_version


def lists() -> dict[str, SchemaWalk]:
    return {
        version: SchemaWalk(read_data(f"llm_args_{name}.json"))
        for version, name in (("1.2.1", "1.2.1"), ("1.3.0rc20", "1.3"))
    }


@pytest.mark.parametrize("version", translated_versions())
def test_a_version_has_one_right_spelling_of_a_concept(version: str) -> None:
    parsed = parse_version(version)
    assert parsed is not None
    for concept in concepts():
        right = [one.path for one in concept.spellings if one.kind == "right" and one.holds(parsed)]
        assert len(right) <= 1, concept.name


def test_right_spellings_stand_in_the_lists_of_their_versions() -> None:
    checked = 0
    for version, walk in lists().items():
        parsed = parse_version(version)
        assert parsed is not None
        for concept in concepts():
            right = concept.spelling_for(parsed)
            if right is not None and right.path[0] != "lora_config":  # any keys, to the lists
                assert walk.property_at(right.path), (version, right.path)
                checked += 1
    assert checked > 70


def test_wrong_spellings_stand_in_no_list() -> None:
    for walk in lists().values():
        for concept in concepts():
            for spelling in concept.spellings:
                assert spelling.kind != "wrong" or not walk.property_at(spelling.path), spelling.path


def test_keys_that_came_later_stand_in_the_list_of_1_2() -> None:
    walk = lists()["1.2.1"]
    assert [path for path in arrivals() if not walk.property_at(path)] == []


def test_two_concepts_do_not_claim_one_key_at_once() -> None:
    for version in translated_versions():
        parsed = parse_version(version)
        assert parsed is not None
        named = [(concept, concept.spelling_for(parsed)) for concept in concepts()]
        for (one, first), (two, second) in combinations(named, 2):
            if first is not None and second is not None and first.path == second.path:
                assert one.when or two.when, (version, first.path)


def test_every_concept_says_where_it_was_read() -> None:
    assert all(concept.source for concept in concepts())
    assert len(concepts()) >= 55


def test_an_old_key_is_renamed_for_versions_that_have_another() -> None:
    rows = {row.found: row for row in renames("1.2.1")}
    assert rows["moe_backend",].use == "moe_config.backend"
    assert rows["enable_overlap_scheduler",].use == "disable_overlap_scheduler, with the opposite value"
    assert rows["speculative_config", "pytorch_weights_path"].use == "speculative_config.speculative_model"
    assert ("moe_config", "backend") in rows  # AUTO
    assert ("speculative_config", "speculative_model_dir") not in rows


def test_what_no_version_wants_is_the_same_for_all() -> None:
    keys = {row.found for row in always_renamed()}
    assert {("kv_cache_dtype",), ("build_config",), ("pytorch_backend_config",)} <= keys
    assert ("speculative_config", "max_draft_len") not in keys
    assert renames("nonsense") == ()
