from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.errors import RecipeError
from bwdeploy.worker.drafts.decoding import RowDecoder
from bwdeploy.worker.drafts.mtp import load_mtp
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.sampling import Greedy
from bwdeploy.worker.drafts.target_model import TargetModel
from tests.worker.drafts.tiny_pair import greedy_acceptance, tiny_target
from tests.worker.tiny_llama import make_tokenizer

HIDDEN, VOCAB, LAYERS = 32, 384, 2
PROMPTS = ((5, 9, 13, 17, 40, 7), (301, 12, 8))


def make_deepseek(directory: Path, *, prediction_layers: int = 1) -> Path:
    """A random DeepSeek-V3 of two layers, the second with experts, and prediction layers like the second."""
    transformers = import_module("transformers")
    directory.mkdir(exist_ok=True)
    make_tokenizer(directory)
    config = transformers.DeepseekV3Config(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=2,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=2,
        n_shared_experts=1,
        first_k_dense_replace=1,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        max_position_embeddings=256,
        num_nextn_predict_layers=prediction_layers,
        eos_token_id=None,
    )
    torch.manual_seed(0)
    model = transformers.DeepseekV3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(directory)
    for number in range(prediction_layers):
        _add_prediction_layer(directory / "model.safetensors", LAYERS + number)
    return directory


def _add_prediction_layer(file: Path, index: int) -> None:
    safetensors = import_module("safetensors.torch")
    tensors: dict[str, Any] = safetensors.load_file(file)
    copied = {
        re.sub(r"layers\.1\.", f"layers.{index}.", name): tensor.clone()
        for name, tensor in tensors.items()
        if ".layers.1." in name
    }
    own = {
        "eh_proj.weight": torch.randn(HIDDEN, 2 * HIDDEN),
        "enorm.weight": torch.rand(HIDDEN) + 0.5,
        "hnorm.weight": torch.rand(HIDDEN) + 0.5,
        "shared_head.norm.weight": torch.rand(HIDDEN) + 0.5,
        "shared_head.head.weight": tensors["lm_head.weight"].clone(),
        "embed_tokens.weight": tensors["model.embed_tokens.weight"].clone(),
    }
    named = {f"model.layers.{index}.{name}": tensor for name, tensor in own.items()}
    safetensors.save_file(tensors | copied | named, file, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_deepseek(tmp_path_factory.mktemp("deepseek"))


@pytest.fixture(scope="module")
def target(directory: Path) -> TargetModel:
    return tiny_target(directory)


def drafted_without_cache(
    target: TargetModel, directory: Path, prompt: tuple[int, ...], steps: int
) -> list[int]:
    """The chain by the formula, all positions anew for each token; the layer is the target's second."""
    stored = import_module("safetensors.torch").load_file(directory / "model.safetensors")

    def own(name: str) -> torch.Tensor:
        tensor: torch.Tensor = stored[f"model.layers.{LAYERS}.{name}.weight"]
        return tensor

    def normed(states: torch.Tensor, name: str) -> torch.Tensor:
        return torch.nn.functional.rms_norm(states, (HIDDEN,), own(name), target.config.rms_norm_eps)

    ids = torch.tensor([prompt])
    hidden = target.model.model(input_ids=ids[:, :-1]).last_hidden_state
    found: list[int] = []
    for _ in range(steps):
        embeds = target.embedding(ids[:, 1:])
        joined = torch.cat((normed(embeds, "enorm"), normed(hidden, "hnorm")), dim=-1) @ own("eh_proj").T
        length = joined.shape[1]
        positions = torch.arange(length)[None]
        mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)[None, None]
        output = target.layers[1](
            joined,
            attention_mask=mask,
            position_ids=positions,
            position_embeddings=target.rotary(joined, positions),
        )
        states = normed(output if isinstance(output, torch.Tensor) else output[0], "shared_head.norm")
        found.append(int((states[:, -1] @ own("shared_head.head").T).argmax()))
        ids = torch.cat((ids, torch.tensor([[found[-1]]])), dim=1)
        hidden = torch.cat((hidden, states[:, -1:]), dim=1)
    return found


def test_chain_is_that_of_the_formula(target: TargetModel, directory: Path) -> None:
    pair = Pair(target, load_mtp(directory, target), Greedy())
    decoder = RowDecoder(pair, rows=2, longest_prompt=6, new_tokens=8, draft_len=3)
    with torch.no_grad():
        decoder.begin(PROMPTS, 3)
        for _ in range(2):
            for row, one in enumerate(decoder.results()):
                so_far = (*PROMPTS[row], *one.tokens)
                assert decoder._drafts[row].tolist() == drafted_without_cache(target, directory, so_far, 3)
            decoder.step(3)


def test_decoding_with_it_says_what_the_target_says(target: TargetModel, directory: Path) -> None:
    found = greedy_acceptance(target, load_mtp(directory, target), PROMPTS, draft_len=2, new_tokens=8)
    for one, prompt in zip(found, PROMPTS, strict=True):
        plain = target.model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
        assert one.tokens[:8] == plain[0, len(prompt) :].tolist()


def test_checkpoint_without_or_with_several_layers_is_refused(target: TargetModel, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no multi-token prediction layer"):
        load_mtp(make_deepseek(tmp_path / "none", prediction_layers=0), target)
    with pytest.raises(RecipeError, match="has 2 multi-token prediction layers"):
        load_mtp(make_deepseek(tmp_path / "two", prediction_layers=2), target)


def test_prediction_layer_of_another_make_is_refused(
    directory: Path, target: TargetModel, tmp_path: Path
) -> None:
    safetensors = import_module("safetensors.torch")
    tensors = safetensors.load_file(directory / "model.safetensors")
    del tensors[f"model.layers.{LAYERS}.self_attn.kv_b_proj.weight"]
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    with pytest.raises(RecipeError, match="kv_b_proj"):
        load_mtp(tmp_path, target)
