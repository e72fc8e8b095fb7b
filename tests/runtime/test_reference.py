from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.base import Request
from bwdeploy_runtime.engines.reference import ReferenceEngine, end_tokens, longest_sequence
from bwdeploy_runtime.errors import EngineError
from bwdeploy_runtime.sampling import SamplingParams
from tests.runtime.answering import Answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROMPT = "the quick brown fox"


def config(**changes: Any) -> EngineConfig:
    return EngineConfig(runtime="reference", checkpoint=".", **changes)


def load(checkpoint: Path, settings: EngineConfig) -> Answering:
    engine = ReferenceEngine()
    engine.load(settings, checkpoint, wake=lambda: None)
    return Answering(engine, settings)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Iterator[Answering]:
    with load(tiny_checkpoint, config(max_seq_len=100)) as answering:
        yield answering


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Path) -> tuple[list[int], str, float]:
    """Ids, text and log probability of transformers' own greedy generate, 20 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    output = model.generate(
        **inputs, max_new_tokens=20, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    logprob = sum(
        float(logits[0].log_softmax(0)[token]) for logits, token in zip(output.logits, ids, strict=True)
    )
    return ids, tokenizer.decode(ids, skip_special_tokens=True), logprob


def test_greedy_is_what_transformers_generates(
    reference: Answering, expected: tuple[list[int], str, float]
) -> None:
    ids, text, logprob = expected
    result = reference.ask(PROMPT, max_tokens=20)
    assert (result.text, result.tokens, result.last.finish) == (text.rstrip("\ufffd"), len(ids), "length")
    assert result.last.logprob == pytest.approx(logprob, rel=1e-4)


def test_requests_at_once_do_not_disturb_each_other(reference: Answering) -> None:
    prompts = [f"{PROMPT} {number}" for number in range(4)]
    alone = [reference.ask(prompt, max_tokens=12).text for prompt in prompts]
    ids = [reference.begin(prompt, max_tokens=12) for prompt in prompts]
    assert [reference.wait(request_id).text for request_id in ids] == alone
    assert len(set(alone)) > 1


def test_requests_take_turns(reference: Answering) -> None:
    long_one = reference.begin(PROMPT, max_tokens=70)
    short_one = reference.begin(PROMPT, max_tokens=2)
    reference.wait(short_one)
    assert not reference.peek(long_one).ended.is_set()
    reference.wait(long_one)


def test_a_seed_repeats_a_sampled_answer(reference: Answering) -> None:
    first, second, other = (
        reference.ask(PROMPT, max_tokens=20, temperature=1.5, seed=seed).text for seed in (5, 5, 6)
    )
    assert first == second != other


def test_the_end_token_ends_the_answer_and_is_not_in_it(
    tiny_checkpoint: Path, expected: tuple[list[int], str, float], tmp_path: Path
) -> None:
    ids, _, _ = expected
    for file in tiny_checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    end = ids[5]
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / "generation_config.json").write_text(f'{{"eos_token_id": [{end}, 0]}}')
    with load(tmp_path, config()) as answering:
        result = answering.ask(PROMPT, max_tokens=20)
    assert (result.last.finish, result.last.stop_reason) == ("stop", None)
    assert result.tokens == ids.index(end)


def test_a_prompt_that_leaves_no_room_is_refused(reference: Answering) -> None:
    result = reference.ask("x" * 500, max_tokens=1)
    assert result.error is not None
    assert result.error.code == "invalid"
    assert "more than the 99 that fit (max_seq_len 100 holds prompt and answer)" in result.error.message


def test_an_answer_never_goes_beyond_max_seq_len(reference: Answering, tiny_checkpoint: Path) -> None:
    prompt_tokens = len(AutoTokenizer.from_pretrained(tiny_checkpoint)(PROMPT)["input_ids"])
    result = reference.ask(PROMPT, max_tokens=1000)
    assert (result.tokens, result.last.finish) == (100 - prompt_tokens, "length")


def test_an_empty_prompt_is_refused(reference: Answering) -> None:
    error = reference.ask("").error
    assert error is not None
    assert error.code == "invalid"


def test_cancel_frees_the_engine(reference: Answering) -> None:
    request_id = reference.begin(PROMPT, max_tokens=80)
    while not reference.peek(request_id).deltas:
        time.sleep(0.001)
    reference.cancel(request_id)
    assert reference.wait(request_id).last.finish == "cancelled"
    assert reference.loop.running == 0


def test_a_model_failure_fails_one_request(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config()
    engine = ReferenceEngine()
    engine.load(settings, tiny_checkpoint, wake=lambda: None)
    forward = engine._model.forward

    def out_of_memory_on_long_prompts(**inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] > 60:
            raise torch.OutOfMemoryError("no room")
        return forward(**inputs)

    monkeypatch.setattr(engine._model, "forward", out_of_memory_on_long_prompts)
    with Answering(engine, settings) as answering:
        error = answering.ask("x" * 90, max_tokens=1).error
        assert error is not None
        assert error.code == "internal"
        assert "OutOfMemoryError: no room" in error.message
        assert answering.ask(PROMPT, max_tokens=2).tokens == 2


def test_a_gpu_that_is_lost_ends_the_engine(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ReferenceEngine()
    engine.load(config(), tiny_checkpoint, wake=lambda: None)

    def fail(**_inputs: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(engine._model, "forward", fail)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    engine.submit(Request("1", PROMPT, SamplingParams.parse({}, max_tokens_limit=4)))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.step()


def test_the_chat_template_wraps_the_prompt(tiny_checkpoint: Path, reference: Answering) -> None:
    with load(tiny_checkpoint, config(chat_template=True)) as chat:
        templated = chat.ask(PROMPT, max_tokens=10)
    by_hand = reference.ask(f"<user>{PROMPT}</user><answer>", max_tokens=10)
    assert templated.text == by_hand.text != reference.ask(PROMPT, max_tokens=10).text


def test_a_missing_chat_template_is_a_clear_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for file in tiny_checkpoint.iterdir():
        if file.suffix != ".jinja":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(EngineError, match=r"has none. Set serve\.chat_template: false"):
        load(tmp_path, config(chat_template=True))


def test_a_directory_without_a_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="tokenizer"):
        load(tmp_path, config())


def test_weights_that_do_not_fit_are_a_clear_error(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for file in tiny_checkpoint.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(EngineError, match="the checkpoint cannot be served"):
        load(tmp_path, config())


def test_end_tokens_come_from_the_nearest_file_that_names_them(tmp_path: Path) -> None:
    class Config:
        eos_token_id = (3, 4)

    assert end_tokens(tmp_path, Config(), 7) == {3, 4}
    (tmp_path / "generation_config.json").write_text("{}")
    assert end_tokens(tmp_path, Config(), 7) == {7}
    assert end_tokens(tmp_path, Config(), None) == set()
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert end_tokens(tmp_path, Config(), 7) == {5}


def test_the_shorter_of_model_and_configuration_counts() -> None:
    class Config:
        max_position_embeddings = 128

    assert longest_sequence(Config(), 100) == 100
    assert longest_sequence(Config(), 1000) == longest_sequence(Config(), None) == 128
    with pytest.raises(EngineError, match=r"engine\.max_seq_len"):
        longest_sequence(object(), None)
