from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bwdeploy.worker.drafts.decoding import RowDecoder, decode
from bwdeploy.worker.drafts.eagle3 import Eagle3Draft
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.sampling import Greedy, Sampled
from bwdeploy.worker.drafts.target_model import TargetModel
from tests.worker.drafts.tiny_pair import (
    PROMPTS,
    KnowingDraft,
    expected_gains,
    greedy_acceptance,
    make_draft,
    make_target,
    tiny_draft,
    tiny_target,
)

NEW = 20
MISSES = ({7, 8, 12, 20}, {3, 4, 5, 9, 15}, {11, 18, 19, 26})
"""Of each row: positions where the knowing draft is wrong."""
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::item"}
"""What copies a value to the host."""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TargetModel:
    found = tiny_target(make_target(tmp_path_factory.mktemp("target")))
    found.model.generation_config.eos_token_id = None
    found.config.eos_token_id = None
    return found


@pytest.fixture(scope="module")
def draft(target: TargetModel, tmp_path_factory: pytest.TempPathFactory) -> Eagle3Draft:
    return tiny_draft(make_draft(tmp_path_factory.mktemp("draft")), target)


@pytest.fixture(scope="module")
def answers(target: TargetModel) -> list[list[int]]:
    """Prompt and plain greedy answer of transformers' own decoding, one prompt at a time."""
    return [
        target.model.generate(torch.tensor([prompt]), max_new_tokens=NEW + 8, do_sample=False)[0].tolist()
        for prompt in PROMPTS
    ]


@pytest.mark.parametrize("draft_len", [0, 1, 3, 5])
def test_rows_accept_what_their_draft_got_right_and_speak_as_the_target_alone(
    draft_len: int, target: TargetModel, answers: list[list[int]]
) -> None:
    knowing = KnowingDraft(answers, MISSES, target.config.vocab_size)
    found = greedy_acceptance(target, knowing, PROMPTS, draft_len=draft_len, new_tokens=NEW)
    for one, prompt, answer, misses in zip(found, PROMPTS, answers, MISSES, strict=True):
        gains = expected_gains(len(prompt), len(prompt) + NEW, misses, draft_len)
        assert list(one.gains) == gains
        assert list(one.accepted) == [gain - 1 for gain in gains]
        assert one.tokens == answer[len(prompt) : len(prompt) + sum(gains)]


def test_real_draft_leaves_greedy_decoding_as_it_is(
    target: TargetModel, draft: Eagle3Draft, answers: list[list[int]]
) -> None:
    found = greedy_acceptance(target, draft, PROMPTS, draft_len=2, new_tokens=NEW)
    for one, prompt, answer in zip(found, PROMPTS, answers, strict=True):
        assert one.tokens[:NEW] == answer[len(prompt) : len(prompt) + NEW]


class AcceptsByToken(Greedy):
    """Takes as many drafted tokens as their sum says, whatever the target thinks."""

    def verify(
        self, logits: torch.Tensor, drafts: torch.Tensor, drawn_from: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        accepted = drafts.sum(dim=1) // 4 % (drafts.shape[1] + 1)  # this draft's tokens are multiples of 4
        own, _ = super().verify(logits, drafts, drawn_from)
        kept = torch.cat((drafts, own[:, -1:]), dim=1)
        columns = torch.arange(kept.shape[1])
        return torch.where(columns < accepted[:, None], kept, own), accepted


def test_what_was_refused_leaves_no_trace_in_target_or_draft(target: TargetModel, draft: Eagle3Draft) -> None:
    pair = Pair(target, draft, AcceptsByToken())
    decoder = RowDecoder(pair, rows=3, longest_prompt=11, new_tokens=24, draft_len=3)
    fresh = RowDecoder(pair, rows=3, longest_prompt=40, new_tokens=24, draft_len=3)
    with torch.no_grad():
        decoder.begin(PROMPTS, 3)
        for _ in range(5):
            decoder.step(3)
        found = decoder.results()
        fresh.begin([[*prompt, *one.tokens] for prompt, one in zip(PROMPTS, found, strict=True)], 3)
        assert {gain for one in found for gain in one.gains} >= {1, 2, 4}
        assert torch.equal(decoder._drafts, fresh._drafts)
        decoder.step(3)
        fresh.step(3)
    again = [one.tokens for one in decoder.results()]
    assert again == [[*one.tokens, *new.tokens] for one, new in zip(found, fresh.results(), strict=True)]


def test_answer_ends_with_the_stop_token_and_counts_no_further(
    target: TargetModel, answers: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first row whose fifth new token is none of those before it.
    row = next(
        n
        for n, (p, a) in enumerate(zip(PROMPTS, answers, strict=True))
        if a[len(p) + 4] not in a[len(p) : len(p) + 4]
    )
    start = len(PROMPTS[row])
    stop = answers[row][start + 4]
    monkeypatch.setattr(target.config, "eos_token_id", stop)
    knowing = KnowingDraft(answers, [set()] * 3, target.config.vocab_size)
    one = greedy_acceptance(target, knowing, PROMPTS, draft_len=3, new_tokens=NEW)[row]
    assert one.tokens == answers[row][start : start + 5]
    # The last accepted draft is the stop token itself: the step gains no token of the target's own.
    assert (one.gains, one.accepted) == ((4, 1), (3, 1))


def test_same_seed_samples_the_same_answers(target: TargetModel, draft: Eagle3Draft) -> None:
    def sampled() -> list[list[int]]:
        torch.manual_seed(3)
        pair = Pair(target, draft, Sampled(0.7))
        batches = decode(pair, PROMPTS, draft_len=2, new_tokens=8)
        return [one.tokens for batch in batches for one in batch]

    first = sampled()
    assert first == sampled()
    assert all(len(tokens) >= 8 for tokens in first)


def test_prompts_of_several_batches_come_back_in_order(target: TargetModel) -> None:
    prompts = [(3 + n % 50, 60 + n) for n in range(35)]
    one_by_one = [
        greedy_acceptance(target, Unused(), [p], draft_len=0, new_tokens=8)[0] for p in prompts[33:]
    ]
    together = greedy_acceptance(target, Unused(), prompts, draft_len=0, new_tokens=8)
    assert len(together) == 35
    assert [one.tokens for one in together[33:]] == [one.tokens for one in one_by_one]


def test_replaced_steps_count_only_after_the_next_beginning(
    target: TargetModel, answers: list[list[int]]
) -> None:
    """As CUDA graphs are captured: the step is run twice before."""
    taken = []

    def run_twice(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        step()
        step()

        def again() -> torch.Tensor:
            taken.append(step())
            return taken[-1]

        return again

    knowing = KnowingDraft(answers, MISSES, target.config.vocab_size)
    pair = Pair(target, knowing, Greedy())
    (found,) = decode(pair, PROMPTS, draft_len=3, new_tokens=NEW, replace=run_twice)
    assert found == greedy_acceptance(target, knowing, PROMPTS, draft_len=3, new_tokens=NEW)
    assert len(taken) >= max(one.steps for one in found)


class Unused(KnowingDraft):
    """A draft for decoding that drafts nothing."""

    def __init__(self) -> None:
        super().__init__([[0]], [set()], 1)


def test_prompts_and_steps_are_read_at_positions_of_one_layout(
    target: TargetModel, answers: list[list[int]]
) -> None:
    """Another layout is another program to torch.compile, which makes eight of them and then gives up."""
    strides = []

    class Watched(KnowingDraft):
        def forward(self, hidden: Any, ids: Any, positions: torch.Tensor, cache: Any) -> torch.Tensor:
            strides.append(positions.is_contiguous())
            return super().forward(hidden, ids, positions, cache)

    pair = Pair(target, Watched(answers, MISSES, target.config.vocab_size), Greedy())
    decoder = RowDecoder(pair, rows=3, longest_prompt=11, new_tokens=8, draft_len=2)
    with torch.no_grad():
        decoder.begin(PROMPTS, 2)
        decoder.step(2)
    assert strides == [True] * 4


class Waits(TorchDispatchMode):  # type: ignore[misc]  # torch is skipped
    """Writes down every operation that copies a value to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        if func._schema.name in WAITING:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rule", [Greedy(), Sampled(1.0)])
def test_steps_never_wait_for_the_device(
    rule: Greedy | Sampled, target: TargetModel, draft: Eagle3Draft
) -> None:
    decoder = RowDecoder(Pair(target, draft, rule), rows=3, longest_prompt=11, new_tokens=16, draft_len=3)
    with torch.no_grad():
        decoder.begin(PROMPTS, 3)
        with Waits() as waits:
            for _ in range(3):
                decoder.step(3)
        assert waits.operations > 100
        assert waits.found == []
        with Waits() as proof:
            bool(decoder._done.all())
    assert proof.found == ["aten::_local_scalar_dense"]


def test_without_a_draft_nothing_can_be_drafted(target: TargetModel) -> None:
    decoder = RowDecoder(Pair(target, None, Greedy()), rows=1, longest_prompt=6, new_tokens=8, draft_len=0)
    with torch.no_grad():
        decoder.begin(PROMPTS[:1], 0)
        decoder.run(0)
        assert decoder.results()[0].gained == 8
        with pytest.raises(ValueError, match="where there is a draft"):
            decoder.draft_again(1)
