from __future__ import annotations

import pytest
import torch

from bwdeploy.worker.drafts.sampling import Greedy, Sampled

ROWS = 100_000
TOLERANCE = 0.008
"""Five standard errors of a share of 0.5 in so many rows."""


def speculated(
    p: torch.Tensor, q: torch.Tensor, to_target: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """New tokens and how many were accepted, in many rows of the same p [k + 1, V] and q [k, V]."""
    torch.manual_seed(0)
    rule = Sampled(1.0)
    drafts, kept = [], []
    for logits in q.log():
        token, drawn_from = rule.propose(logits.expand(ROWS, -1), to_target, p.shape[-1])
        drafts.append(token)
        kept.append(drawn_from)
    logits = p.log().expand(ROWS, -1, -1)
    return rule.verify(logits, torch.stack(drafts, dim=1), torch.stack(kept, dim=1))


def shares(tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    return torch.bincount(tokens, minlength=vocabulary) / len(tokens)


def test_every_position_has_the_targets_distribution() -> None:
    p = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7], [0.25, 0.25, 0.3, 0.2]])
    q = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    new, accepted = speculated(p, q)
    assert torch.allclose(shares(new[:, 0], 4), p[0], atol=TOLERANCE)
    for position in (1, 2):
        reached = accepted >= position
        assert torch.allclose(shares(new[reached, position], 4), p[position], atol=2 * TOLERANCE)


def test_acceptance_is_the_overlap_of_both_distributions() -> None:
    p, q = torch.tensor([[0.5, 0.3, 0.2], [1 / 3, 1 / 3, 1 / 3]]), torch.tensor([[0.2, 0.2, 0.6]])
    _, accepted = speculated(p, q)
    overlap = float(torch.minimum(p[0], q[0]).sum())
    assert float(accepted.float().mean()) == pytest.approx(overlap, abs=TOLERANCE)


def test_reduced_vocabulary_draws_the_targets_tokens() -> None:
    p = torch.tensor([[0.4, 0.1, 0.1, 0.4], [0.25, 0.25, 0.25, 0.25]])
    q, to_target = torch.tensor([[0.7, 0.3]]), torch.tensor([1, 3])
    new, accepted = speculated(p, q, to_target)
    assert torch.allclose(shares(new[:, 0], 4), p[0], atol=TOLERANCE)
    assert float(accepted.float().mean()) == pytest.approx(0.1 + 0.3, abs=TOLERANCE)


def test_temperature_sharpens_what_is_drawn() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.6, 0.4]).log().expand(ROWS, -1)
    token, drawn_from = Sampled(0.5).propose(logits, None, 2)
    wanted = 0.36 / (0.36 + 0.16)
    assert float(drawn_from[0, 0]) == pytest.approx(wanted, abs=1e-5)
    assert float((token == 0).float().mean()) == pytest.approx(wanted, abs=TOLERANCE)


def test_equal_distributions_accept_everything() -> None:
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    _, accepted = speculated(p, p[:1])
    assert bool((accepted == 1).all())


def test_greedy_accepts_up_to_the_first_other_token() -> None:
    logits = torch.nn.functional.one_hot(torch.tensor([[4, 5, 6, 7], [4, 5, 6, 7], [1, 5, 6, 7]]), 8).float()
    drafts = torch.tensor([[4, 5, 6], [4, 0, 6], [4, 5, 6]])
    new, accepted = Greedy().verify(logits, drafts, logits)
    assert accepted.tolist() == [3, 1, 0]
    assert new.tolist() == [[4, 5, 6, 7], [4, 5, 6, 7], [1, 5, 6, 7]]
