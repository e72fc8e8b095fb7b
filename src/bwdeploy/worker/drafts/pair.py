"""Who decodes together: a target, a draft, a rule; and what the decoding of a prompt took."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.worker.drafts.row_cache import RowCache
    from bwdeploy.worker.drafts.sampling import Rule
    from bwdeploy.worker.drafts.target_model import TargetModel


class Draft(Protocol):
    """What decoding asks of a draft, EAGLE3 or multi-token prediction."""

    capture: tuple[int, ...]
    """Layers of the target that it reads; none: the target's last hidden states."""
    to_target: Tensor | None
    """Its token → the target's, int64; None: the same vocabulary."""

    def features(self, captured: Tensor) -> Tensor:
        """What was captured of the target, as hidden states of the draft [rows, tokens, hidden]."""

    def forward(self, hidden: Tensor, ids: Tensor, positions: Tensor, cache: RowCache) -> Tensor:
        """Hidden states [rows, tokens, hidden]; `ids` are the tokens after those at `positions`."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[rows, drafted vocabulary] of `hidden` [rows, hidden]."""

    def chained(self, hidden: Tensor) -> Tensor:
        """`hidden` as the next drafted token reads it."""


class Acceptance(NamedTuple):
    """What one prompt's answer took."""

    tokens: list[int]
    """Generated, the one that ended the answer included."""
    accepted: tuple[int, ...]
    """Drafted tokens taken in each step."""
    gains: tuple[int, ...]
    """Tokens gained in each step; as many as accepted where the last accepted one ended the answer."""

    @property
    def steps(self) -> int:
        """Number of target steps."""
        return len(self.gains)

    @property
    def gained(self) -> int:
        """Tokens gained in all steps; the last step may go beyond the tokens that were asked for."""
        return sum(self.gains)


class Pair(NamedTuple):
    """Who decodes, and how tokens are taken."""

    target: TargetModel
    draft: Draft | None
    """None: only lengths of 0 can be decoded."""
    rule: Rule
