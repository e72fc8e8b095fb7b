from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bwdeploy.errors import RecipeError, ToolError
from bwdeploy.worker.drafts.row_cache import RowCache, aligned, causal_mask
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from tests.worker.drafts.tiny_pair import KnowingDraft, greedy_acceptance
from tests.worker.tiny_llama import make_tiny_llama

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "attn_implementation": "eager",
    "eos_token_id": None,
}
FAMILIES: dict[str, Any] = {
    "sliding window everywhere": (transformers.MistralConfig, {"sliding_window": 8}),
    "every other layer sliding, scaled embedding, capped logits": (
        transformers.Gemma2Config,
        {"sliding_window": 8, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 16},
    ),
    "scaled logits": (transformers.GraniteConfig, {"logits_scaling": 4.0}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_families_decode_by_position_as_they_do_alone(family: str) -> None:
    kind, changes = FAMILIES[family]
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(kind(**SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.dim() > 1 else 1.0)
    target = TargetModel(model)
    prompts = [[7, 9, 11, 250, 3, 4, 5, 6, 7, 8, 20, 30], [5, 6]]
    ids = torch.tensor(prompts[:1])
    with torch.no_grad():
        hidden, _ = target.forward(ids, torch.arange(12)[None], RowCache(1, 16), ())
        assert torch.allclose(target.logits(hidden), model(input_ids=ids).logits, atol=1e-4)
        # Without a growing cache, which transformers cuts to the window.
        answers = [[*prompt] for prompt in prompts]
        for answer in answers:
            for _ in range(10):
                answer.append(int(model(input_ids=torch.tensor([answer])).logits[0, -1].argmax()))
    knowing = KnowingDraft(answers, [{13, 16}, {3, 6}], 300)
    found = greedy_acceptance(target, knowing, prompts, draft_len=3, new_tokens=8)
    for one, prompt, answer in zip(found, prompts, answers, strict=True):
        assert one.tokens[:8] == answer[len(prompt) : len(prompt) + 8]


def test_mask_shows_a_token_itself_and_what_came_before() -> None:
    mask = causal_mask(torch.tensor([[2, 3]]), 5, torch.float32)[0, 0] == 0
    assert mask.tolist() == [[True, True, True, False, False], [True, True, True, True, False]]
    window = causal_mask(torch.tensor([[3]]), 5, torch.float32, window=2)[0, 0] == 0
    assert window.tolist() == [[False, False, True, True, False]]
    assert [aligned(length) for length in (1, 16, 17)] == [16, 16, 32]


def test_attention_that_cannot_be_run_by_position_is_refused() -> None:
    config = transformers.Qwen3Config(**SIZES | {"layer_types": ["full_attention", "full_attention"]})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(RecipeError, match="layers of linear_attention"):
        TargetModel(model)


def test_stop_tokens_are_those_of_generation(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    model = load_target(tmp_path, device="cpu", trust_remote_code=False)
    assert TargetModel(model).stop_ids == (2,)
    model.generation_config.eos_token_id = [2, 7]
    assert TargetModel(model).stop_ids == (2, 7)


def test_quantized_target_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(ToolError, match="cannot be run here"):
        load_target(tmp_path, device="cpu", trust_remote_code=False)
