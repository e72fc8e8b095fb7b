"""The draft unrolled as it will draft: step s reads what step s - 1 made of the token before.

This is EAGLE3's training-time test. With ModelOpt's masks, position q of step s is the s-th token of a draft
that began at q - s: up to there it sees the target's hidden states, behind them its own. So one pass over
known text drafts from every position at once, for the loss and for measuring acceptance alike.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from bwdeploy.worker.drafts.distillation import distillation_loss, greedy_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from bwdeploy.worker.drafts.modelopt_eagle import EagleModel
    from bwdeploy.worker.drafts.sequences import Batch


_MOST_KEPT = 2**27
"""Elements of all kept masks together, 256 MiB in bf16: those of sequences up to about 2,000 tokens."""


class Unrolled(NamedTuple):
    """What both models say at a batch's rows."""

    hidden: Tensor
    """[steps, rows, width]: the draft's states before its head."""
    target: Tensor
    """[rows, target vocabulary]: logits."""


class UnrolledDraft(nn.Module):  # type: ignore[misc]
    """The draft as a module of its own, so that only its weights are trained and exchanged between GPUs."""

    def __init__(self, eagle: EagleModel, steps: int) -> None:
        super().__init__()
        self.draft = eagle.draft
        self._target = (eagle.model,)  # in a tuple: no submodule
        self._vocabulary = eagle.vocabulary
        self._steps = steps
        self._masks: dict[tuple[int, int], Tensor] = {}

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, a scalar."""
        unrolled = self._unroll(batch)
        return distillation_loss(
            unrolled.hidden, self.draft.lm_head.weight, unrolled.target, batch.weights, self._vocabulary
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def drafted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Greedy tokens of the draft, int64 [steps, rows], and the target's logits there."""
        unrolled = self._unroll(batch)
        return greedy_tokens(unrolled.hidden, self.draft.lm_head.weight, self._vocabulary), unrolled.target

    def _unroll(self, batch: Batch) -> Unrolled:
        (target,) = self._target
        with torch.no_grad():
            logits = _target_logits(target, batch.tokens)
            captured = target.pop_and_gather_aux_hiddens()
            following = target.get_input_embeddings()(batch.tokens.roll(-1, 1))
        with _mixed_precision(batch.tokens.device):
            states = self._draft_states(captured, following, batch.rows - 1)
        return Unrolled(states, logits.flatten(0, 1)[batch.rows])

    def _draft_states(self, captured: Tensor, following: Tensor, rows: Tensor) -> Tensor:
        length = following.shape[1]
        positions = torch.arange(length, device=following.device)[None]
        cache = import_module("transformers").DynamicCache(config=self.draft.config)
        hidden = self.draft.fc(captured.to(following.dtype))
        kept: list[Tensor] = []
        for step in range(self._steps):
            normed, hidden, cache = self.draft(
                hidden,
                following,
                attention_mask=self._mask(length, step),
                position_ids=positions.expand(following.shape[0], -1),
                past_key_values=cache,
                use_cache=True,
            )
            hidden = hidden.roll(1, 1)
            kept.append(normed.flatten(0, 1)[rows])
        return torch.stack(kept).to(following.dtype)

    def _mask(self, length: int, step: int) -> Tensor | None:
        """[1, 1, length, length * (step + 1)]: the text as the first step saw it, then a diagonal a step."""
        if step == 0:
            return None  # plainly causal: attention has a faster way
        if (length, step) not in self._masks:
            if sum(mask.numel() for mask in self._masks.values()) > _MOST_KEPT:
                self._masks.clear()
            (target,) = self._target
            self._masks[length, step] = _later_mask(target, length, step)
        return self._masks[length, step]


def _later_mask(target: Any, length: int, step: int) -> Tensor:  # noqa: ANN401
    mask: Tensor = target._compute_ttt_attention_mask(1, length, step)  # noqa: SLF001 - it has no public name
    return mask


def _target_logits(target: Any, tokens: Tensor) -> Tensor:  # noqa: ANN401
    """Logits of the target alone, past ModelOpt's forward; its hooks keep the captured hidden states."""
    eagle = import_module("modelopt.torch.speculative.plugins.hf_eagle").HFEagleModel
    # With a cache, as without one transformers looks into the positions, and the host waits for the GPU.
    logits: Tensor = super(eagle, target).forward(input_ids=tokens, use_cache=True).logits
    return logits


def _mixed_precision(device: Any) -> contextlib.AbstractContextManager[None]:  # noqa: ANN401 - torch.device
    if device.type == "cuda":
        context: contextlib.AbstractContextManager[None] = torch.autocast("cuda", dtype=torch.bfloat16)
        return context
    return contextlib.nullcontext()
