"""The unrolled draft held against ModelOpt's own loss and its own drafting."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.worker.drafts.distillation import distillation_loss, greedy_tokens
from bwdeploy.worker.drafts.eagle3 import Eagle3Draft, load_draft
from bwdeploy.worker.drafts.export import export_draft
from bwdeploy.worker.drafts.modelopt_eagle import EagleModel, attach_draft
from bwdeploy.worker.drafts.row_cache import RowCache
from bwdeploy.worker.drafts.sequences import TokenSequence, make_batch
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from bwdeploy.worker.drafts.training_loop import STEP_DECAY
from bwdeploy.worker.drafts.unrolling import UnrolledDraft
from bwdeploy.worker.drafts.validation import validate, walk
from tests.worker.drafts.training_jobs import training
from tests.worker.tiny_llama import make_tiny_llama

STEPS = 3
SEQUENCES = [
    TokenSequence(tuple(range(5, 40)), ((9, 35),)),
    TokenSequence(tuple(range(60, 85)), ((4, 10), (15, 25))),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("target"), num_hidden_layers=4)


def eagle_of(directory: Path, vocabulary: torch.Tensor | None = None) -> EagleModel:
    transformers = import_module("transformers")
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return attach_draft(model, training(ttt_steps=STEPS), vocabulary)


@pytest.mark.parametrize("reduced", [False, True])
def test_loss_and_gradients_are_those_of_modelopt(directory: Path, reduced: bool) -> None:  # noqa: FBT001
    eagle = eagle_of(directory, torch.arange(3, 300, 3) if reduced else None)
    batch = make_batch(SEQUENCES, steps=STEPS, decay=STEP_DECAY)
    UnrolledDraft(eagle, STEPS)(batch).backward()
    gradients = {name: value.grad.clone() for name, value in eagle.draft.named_parameters()}
    loss = UnrolledDraft(eagle, STEPS)(batch).item()
    eagle.draft.zero_grad()
    mask = torch.zeros(batch.tokens.numel())
    mask[batch.rows] = 1.0
    theirs = eagle.model.train()(input_ids=batch.tokens, loss_mask=mask.view(batch.tokens.shape)).loss
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for name, value in eagle.draft.named_parameters():
        torch.testing.assert_close(gradients[name], value.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_masks_of_long_sequences_do_not_pile_up(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwdeploy.worker.drafts.unrolling._MOST_KEPT", 96 * 96)
    draft = UnrolledDraft(eagle_of(directory), STEPS)
    with torch.no_grad():
        for length in (40, 70, 100, 130):
            draft(make_batch([TokenSequence(tuple(range(length)), ((9, 30),))], steps=STEPS, decay=1.0))
    assert {length for length, _ in draft._masks} == {160}


def test_validation_counts_what_real_speculative_decoding_accepts(directory: Path) -> None:
    eagle = eagle_of(directory)
    prompts = [list(range(start, start + 12)) for start in (10, 50, 90, 130)]
    sequences = []
    gained = steps = 0
    with torch.no_grad():
        _teach(eagle)
        for prompt in prompts:
            answer = _decoded(eagle, prompt, 24)
            sequences.append(TokenSequence((*prompt, *answer), ((len(prompt), len(prompt) + len(answer)),)))
            gained += len(answer) - 1
            steps += _speculative_steps(eagle, prompt, answer)
    found = validate(UnrolledDraft(eagle, STEPS), sequences, steps=STEPS, device="cpu")
    assert found.acceptance_length > 1.05
    assert found.acceptance_length == pytest.approx(gained / steps)


def _teach(eagle: EagleModel) -> None:
    """A draft that is right at times: its head answers with the target's reading of the last token."""
    eagle.draft.fc.weight.zero_()
    eagle.draft.fc.weight[:, -64:] = torch.eye(64)
    eagle.draft.layers[0].self_attn.o_proj.weight.mul_(0.05)
    eagle.draft.layers[0].mlp.down_proj.weight.mul_(0.05)


def _decoded(eagle: EagleModel, prompt: list[int], tokens: int) -> list[int]:
    ids = torch.tensor([prompt])
    for _ in range(tokens):
        base, _ = eagle.model.pseudo_speculative_generate(ids, steps=0)
        ids = torch.cat((ids, base), dim=-1)
    return list(ids[0, len(prompt) :].tolist())


def _speculative_steps(eagle: EagleModel, prompt: list[int], answer: list[int]) -> int:
    """Steps that ModelOpt's drafting needs for everything behind the first token."""
    whole = prompt + answer
    known, steps = len(prompt), 0  # tokens of which the target has hidden states; one more is known
    while known + 1 < len(whole):
        _, drafted = eagle.model.pseudo_speculative_generate(torch.tensor([whole[:known]]), steps=STEPS)
        accepted = 0
        for token in drafted[0].tolist():
            if known + 1 + accepted >= len(whole) or token != whole[known + 1 + accepted]:
                break
            accepted += 1
        known += accepted + 1
        steps += 1
    return steps


def test_the_exported_draft_computes_what_was_trained_whatever_its_norms_weigh(
    directory: Path, tmp_path: Path
) -> None:
    eagle = eagle_of(directory)
    with torch.no_grad():
        for name, weight in eagle.draft.named_parameters():
            if "norm" in name:
                weight.copy_(torch.linspace(0.5, 2, 64).to(torch.bfloat16))
            else:
                weight.copy_(weight.to(torch.bfloat16))
        batch = make_batch(SEQUENCES[:1], steps=1, decay=1.0)
        (trained,) = UnrolledDraft(eagle, 1)._unroll(batch).hidden @ eagle.draft.lm_head.weight.T
    export_draft(eagle, directory, tmp_path)
    target = TargetModel(load_target(directory, device="cpu", trust_remote_code=False))
    served = _served_logits(load_draft(tmp_path, target), target, batch.tokens)
    torch.testing.assert_close(served[0, batch.rows - 1], trained, atol=1e-3, rtol=1e-3)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _served_logits(draft: Eagle3Draft, target: TargetModel, tokens: torch.Tensor) -> torch.Tensor:
    length = tokens.shape[1]
    positions = torch.arange(length)[None]
    captured = target.forward(tokens, positions, RowCache(1, length), draft.capture)[1]
    following, known = tokens[:, 1:], positions[:, :-1]
    hidden = draft.forward(draft.features(captured[:, :-1]), following, known, RowCache(1, length))
    return draft.logits(hidden)


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ([[True, True, True], [True, True, True]], (3, 1)),
        ([[False, False, False], [True, True, True]], (3, 3)),
        ([[True, False, True], [True, False, True]], (3, 2)),
        ([[]], (0, 0)),
    ],
)
def test_walk(matches: list[list[bool]], expected: tuple[int, int]) -> None:
    assert tuple(walk(matches)) == expected


def test_the_loss_over_chunks_is_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bwdeploy.worker.drafts.distillation._CHUNK_ELEMENTS", 40)
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Any:
        return torch.randn(shape, generator=generator)

    hidden, head, target, weights = random(2, 7, 5), random(11, 5), random(7, 19), random(2, 7).abs()
    vocabulary = torch.tensor([0, 1, 3, 4, 7, 8, 9, 12, 15, 16, 18])
    mine = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
    plain = [hidden.clone().requires_grad_(), head.clone().requires_grad_()]
    loss = distillation_loss(mine[0], mine[1], target, weights, vocabulary)
    wanted = torch.softmax(target[:, vocabulary], -1)
    expected = -(weights[..., None] * wanted * torch.log_softmax(plain[0] @ plain[1].T, -1)).sum()
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    drafted = greedy_tokens(hidden, head, vocabulary)
    assert torch.equal(drafted, vocabulary[(hidden @ head.T).argmax(-1)])
