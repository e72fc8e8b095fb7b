from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from bwdeploy.errors import RecipeError
from bwdeploy.worker.drafts.decoding import RowDecoder
from bwdeploy.worker.drafts.eagle3 import Eagle3Draft, build_draft, captured_layers, load_draft
from bwdeploy.worker.drafts.pair import Pair
from bwdeploy.worker.drafts.row_cache import RowCache
from bwdeploy.worker.drafts.sampling import Greedy
from bwdeploy.worker.drafts.target_model import TargetModel, load_target
from tests.worker.drafts.draft_files import DRAFTED, draft_config, draft_tensors, in_public_layout
from tests.worker.drafts.tiny_pair import tiny_target
from tests.worker.tiny_llama import make_tiny_llama

TOKENS = 12
IDS = torch.arange(2 * TOKENS).view(2, TOKENS) * 7 % 384
ARCHITECTURE = {
    "num_hidden_layers": 1,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "draft_vocab_size": 128,
    "use_aux_hidden_state": True,
    "use_last_layernorm": True,
    "rope_theta": 50000.0,
    "rope_scaling": {"rope_type": "default", "rope_theta": 50000.0},
    "rms_norm_eps": 1e-5,
    "has_lm_head": True,
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("target"), num_hidden_layers=8)


@pytest.fixture(scope="module")
def target(directory: Path) -> TargetModel:
    return tiny_target(directory)


def captured_of(target: TargetModel, layers: tuple[int, ...], ids: torch.Tensor = IDS) -> torch.Tensor:
    positions = torch.arange(ids.shape[1]).expand(*ids.shape)
    with torch.no_grad():
        return target.forward(ids, positions, RowCache(len(ids), 16), layers)[1]


def logits_of(draft: Eagle3Draft, target: TargetModel) -> torch.Tensor:
    """For all but the last of IDS at once, [rows, tokens - 1, drafted vocabulary]."""
    positions = torch.arange(TOKENS - 1).expand(2, -1)
    with torch.no_grad():
        features = draft.features(captured_of(target, draft.capture)[:, :-1])
        hidden = draft.forward(features, IDS[:, 1:], positions, RowCache(2, 16))
        return draft.logits(hidden)


def test_captured_is_the_output_of_the_named_layers_in_ascending_order(target: TargetModel) -> None:
    with torch.no_grad():
        states = target.model(input_ids=IDS, output_hidden_states=True).hidden_states
    # hidden_states[0] is the embedding, so the output of layer n stands at n + 1.
    wanted = torch.cat((states[2], states[4], states[5]), dim=-1)
    assert torch.allclose(captured_of(target, (4, 1, 3)), wanted, atol=1e-5)


@pytest.fixture(scope="module")
def modelopts(directory: Path) -> Any:
    """ModelOpt's own model, converted in place."""
    model = load_target(directory, device="cpu", trust_remote_code=False)
    eagle = {
        "eagle_decoder_type": "llama",
        "eagle_freeze_base_model": True,
        "eagle_architecture_config": dict(ARCHITECTURE),
        "eagle_use_torch_compile": False,
        "eagle_export_rope_scaling": {},
    }
    torch.manual_seed(1)
    import_module("modelopt.torch.speculative").convert(model, [("eagle", eagle)])
    with torch.no_grad():
        for name, parameter in model.eagle_module.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            elif name != "layers.0.input_layernorm.weight":  # see the test of it
                parameter.add_(torch.rand_like(parameter))
        model.eagle_module.d2t.copy_(torch.arange(128) * 2)
        model.eagle_module._maybe_init_rope()
    return model.eval()


@pytest.fixture(scope="module")
def exported(modelopts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    import_module("modelopt.torch.export").export_speculative_decoding(modelopts, export_dir=str(out))
    return out


def modelopts_logits(model: Any) -> torch.Tensor:
    """As `logits_of`, by ModelOpt's capture and module."""
    module = model.eagle_module
    mask = torch.full((TOKENS - 1, TOKENS - 1), torch.finfo(torch.float32).min).triu(1)[None, None]
    with torch.no_grad():
        model._aux_hidden_states.clear()
        model.model(input_ids=IDS)
        captured = model.pop_and_gather_aux_hiddens()[:, :-1]
        embeds = model.get_input_embeddings()(IDS[:, 1:])
        normed, _, _ = module(module.fc(captured), embeds, attention_mask=mask)
        logits: torch.Tensor = module.lm_head(normed)
    return logits


def test_logits_are_those_of_modelopts_module(modelopts: Any, exported: Path, target: TargetModel) -> None:
    draft = load_draft(exported, target)
    wanted = modelopts_logits(modelopts)
    assert draft.capture == (1, 3, 4)
    assert float(wanted.std()) > 1
    assert torch.allclose(logits_of(draft, target), wanted, atol=1e-3)


def test_hidden_states_are_normalized_once_unlike_modelopt_and_like_tensorrt_llm(
    modelopts: Any, exported: Path, target: TargetModel
) -> None:
    """ModelOpt 0.47 sends the hidden state through the embedding's norm too; alone that norm is served."""
    norm = modelopts.eagle_module.layers[0].input_layernorm
    plain = type(norm)

    class OfEmbeddingsOnly(plain):  # type: ignore[misc, valid-type]
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            is_embedding = states is modelopts.eagle_module._input_embeds
            normed: torch.Tensor = super().forward(states) if is_embedding else states
            return normed

    weight = torch.linspace(0.5, 2, 64)
    tensors = import_module("safetensors.torch").load_file(exported / "model.safetensors")
    config = json.loads((exported / "config.json").read_text())
    draft = build_draft(config, tensors | {"layers.0.input_layernorm.weight": weight}, target)
    before = norm.weight.detach().clone()
    try:
        norm.weight.data.copy_(weight)
        twice = modelopts_logits(modelopts)
        norm.__class__ = OfEmbeddingsOnly
        once = modelopts_logits(modelopts)
    finally:
        norm.__class__ = plain
        norm.weight.data.copy_(before)
    found = logits_of(draft, target)
    assert torch.allclose(found, once, atol=1e-3)
    assert float((found - twice).abs().max()) > 0.3


def test_chain_of_drafted_tokens_is_modelopts(modelopts: Any, exported: Path, target: TargetModel) -> None:
    own, drafted = modelopts.pseudo_speculative_generate(IDS, steps=4)
    pair = Pair(target, load_draft(exported, target), Greedy())
    decoder = RowDecoder(pair, rows=2, longest_prompt=TOKENS + 1, new_tokens=8, draft_len=4)
    with torch.no_grad():
        decoder.begin(torch.cat((IDS, own), dim=1).tolist(), 4)
    assert torch.equal(decoder._drafts, drafted)
    assert bool((drafted % 3 == 0).all())


def test_public_layout_is_read_as_modelopts(target: TargetModel) -> None:
    tensors = draft_tensors()
    public = in_public_layout(tensors) | {"embed_tokens.weight": torch.zeros(384, 64)}
    wanted = logits_of(build_draft(draft_config(), tensors, target), target)
    assert torch.equal(logits_of(build_draft(draft_config(), public, target), target), wanted)
    assert wanted.shape[-1] == DRAFTED


def test_names_of_llama_4_and_of_training_are_read_as_modelopts(target: TargetModel) -> None:
    tensors = draft_tensors()
    wanted = logits_of(build_draft(draft_config(), tensors, target), target)
    renamed = {
        "eagle_module." + name.replace(".mlp.", ".feed_forward."): one for name, one in tensors.items()
    }
    assert torch.equal(logits_of(build_draft(draft_config(), renamed, target), target), wanted)


def test_draft_without_head_uses_the_targets(target: TargetModel) -> None:
    tensors = {name: one for name, one in draft_tensors().items() if name not in {"d2t", "lm_head.weight"}}
    draft = build_draft(draft_config(draft_vocab_size=384), tensors, target)
    own = build_draft(
        draft_config(draft_vocab_size=384),
        tensors | {"lm_head.weight": target.model.get_output_embeddings().weight.detach()},
        target,
    )
    assert draft.to_target is None
    assert torch.equal(logits_of(draft, target), logits_of(own, target))


def test_second_layer_reads_one_hidden_state(target: TargetModel) -> None:
    tensors = draft_tensors()
    second = {
        re.sub(r"^layers\.0\.", "layers.1.", name): one[:, :64]
        if "_proj" in name and "self_attn" in name
        else one
        for name, one in tensors.items()
        if name.startswith("layers.0.") and "hidden_norm" not in name
    }
    two = build_draft(draft_config(num_hidden_layers=2), tensors | second, target)
    one = build_draft(draft_config(), tensors, target)
    assert not torch.allclose(logits_of(two, target), logits_of(one, target))
    # TensorRT-LLM's name for the norm of a further layer.
    served = {name.replace("1.input_layernorm", "1.hidden_norm"): tensor for name, tensor in second.items()}
    again = build_draft(draft_config(num_hidden_layers=2), tensors | served, target)
    assert torch.equal(logits_of(again, target), logits_of(two, target))


def test_biases_and_norms_before_fc_change_what_is_drafted(target: TargetModel) -> None:
    tensors = draft_tensors()
    plain = logits_of(build_draft(draft_config(), tensors, target), target)
    for extra in (
        {"fc.bias": torch.ones(64)},
        {"input_norm.weight": torch.ones(192)},
        {f"fc_norm.{index}.weight": torch.ones(64) for index in range(3)},
        {f"layers.0.self_attn.{part}_proj.bias": torch.ones(64 if part == "q" else 32) for part in "qkv"},
    ):
        changed = logits_of(build_draft(draft_config(), tensors | extra, target), target)
        assert not torch.allclose(changed, plain), next(iter(extra))


def test_layers_are_ascending_and_have_a_default_as_in_tensorrt_llm() -> None:
    assert captured_layers({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [7, 2, 5]}}, 8) == (2, 5, 7)
    assert captured_layers({}, 30) == (1, 14, 26)


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3, 9]}}, {}, "which has 8"),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3]}}, {}, "fc reads 192 numbers"),
        ({}, {"d2t": torch.arange(DRAFTED) * 9}, "outside the target's vocabulary of 384"),
        ({}, {"layers.0.self_attn.q_norm.weight": torch.ones(16)}, "q_norm"),
        ({}, {"fc.weight": None}, "lacks fc.weight"),
        ({"num_attention_heads": 8}, {}, "8 and 2 heads"),
        ({"hidden_size": 32, "head_dim": 16}, {}, "no embedding of its own"),
    ],
)
def test_draft_of_another_make_or_model_is_refused(
    config: dict[str, Any], tensors: dict[str, Any], message: str, target: TargetModel
) -> None:
    changed = {name: one for name, one in (draft_tensors() | tensors).items() if one is not None}
    with pytest.raises(RecipeError, match=re.escape(message)):
        build_draft(draft_config(**config), changed, target)


def test_few_layers_need_a_draft_that_names_them() -> None:
    with pytest.raises(RecipeError, match="does not say which layers"):
        captured_layers({}, 4)


def test_draft_stays_apart_from_its_target(target: TargetModel) -> None:
    before = [parameter.requires_grad for parameter in target.model.parameters()]
    draft = build_draft(draft_config(), draft_tensors(), target)
    own = {parameter.data_ptr() for parameter in draft.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in target.model.parameters())
    assert [parameter.requires_grad for parameter in target.model.parameters()] == before


def test_damaged_files_are_told(tmp_path: Path, target: TargetModel) -> None:
    (tmp_path / "config.json").write_text(json.dumps(draft_config()))
    (tmp_path / "model.safetensors").write_bytes(b"\x08\x00")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_draft(tmp_path, target)
