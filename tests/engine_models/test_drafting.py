from __future__ import annotations

import pytest

from bwdeploy_engine_models.tensorrt_llm_bls.drafting import Draft, Ends, draft_and_verify


@pytest.mark.parametrize("right", [0, 1, 3])
def test_drafting_needs_fewer_rounds_the_better_the_drafts(right: int) -> None:
    truth = list(range(100, 112))
    rounds = 0

    def verify(answer: list[int], draft: Draft) -> list[int]:
        nonlocal rounds
        rounds += 1
        following = truth[len(answer) :]
        agreed = next(
            (n for n, (a, b) in enumerate(zip(draft.tokens, following, strict=False)) if a != b),
            len(draft.tokens),
        )
        return following[: agreed + 1]

    def propose(answer: list[int], wanted: int) -> Draft:
        following = truth[len(answer) : len(answer) + wanted]
        return Draft([token if place < right else -2 for place, token in enumerate(following)])

    found = draft_and_verify(
        max_tokens=12, draft_tokens=3, ends=Ends(end_id=0), propose=propose, verify=verify
    )
    assert (found, rounds) == (truth, 12 // (right + 1))


@pytest.mark.parametrize(
    ("ends", "wanted"), [(Ends(102), 3), (Ends(0, [[101, 102]]), 3), (Ends(0, [[], [104]]), 5), (Ends(0), 6)]
)
def test_drafting_ends_at_the_end_token_and_at_stop_words(ends: Ends, wanted: int) -> None:
    found = draft_and_verify(
        max_tokens=6,
        draft_tokens=2,
        ends=ends,
        propose=lambda _answer, wanted: Draft([0] * wanted),
        verify=lambda answer, draft: [100 + len(answer) + n for n in range(len(draft.tokens) + 1)],
    )
    assert found == [100 + n for n in range(wanted)]


def test_a_target_that_ends_at_once_ends_the_answer() -> None:
    found = draft_and_verify(
        max_tokens=6,
        draft_tokens=2,
        ends=Ends(0),
        propose=lambda _answer, _wanted: Draft([1]),
        verify=lambda answer, _draft: [] if answer else [5],
    )
    assert found == [5]
