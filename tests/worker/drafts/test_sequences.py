"""Batches of similar length, the rows that count, and their weights over several processes."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from bwdeploy.worker.drafts.sequences import TokenSequence, endless_batches, make_batch

CHOSEN = [
    TokenSequence(tuple(range(10, 22)), ((4, 12),)),
    TokenSequence(tuple(range(30, 70)), ((1, 5), (20, 40))),
    TokenSequence(tuple(range(9)), ((8, 9),)),
    TokenSequence(tuple(range(20)), ((3, 18),)),
]


def test_rows_are_where_two_answer_tokens_follow_each_other() -> None:
    assert CHOSEN[0].rows().tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert CHOSEN[1].rows()[:4].tolist() == [1, 2, 3, 20]
    assert CHOSEN[2].rows().tolist() == []


def test_every_sequence_comes_once_an_epoch_with_others_of_its_length() -> None:
    lengths = [length % 97 for length in range(0, 512 * 31, 31)]
    batches = list(islice(endless_batches(lengths, 8, seed=1), 64))
    assert sorted(index for batch in batches for index in batch) == list(range(512))
    spread = [
        max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in batches
    ]
    assert sum(spread) / len(spread) < 20
    assert list(islice(endless_batches(lengths, 8, seed=1), 100))[:64] == batches
    assert list(islice(endless_batches(lengths, 8, seed=2), 64)) != batches


def test_weights_of_a_step_sum_to_its_decay() -> None:
    batch = make_batch(CHOSEN, steps=3, decay=0.5)
    torch.testing.assert_close(batch.weights.sum(1), torch.tensor([1.0, 0.5, 0.25]))
    assert (
        batch.weights[2, len(CHOSEN[0].rows())] == 0
    )  # row 1: the third drafted token begins before the text


def test_rows_point_at_their_tokens_in_the_padded_batch() -> None:
    batch = make_batch(CHOSEN, steps=1, decay=1.0)
    expected = [one.tokens[row] for one in CHOSEN for row in one.rows().tolist()]
    assert batch.tokens.flatten()[batch.rows].tolist() == expected


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_a_batch_without_changing_what_a_row_counts(ranks: int) -> None:
    whole = make_batch(CHOSEN, steps=2, decay=0.9)
    parts = [make_batch(CHOSEN, steps=2, decay=0.9, share=(rank, ranks)) for rank in range(ranks)]
    torch.testing.assert_close(sum(part.weights.sum(1) for part in parts), whole.weights.sum(1))
    assert sum(len(part.rows) for part in parts) == len(whole.rows)
