"""How long steps take, and how fast real speculative decoding is, on the device that is there.

On a GPU every step is replayed from a CUDA graph where the model allows it, for target and draft alike, as a
serving runtime does; so no launch cost of Python flatters either. Steps are timed one by one, those of all
lengths in turn. The real runs are timed from before their first step to the one that ended the answer, with
all that lay between; which one that was is known when everything has been done.
"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from bwdeploy.pipeline.training_jobs import SpeculativeRun, StepTiming
from bwdeploy.worker.drafts.decoding import RowDecoder
from bwdeploy_runtime.engines.cuda_capture import CudaCapture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bwdeploy.worker.drafts.pair import Acceptance, Pair

_LOG = logging.getLogger(__name__)
_WARM_UPS = 3
_REPEATS = 20
_SHARE_LENGTH = 3
"""The draft length whose drafting is timed by itself, divided by it."""
_FEWEST_PROMPTS = 4
_RUN_SECONDS = 180.0
"""After this no further prompt of the real runs is begun. The best length of a part of the prompts is often
another than that of all, by which it is predicted; 64 prompts of a 135M model should need most of it."""


class Graphs:
    """Captures the steps of decoders; after the first that cannot be captured, none."""

    def __init__(self, device: torch.device) -> None:
        self.used: bool = device.type == "cuda"

    def captured(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A replay of `work` where the model allows it, else `work`; it runs twice before."""
        if not self.used:
            return work
        try:
            return CudaCapture()(work)
        except torch.OutOfMemoryError:
            raise  # without a graph there would be no more room
        except Exception as error:  # noqa: BLE001 - whatever the model does that a graph cannot hold
            self.used = False
            reason = str(error).partition("\n")[0]
            _LOG.warning("steps run without CUDA graphs: %s: %s", type(error).__name__, reason)
            return work


def time_sizes(sizes: Sequence[int], time_one: Callable[[int], StepTiming]) -> tuple[StepTiming, ...]:
    """What `time_one` says of each batch size, ascending, up to the first that the device has no room for.

    Raises:
        torch.OutOfMemoryError: it has no room for the smallest.
    """
    found: list[StepTiming] = []
    for size in sizes:
        try:
            found.append(time_one(size))
        except torch.OutOfMemoryError:
            if not found:
                raise
            _LOG.warning("no memory for steps of batch size %d: it and larger ones are not timed", size)
            break
    return tuple(found)


def time_steps(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    *,
    batch_size: int,
    new_tokens: int,
    draft_len: int,
    graphs: Graphs,
) -> StepTiming:
    """Median times of steps without and with 1 to `draft_len` drafted tokens, at one batch size."""
    device = pair.target.device
    chosen = [prompts[row % len(prompts)] for row in range(batch_size)]
    # Attention reads whole buffers: as long as those of the real runs, at every batch size.
    longest = max(len(prompt) for prompt in prompts)
    decoder = RowDecoder(
        pair, rows=batch_size, longest_prompt=longest, new_tokens=new_tokens, draft_len=draft_len
    )
    lengths, share = range(draft_len + 1), min(_SHARE_LENGTH, draft_len)
    with torch.no_grad():
        for length in lengths:
            decoder.begin(chosen, length)
            decoder.replace_step(length, graphs.captured)
        drafting = graphs.captured(partial(decoder.draft_again, share))
        decoder.begin(chosen, draft_len)
        works: list[Callable[[], object]] = [partial(decoder.step, length) for length in lengths]
        target_ms, *step_ms, drafting_ms = median_ms([*works, drafting], device)
    return StepTiming(
        batch_size=batch_size,
        target_ms=target_ms,
        draft_ms=drafting_ms / share,
        step_ms=dict(enumerate(step_ms, 1)),
    )


def time_runs(
    pair: Pair, prompts: Sequence[Sequence[int]], *, new_tokens: int, draft_len: int, graphs: Graphs
) -> tuple[SpeculativeRun, ...]:
    """Decode prompts one at a time without and with 1 to `draft_len` drafted tokens, the same ones at each.

    As many of the prompts, in their order, as three minutes allow.
    """
    decoder = RowDecoder(
        pair,
        rows=1,
        longest_prompt=max(len(prompt) for prompt in prompts),
        new_tokens=new_tokens,
        draft_len=draft_len,
    )
    lengths = range(draft_len + 1)
    sums = {length: _Sums() for length in lengths}
    with torch.no_grad():
        for length in lengths:
            decoder.begin(prompts[:1], length)
            decoder.replace_step(length, graphs.captured)
            _timed_run(decoder, prompts[0], length)  # the first replay of a graph takes longer
        started = time.monotonic()
        for number, prompt in enumerate(prompts):
            if number >= _FEWEST_PROMPTS and time.monotonic() - started > _RUN_SECONDS:
                break
            for length in lengths:
                sums[length].add(*_timed_run(decoder, prompt, length))
    return tuple(sums[length].run(length) for length in lengths)


def median_ms(works: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Median time of one call of each, in milliseconds.

    They are called in turn, so that whatever else the machine does meanwhile slows all of them.
    """
    rounds = [_round_ms(works, device) for _ in range(_WARM_UPS + _REPEATS)]
    return [statistics.median(times) for times in zip(*rounds[_WARM_UPS:], strict=True)]


def _round_ms(works: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    if device.type != "cuda":
        return [_clocked_ms(work) for work in works]
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(works) + 1)]
    marks[0].record()
    for work, mark in zip(works, marks[1:], strict=True):
        work()
        mark.record()
    torch.cuda.synchronize()
    return [float(first.elapsed_time(second)) for first, second in pairwise(marks)]


@dataclass(slots=True)
class _Sums:
    """Of all prompts of one draft length."""

    tokens: int = 0
    steps: int = 0
    seconds: float = 0.0

    def add(self, found: Acceptance, seconds: float) -> None:
        self.tokens += found.gained
        self.steps += found.steps
        self.seconds += seconds

    def run(self, draft_len: int) -> SpeculativeRun:
        return SpeculativeRun(
            draft_len=draft_len,
            tokens_per_s=self.tokens / self.seconds,
            acceptance_length=self.tokens / self.steps,
        )


class _Marks:
    """Points of time on the device, set without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._events: list[torch.cuda.Event] = []
        self._seconds: list[float] = []

    def set(self) -> None:
        """The time when all that was asked of the device so far is done."""
        if not self._is_cuda:
            self._seconds.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def seconds_to(self, number: int) -> float:
        """From the first mark to the one `number` marks later; waits for the device."""
        if not self._is_cuda:
            return self._seconds[number] - self._seconds[0]
        self._events[number].synchronize()
        return float(self._events[0].elapsed_time(self._events[number])) / 1000


def _timed_run(decoder: RowDecoder, prompt: Sequence[int], draft_len: int) -> tuple[Acceptance, float]:
    """What the prompt's answer took, and the seconds of its steps (not of reading the prompt)."""
    decoder.begin([prompt], draft_len)
    marks = _Marks(decoder.device)
    marks.set()
    decoder.run(draft_len, after_step=marks.set)
    (found,) = decoder.results()
    return found, marks.seconds_to(found.steps)


def _clocked_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000
