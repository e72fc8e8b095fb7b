"""Decoding in slots; what is captured is simply run again. tests/gpu has the real capture."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import Gemma3TextConfig, LlamaConfig, MixtralConfig, Qwen3Config

from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.graph_decoding import GraphDecoder
from bwdeploy_runtime.engines.reference import ReferenceEngine
from tests.runtime.answering import Answering

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 1024,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
PROMPT = [5, 6, 7, 8, 9]
BYTES_OF_256 = 2 * 2 * 2 * 256 * 8 * 4
"""Keys and values of 2 layers with 2 heads of 8 float32."""


def run_again(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    step()
    return step


def freeze(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A graph that was captured with something of the first token built in."""
    logits = step()
    return lambda: logits


def break_capture(_step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    raise RuntimeError("called a synchronizing CUDA operation\nwith more lines")


def make_model(config: Any) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def llama() -> Any:
    return make_model(LlamaConfig(**SHAPE))


def decoder_of(model: Any, *, capture: Any = run_again, memory_bytes: int = 1 << 30) -> GraphDecoder:
    return GraphDecoder(model, longest=1000, memory_bytes=memory_bytes, capture=capture)


class Request:
    """A greedy answer in the making, with its own growing cache until it has a slot."""

    def __init__(self, model: Any, prompt: list[int]) -> None:
        self.model = model
        self.cache = transformers.DynamicCache(config=model.config)
        self.slot: Any = None
        self.tokens: list[int] = []
        self.take(self.eager(prompt))

    def eager(self, ids: list[int]) -> Tensor:
        output = self.model(
            input_ids=torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        return output.logits[0, -1]

    def take(self, logits: Tensor) -> None:
        self.tokens.append(int(logits.argmax()))

    def begin(self, decoder: GraphDecoder, *, tokens: int = 100) -> bool:
        self.slot = decoder.begin(self.cache, self.tokens[-1], tokens=tokens)
        return self.slot is not None

    def advance(self) -> None:
        self.take(self.slot.decode(self.tokens[-1]) if self.slot else self.eager(self.tokens[-1:]))


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield


def answer(model: Any, prompt: list[int], *, decoder: GraphDecoder | None = None) -> list[int]:
    request = Request(model, prompt)
    assert decoder is None or request.begin(decoder)
    for _ in range(20):
        request.advance()
    return request.tokens


@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config, MixtralConfig])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_slot_gives_the_tokens_of_a_growing_cache(config: Any, attention: str) -> None:
    model = make_model(config(**SHAPE, attn_implementation=attention))
    assert answer(model, PROMPT, decoder=decoder_of(model)) == answer(model, PROMPT)


def test_requests_in_their_own_slots_do_not_disturb_each_other(llama: Any) -> None:
    prompts = [[*PROMPT, number] for number in (20, 30, 40)]
    decoder = decoder_of(llama)
    requests = [Request(llama, prompt) for prompt in prompts]
    assert all(request.begin(decoder) for request in requests)
    for _ in range(20):
        for request in requests:
            request.advance()
    assert [request.tokens for request in requests] == [answer(llama, prompt) for prompt in prompts]


def test_a_slot_that_was_left_serves_the_next_request(llama: Any) -> None:
    captured: list[object] = []

    def count(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        captured.append(step)
        return run_again(step)

    decoder = decoder_of(llama, capture=count)
    for prompt in ([*PROMPT] * 5, PROMPT, [7]):  # a shorter one finds the longer one's keys behind its own
        request = Request(llama, prompt)
        assert request.begin(decoder)
        for _ in range(20):
            request.advance()
        decoder.end(request.slot)
        assert request.tokens == answer(llama, prompt)
    assert len(captured) == 1


def test_numbers_that_a_former_request_lost_do_not_reach_the_next_one(llama: Any) -> None:
    decoder = decoder_of(llama)
    former, request = Request(llama, [*PROMPT] * 5), Request(llama, PROMPT)
    assert former.begin(decoder)
    for buffer in (buffer for pair in former.slot._cache._pairs for buffer in pair):
        buffer[:, :, 20:30].fill_(float("nan"))  # as after an overflow
    decoder.end(former.slot)
    assert request.begin(decoder)
    assert request.slot is former.slot
    for _ in range(20):
        request.advance()
    assert request.tokens == answer(llama, PROMPT)


def test_a_try_that_ends_amid_the_layers_leaves_the_cache_as_it_was(llama: Any) -> None:
    runs = iter(["captured", "run again", "eager"])

    def fail_in_the_eager_run(*_inputs: object) -> None:
        if next(runs, None) == "eager":
            raise torch.OutOfMemoryError("no room")

    request = Request(llama, PROMPT)
    hook = llama.model.layers[1].register_forward_pre_hook(fail_in_the_eager_run)
    begun = request.begin(decoder_of(llama))
    hook.remove()
    assert not begun
    assert [layer.keys.shape[2] for layer in request.cache.layers] == [len(PROMPT)] * 2
    for _ in range(20):
        request.advance()
    assert request.tokens == answer(llama, PROMPT)


def test_trying_a_new_slot_leaves_the_cache_as_it_was(llama: Any) -> None:
    request = Request(llama, PROMPT)
    assert request.begin(decoder_of(llama))
    assert request.cache.get_seq_length() == len(PROMPT)


def test_without_room_for_another_slot_a_request_decodes_eagerly_until_one_is_left(llama: Any) -> None:
    decoder = decoder_of(llama, memory_bytes=2 * BYTES_OF_256 - 1)
    first, second = Request(llama, PROMPT), Request(llama, PROMPT[1:])
    assert first.begin(decoder)
    assert not second.begin(decoder)
    second.advance()
    decoder.end(first.slot)
    assert second.begin(decoder)
    for _ in range(19):
        second.advance()
    assert second.tokens == answer(llama, PROMPT[1:])


def test_slots_are_as_long_as_needed_and_a_free_one_makes_room_for_a_longer_one(llama: Any) -> None:
    decoder = decoder_of(llama, memory_bytes=3 * BYTES_OF_256 - 1)
    lengths = []
    for tokens in (100, 256, 257):
        request = Request(llama, PROMPT)
        assert request.begin(decoder, tokens=tokens)
        lengths.append(request.slot.length)
        decoder.end(request.slot)
    assert lengths == [256, 256, 512]
    assert not Request(llama, PROMPT).begin(decoder, tokens=1000)  # 1008 columns would not fit alone …
    assert [slot.length for slot in decoder._free] == [512]  # … so nothing is let go for them


def test_a_free_slot_is_kept_where_letting_go_of_it_would_not_be_enough(llama: Any) -> None:
    decoder = decoder_of(llama, memory_bytes=7 * BYTES_OF_256 // 2)
    long, short, waiting = (Request(llama, PROMPT) for _ in range(3))
    assert long.begin(decoder, tokens=500)
    assert short.begin(decoder)
    decoder.end(short.slot)
    assert not waiting.begin(decoder, tokens=500)
    assert decoder._free == [short.slot]


def test_the_number_of_slots_is_bounded(llama: Any) -> None:
    decoder = decoder_of(llama)
    begun = [Request(llama, PROMPT).begin(decoder) for _ in range(9)]
    assert begun == [True] * 8 + [False]


@pytest.mark.parametrize(
    ("capture", "reason"),
    [
        (break_capture, "RuntimeError: called a synchronizing CUDA operation"),
        (freeze, "ArithmeticError: logits differ by "),
    ],
)
def test_what_cannot_be_captured_is_said_once_and_not_tried_again(
    llama: Any, caplog: pytest.LogCaptureFixture, capture: Any, reason: str
) -> None:
    decoder = decoder_of(llama, capture=capture)
    with caplog.at_level(logging.WARNING):
        begun = [Request(llama, PROMPT).begin(decoder) for _ in range(3)]
    assert begun == [False] * 3
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("bwdeploy")]
    assert line.startswith(f"tokens are decoded without CUDA graphs: {reason}")
    assert "more lines" not in line


def test_after_a_failed_try_the_answer_is_the_eager_one(llama: Any) -> None:
    request = Request(llama, PROMPT)
    assert not request.begin(decoder_of(llama, capture=freeze))
    for _ in range(20):
        request.advance()
    assert request.tokens == answer(llama, PROMPT)


def test_a_cache_with_a_sliding_window_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    model = make_model(Gemma3TextConfig(**SHAPE, sliding_window=16))
    assert not Request(model, PROMPT).begin(decoder_of(model))
    assert "layers of DynamicSlidingWindowLayer" in caplog.text


def test_an_attention_with_masks_of_its_own_is_refused(
    llama: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(llama, PROMPT)
    monkeypatch.setattr(llama.config, "_attn_implementation_internal", "flash_attention_2")
    assert not request.begin(decoder_of(llama))
    assert "attention flash_attention_2 is not one of sdpa, eager" in caplog.text


def load_with_graphs(checkpoint: Path, settings: EngineConfig) -> ReferenceEngine:
    """The engine as on a GPU; it captures only where there is one."""
    engine = ReferenceEngine()
    engine.load(settings, checkpoint, wake=lambda: None)
    engine._graphs = GraphDecoder(engine._model, longest=128, memory_bytes=1 << 30, capture=run_again)
    return engine


def test_the_engine_answers_as_without_slots_and_leaves_them(tiny_checkpoint: Path) -> None:
    settings = EngineConfig(runtime="reference", checkpoint=".", max_seq_len=100)
    plain, engine = ReferenceEngine(), load_with_graphs(tiny_checkpoint, settings)
    plain.load(settings, tiny_checkpoint, wake=lambda: None)
    with Answering(plain, settings) as eager, Answering(engine, settings) as in_slots:
        prompts = [f"the quick brown fox {number}" for number in range(3)]
        ids = [in_slots.begin(prompt, max_tokens=12) for prompt in prompts]
        assert [in_slots.wait(request).text for request in ids] == [
            eager.ask(prompt, max_tokens=12).text for prompt in prompts
        ]
        left = in_slots.begin(prompts[0], max_tokens=80)
        while not in_slots.peek(left).deltas:
            threading.Event().wait(0.001)
        in_slots.cancel(left)
        in_slots.wait(left)
        graphs = engine._graphs
        assert graphs is not None
        assert len(graphs._free) == len(graphs._bytes) == 3
