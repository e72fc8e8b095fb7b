"""Which versions exist and fit together."""

from __future__ import annotations

import pytest

from bwdeploy.facts.formats import format_table
from bwdeploy.facts.stacks import (
    bad_pairs,
    image_security,
    known_versions,
    last_with_engines,
    may_exist,
    modelopt_used,
    stacks,
    unknown_algorithms,
)
from bwdeploy.facts.versions import parse_version


@pytest.mark.parametrize(
    "version", ["1.2.0", "1.2.1", "1.2.0rc3", "1.3.0rc20", "1.3.0rc29", "1.4.0rc1", "1.0.3", "0.20.0"]
)
def test_a_published_version_exists(version: str) -> None:
    assert may_exist(version)


@pytest.mark.parametrize("version", ["1.2.2", "1.3.0rc30", "1.3.0", "1.4.0rc5", "1.4.0", "1.5.0", "2.0.0"])
def test_a_version_that_may_have_come_out_since_is_believed(version: str) -> None:
    assert may_exist(version)


@pytest.mark.parametrize("version", ["1.2.11", "1.2.7", "1.3.0rc99", "1.2.0rc9", "1.1.9", "1.2", "x", ""])
def test_a_version_that_never_was_does_not_exist(version: str) -> None:
    assert not may_exist(version)


def test_every_known_version_can_be_ordered() -> None:
    assert all(parse_version(name) is not None for name in known_versions())
    assert last_with_engines() in known_versions()


def test_images_are_in_order_and_name_their_driver() -> None:
    assert [stack.image for stack in stacks()] == sorted(stack.image for stack in stacks())
    assert all(stack.driver and stack.cuda for stack in stacks())
    fixed, advised = image_security()
    assert stacks()[0].image <= fixed < advised <= stacks()[-1].image


def test_words_that_older_versions_do_not_know_are_words_of_our_formats() -> None:
    words = {facts.quant_algo for facts in format_table().formats.values()}
    assert {row.quant_algo for row in unknown_algorithms()} <= words
    assert parse_version(modelopt_used()) is not None


def test_bad_pairs_name_their_thread() -> None:
    assert bad_pairs()
    assert all(pair.source.startswith("https://") for pair in bad_pairs())
