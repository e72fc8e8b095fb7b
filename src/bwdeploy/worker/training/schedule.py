"""What each step of a training does: which sequences it sees, at which learning rate.

Both follow from the step's number, so a training that goes on later does what it would have done.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bwdeploy.recipe.schema import Training

_LEAST_RATE = 0.1


def batch_order(training: Training, *, after: int) -> list[int]:
    """Which sequences the steps after step `after` see: shuffled anew for each pass, the same for a seed."""
    torch = import_module("torch")
    generator = torch.Generator().manual_seed(training.seed)
    order: list[int] = []
    while len(order) < training.steps * training.batch_size:
        order += torch.randperm(training.samples, generator=generator).tolist()
    return order[after * training.batch_size : training.steps * training.batch_size]


def rate_factor(training: Training, done: int) -> float:
    """Of the peak learning rate, when `done` steps are done: linear warm-up, then cosine to a tenth."""
    if done < training.warmup_steps:
        return (done + 1) / training.warmup_steps
    rest = max(1, training.steps - training.warmup_steps)
    cosine = (1 + math.cos(math.pi * (done - training.warmup_steps) / rest)) / 2
    return _LEAST_RATE + (1 - _LEAST_RATE) * cosine
