"""A tiny target with stand-ins for a draft: one whose hits are known beforehand, one with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bwdeploy.worker.drafts.decoding import decode
from bwdeploy.worker.drafts.eagle3 import load_draft
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.sampling import Greedy
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from tests.worker.drafts.draft_files import draft_config, draft_tensors, write_draft
from tests.worker.tiny_llama import make_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bwdeploy.worker.drafts.eagle3 import Eagle3Draft
    from bwdeploy.worker.drafts.pair import Acceptance, Draft
    from bwdeploy.worker.drafts.row_cache import RowCache

PROMPTS = ((5, 9, 13, 17, 40, 7), (301, 12), (77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87))
"""Token ids, of different lengths."""


CAPTURED = [0, 1, 3]


def make_target(directory: Path) -> Path:
    return make_tiny_llama(directory, num_hidden_layers=4)


def make_draft(directory: Path) -> Path:
    config = draft_config(eagle_config={"eagle_aux_hidden_state_layer_ids": CAPTURED})
    return write_draft(directory, config, draft_tensors())


def make_pair(place: Path) -> Path:
    """A target and a draft for it, in `target` and `draft` of the existing directory `place`."""
    (place / "target").mkdir()
    make_target(place / "target")
    make_draft(place / "draft")
    return place


def tiny_target(directory: Path) -> TargetModel:
    return TargetModel(load_target(directory, device="cpu", trust_remote_code=False))


def tiny_draft(directory: Path, target: TargetModel) -> Eagle3Draft:
    return load_draft(directory, target)


def write_prompts(file: Path, *, each: int = 4, workloads: Sequence[str] = ("code", "chat")) -> str:
    """A file of short prompts; as a recipe names it."""
    rows = [
        {"workload": kind, "prompt": f"{kind} {'abc' * n}"} for kind in workloads for n in range(1, each + 1)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"file://{file}"


class KnowingDraft:
    """Proposes each row's known answer, and another token wherever `misses` says so of the position."""

    capture: tuple[int, ...] = ()
    to_target: torch.Tensor | None = None

    def __init__(self, answers: Sequence[Sequence[int]], misses: Sequence[set[int]], vocabulary: int) -> None:
        """`answers` are whole sequences, prompt included; a position counts from their start."""
        longest = max(len(answer) for answer in answers) + 64
        self._next = torch.zeros((len(answers), longest), dtype=torch.int64)
        for row, answer in enumerate(answers):
            self._next[row, : len(answer)] = torch.tensor(answer)
            for position in misses[row]:
                self._next[row, position] = (self._next[row, position] + 1) % vocabulary
        self._vocabulary = vocabulary

    def features(self, captured: torch.Tensor) -> torch.Tensor:
        return captured

    def forward(
        self, hidden: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor, cache: RowCache
    ) -> torch.Tensor:
        # It reads the token after `positions` and so speaks of the one after that.
        return self._next.gather(1, positions + 2)[..., None]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(hidden[:, 0], self._vocabulary).float()

    def chained(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def expected_gains(start: int, end: int, misses: set[int], draft_len: int) -> list[int]:
    """Tokens gained in each step, from the positions where the draft is wrong."""
    gains, at = [], start
    while at < end:
        right = 0
        while right < draft_len and at + right not in misses:
            right += 1
        gains.append(right + 1)
        at += right + 1
    return gains


def greedy_acceptance(
    target: TargetModel,
    draft: Draft,
    prompts: Sequence[Sequence[int]],
    *,
    draft_len: int,
    new_tokens: int,
) -> list[Acceptance]:
    """What greedy speculative decoding of the prompts took, one for each.

    The acceptance length of all is the sum of what was gained over the sum of steps.
    """
    pair = Pair(target, draft, Greedy())
    batches = decode(pair, prompts, draft_len=draft_len, new_tokens=new_tokens)
    return [one for batch in batches for one in batch]
