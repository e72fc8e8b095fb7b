from __future__ import annotations

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.kernels.ops import read_ops
from bwdeploy.kernels.selection import chosen_ops, chosen_sms
from tests.kernels.sample import SAMPLE_PLUGINS

OPS = read_ops(SAMPLE_PLUGINS)


def test_nothing_named_means_everything() -> None:
    assert [op.name for op in chosen_ops((), OPS)] == ["double_rows"]
    assert chosen_sms((), tuple(OPS.values())) == ("sm_90a", "sm_120a")


def test_repeated_words_count_once() -> None:
    assert len(chosen_ops(("double_rows", "double_rows"), OPS)) == 1
    assert chosen_sms(("sm_120a", "sm_120a"), tuple(OPS.values())) == ("sm_120a",)


def test_unknown_op_is_told_with_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"no op 'double_row'.*Did you mean double_rows"):
        chosen_ops(("double_row",), OPS)


def test_unknown_op_far_from_all_is_told_with_the_list() -> None:
    with pytest.raises(RecipeError, match="The ops are double_rows"):
        chosen_ops(("xyz",), OPS)


def test_architecture_that_an_op_is_not_made_for_is_refused_with_those_it_is_made_for() -> None:
    with pytest.raises(RecipeError, match=r"double_rows is not made for .*'sm_100a'.*sm_90a, sm_120a"):
        chosen_sms(("sm_90a", "sm_100a"), tuple(OPS.values()))
