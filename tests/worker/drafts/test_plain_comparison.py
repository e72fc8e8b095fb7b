from __future__ import annotations

import pytest
import torch

from bwdeploy.errors import ToolError
from bwdeploy.worker.drafts.pair import Acceptance
from bwdeploy.worker.drafts.plain_comparison import count_differences, refuse_other_logits
from bwdeploy.worker.drafts.target_model import TargetModel
from tests.worker.drafts.tiny_pair import PROMPTS, make_target, tiny_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    return tiny_target(make_target(tmp_path_factory.mktemp("target")))


def said(*tokens: int) -> Acceptance:
    return Acceptance(list(tokens), (0,) * len(tokens), (1,) * len(tokens))


def ranked(target: TargetModel, text: tuple[int, ...]) -> list[int]:
    """Tokens after `text`, the most likely first."""
    with torch.no_grad():
        logits = target.model(input_ids=torch.tensor([text])).logits[0, -1]
    order: list[int] = logits.argsort(descending=True).tolist()
    return order


def test_same_answers_differ_nowhere_even_where_one_goes_on(target: TargetModel) -> None:
    plain, longer = [said(1, 2, 3)] * 3, [said(1, 2, 3, 9)] * 3
    assert count_differences(target, PROMPTS, plain, [longer, plain], new_tokens=8) == 0
    assert count_differences(target, PROMPTS, plain, [[said(1, 2, 4)] * 3], new_tokens=2) == 0


def test_tokens_of_nearly_the_same_rank_are_counted_once_an_answer(target: TargetModel) -> None:
    first, second, *_ = ranked(target, PROMPTS[0])
    plain = [said(first, 5, 6), said(1, 2, 3), said(1, 2, 3)]
    other = [said(second, 7, 8), said(1, 2, 3), said(1, 2, 3)]
    assert count_differences(target, PROMPTS, plain, [other, other], new_tokens=3) == 2


def test_unlikely_token_is_a_fault_and_no_rounding(target: TargetModel) -> None:
    order = ranked(target, PROMPTS[0])
    plain, other = [said(order[0])] * 3, [said(order[-1]), said(order[0]), said(order[0])]
    with pytest.raises(ToolError, match="more than rounding does"):
        count_differences(target, PROMPTS, plain, [other], new_tokens=1)


def test_one_unlikely_token_of_many_answers_is_rounding_at_its_worst(target: TargetModel) -> None:
    order = ranked(target, PROMPTS[0])
    rest = [said(1), said(1)]
    plain, close = [said(order[0]), *rest], [said(order[1]), *rest]
    far = [said(order[-1]), *rest]
    assert count_differences(target, PROMPTS, plain, [*[close] * 9, far], new_tokens=1) == 10
    with pytest.raises(ToolError, match="more than rounding does"):
        count_differences(target, PROMPTS, plain, [*[close] * 9, *[far] * 3], new_tokens=1)


def test_all_draft_lengths_are_looked_at_where_many_answers_differ(target: TargetModel) -> None:
    order = ranked(target, PROMPTS[0])
    rest = [said(1), said(1)]
    plain, close = [said(order[0]), *rest], [said(order[1]), *rest]
    far = [said(order[-1]), *rest]
    with pytest.raises(ToolError, match="more than rounding does"):
        count_differences(target, PROMPTS, plain, [*[close] * 70, *[far] * 50], new_tokens=1)


def test_logits_by_position_are_the_models_own(target: TargetModel, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_other_logits(target, PROMPTS[0])
    monkeypatch.setattr(target, "logits", lambda hidden: target.model.lm_head(hidden.flip(1)))
    with pytest.raises(ToolError, match="the target's logits move by"):
        refuse_other_logits(target, PROMPTS[0])
