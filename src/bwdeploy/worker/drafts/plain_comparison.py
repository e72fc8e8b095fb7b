"""Whether decoding by position is right: held against plain forward passes of the same model.

Speculative decoding reads several tokens at once where plain decoding reads one, with other kernels, so
rounding may turn the order of two tokens that are almost equally likely. More than that is a fault.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch

from bwdeploy.errors import ToolError
from bwdeploy.worker.drafts.row_cache import RowCache, aligned

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from bwdeploy.worker.drafts.pair import Acceptance
    from bwdeploy.worker.drafts.target_model import TargetModel

_LOG = logging.getLogger(__name__)
_LARGEST_DIFFERENCE = 0.5
"""Of all logits, as a share of their spread. Rounding moves them by up to 0.3 where inputs are rounded to 4
bits; a wrong mask or position by about 1."""
_LARGEST_GAP = 2.0
"""Of two tokens' logits that may change places, in standard deviations of all; the most likely token of a
sure model lies 5 to 10 above the mean."""
_RARE = 0.2
"""Share of answers that may lie beyond the gap: an answer first differs where rounding happened to move the
logits most, and the worst of many such places says nothing about the others."""
_CHECKED = 64
_HINT = "Set speculative.draft_len to a number and leave measure out."


def refuse_other_logits(target: TargetModel, prompt: Sequence[int]) -> None:
    """Raise where decoding by position does not compute what the model computes by itself.

    Raises:
        ToolError: the logits of the prompt differ.
    """
    ids = torch.tensor([prompt], device=target.device)
    with torch.no_grad():
        own = target.logits(_read(target, ids)).float()
        plain = target.model(input_ids=ids, use_cache=False).logits.float()
    difference = float((own - plain).norm() / (plain - plain.mean()).norm())
    if not difference <= _LARGEST_DIFFERENCE:
        raise ToolError(
            f"Decoded by position, the target's logits move by {difference:.2f} of their spread.", hint=_HINT
        )


def count_differences(
    target: TargetModel,
    prompts: Sequence[Sequence[int]],
    plain: Sequence[Acceptance],
    speculative: Iterable[Sequence[Acceptance]],
    *,
    new_tokens: int,
) -> int:
    """How many answers leave those of plain greedy decoding, each at one token of the same rank.

    Raises:
        ToolError: too many of them do so where the two tokens are not nearly as likely.
    """
    places = [
        place for found in speculative for place in _first_differences(prompts, plain, found, new_tokens)
    ]
    if not places:
        return 0
    gaps = [_gap(target, *place) for place in places[:: -(-len(places) // _CHECKED)]]
    beyond = [gap for gap in gaps if not gap <= _LARGEST_GAP]
    _LOG.warning(
        "%d answers leave plain greedy decoding, by at most %.3f standard deviations", len(places), max(gaps)
    )
    if len(beyond) > _RARE * len(gaps):
        raise ToolError(
            f"Greedy speculative decoding left plain decoding for a token whose logit is {max(beyond):.1f} "
            "standard deviations lower: more than rounding does.",
            hint=_HINT,
        )
    return len(places)


def _first_differences(
    prompts: Sequence[Sequence[int]],
    plain: Sequence[Acceptance],
    speculative: Sequence[Acceptance],
    new_tokens: int,
) -> Iterator[tuple[list[int], int, int]]:
    """Of each answer that differs: the text so far, and the token of either."""
    for prompt, first, second in zip(prompts, plain, speculative, strict=True):
        pairs = zip(first.tokens[:new_tokens], second.tokens[:new_tokens], strict=False)
        for number, (one, other) in enumerate(pairs):
            if one != other:
                yield [*prompt, *first.tokens[:number]], one, other
                break


def _gap(target: TargetModel, text: list[int], one: int, other: int) -> float:
    """How far the less likely of two tokens lies below the most likely one, in standard deviations."""
    with torch.no_grad():
        hidden = _read(target, torch.tensor([text], device=target.device))[:, -1:]
        logits = target.logits(hidden)[0, 0].float()
    return float((logits.max() - torch.minimum(logits[one], logits[other])) / logits.std())


def _read(target: TargetModel, ids: Tensor) -> Tensor:
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    return target.forward(ids, positions, RowCache(1, aligned(ids.shape[1])), ())[0]
