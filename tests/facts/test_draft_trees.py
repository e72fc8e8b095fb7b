"""Trees of drafted tokens, measured as the engine and the server measure them."""

from __future__ import annotations

import pytest

from bwdeploy.facts.draft_trees import draft_tree, given_choices, orphans

TREE = [[0], [1], [0, 0], [1, 0], [0, 0, 0]]


def test_a_given_tree_decides_depth_and_width() -> None:
    tree = draft_tree("eagle", 63, {"eagle_choices": TREE, "medusa_choices": [[0]]})
    assert (tree.nodes, tree.depth, tree.widest, tree.choices) == (5, 3, 2, TREE)


def test_sixty_three_tokens_mean_the_tree_that_the_server_takes_by_itself() -> None:
    assert draft_tree("medusa", 63, {}) == (63, 4, 10, None)


def test_any_other_number_is_a_chain() -> None:
    assert draft_tree("eagle", 3, {}) == (3, 3, 1, [[0], [0, 0], [0, 0, 0]])


@pytest.mark.parametrize("value", [None, [], [[]], [0], "[[0]]", [[0], [True]], [[-1]], {"a": 1}])
def test_what_is_no_tree_counts_as_none(value: object) -> None:
    assert given_choices("eagle", {"eagle_choices": value}) is None


def test_a_node_without_its_predecessor_is_found() -> None:
    assert orphans([*TREE, [2, 0]]) == [[2, 0]]
    assert orphans(TREE) == []
