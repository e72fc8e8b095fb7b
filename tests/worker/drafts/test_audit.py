"""Each way in which a draft cannot fit its target is found, with the likely cause in words."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.pipeline.jobs import AuditFinding
from bwdeploy.pipeline.training_jobs import AuditDraft, DraftAudit
from bwdeploy.worker.drafts import audit
from bwdeploy.worker.drafts.target import TARGET_FILE, write_identity
from tests.worker.drafts.draft_files import (
    DRAFTED,
    HIDDEN,
    LAYERS,
    VOCAB,
    draft_config,
    draft_tensors,
    in_public_layout,
    write_draft,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def target(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, said to have eight layers: an audit reads its configuration and tokenizer only."""
    directory = tmp_path_factory.mktemp("target") / "model"
    shutil.copytree(tiny_llama, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 8}))
    return directory


def audited(draft: Path, target: Path) -> DraftAudit:
    return audit.run(AuditDraft(draft=draft, target=target), lambda _: None)


def serious(found: DraftAudit) -> list[AuditFinding]:
    return [one for one in found.findings if one.severity != "info"]


def change_target(target: Path, directory: Path, name: str, change: Callable[[Any], Any]) -> Path:
    """A copy of the target with one JSON file changed."""
    shutil.copytree(target, directory)
    file = directory / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    return directory


@pytest.mark.parametrize("public", [False, True], ids=["modelopt", "public"])
def test_a_draft_that_fits_has_its_shape_and_no_finding(
    *, public: bool, target: Path, tmp_path: Path
) -> None:
    tensors = draft_tensors()
    stored = in_public_layout(tensors) if public else tensors
    draft = write_draft(tmp_path / "draft", draft_config(), stored)
    write_identity(draft, target, LAYERS)
    found = audited(draft, target)
    assert found.findings == ()
    assert found.shape is not None
    assert found.shape.model_dump() == {
        "architecture": "LlamaForCausalLMEagle3",
        "layers": 1,
        "hidden_size": HIDDEN,
        "ffn_width": 80,
        "vocab_size": VOCAB,
        "draft_vocab_size": DRAFTED,
        "hidden_layers": LAYERS,
        "dtype": "bfloat16",
        "parameters": sum(tensor.numel() for name, tensor in tensors.items() if name != "d2t"),
    }


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: tensors | {name: change(tensors[name])}


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def spoiled(tensor: Any) -> Any:
    tensor = tensor.clone()
    tensor[0] = float("nan")
    return tensor


TENSORS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str, str, str]] = {
    "no fc": (without("fc.weight"), "draft-not-eagle3", "no fc.weight", "another method"),
    "eagle 1": (
        edited("layers.0.self_attn.q_proj.weight", lambda one: one[:, :HIDDEN].clone()),
        "draft-not-eagle3",
        "reads 64 values",
        "EAGLE-1",
    ),
    "two captured layers": (
        edited("fc.weight", lambda one: one[:, : 2 * HIDDEN].clone()),
        "draft-captured-width",
        "fc.weight reads 128 values, and 3 captured layers of the target give 192",
        "hidden size",
    ),
    "no map": (without("d2t"), "draft-map-missing", "proposes 96 of 384 tokens", "left out of the export"),
    "short map": (edited("d2t", lambda one: one[:90].clone()), "draft-map-length", "90 tokens", "different"),
    "map of ids": (
        edited("d2t", lambda one: one // 3 * 4 + 3),
        "draft-map-range",
        "outside the vocabulary of 384; the first is draft token 77, mapped to 388",
        "token ids, where runtimes expect offsets",
    ),
    "map to one token": (
        edited("d2t", lambda one: -(one // 3)),
        "draft-map-twice",
        "95 draft tokens",
        "another vocabulary",
    ),
    "empty map": (edited("d2t", lambda one: one * 0), "draft-map-identity", "0 to 95 only", "never filled"),
    "float32": (
        lambda tensors: {
            name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
        },
        "draft-dtype",
        "stored as float32, config.json says bfloat16",
        "cast the weights",
    ),
    "missing": (
        without("layers.0.mlp.up_proj.weight", "norm.weight"),
        "draft-tensor-missing",
        "norm.weight, layers.0.mlp.up_proj.weight: are missing",
        "broke off",
    ),
    "unexpected": (
        lambda tensors: tensors | {"layers.1.mlp.up_proj.weight": tensors["layers.0.mlp.up_proj.weight"] + 1},
        "draft-tensor-unexpected",
        "layers.1.mlp.up_proj.weight: is no part",
        "More layers",
    ),
    "other width": (
        edited("layers.0.mlp.down_proj.weight", lambda one: one[:, :70].clone()),
        "draft-tensor-shape",
        "has shape (64, 70), config.json asks for (64, 80)",
        "two different drafts",
    ),
    "nan": (edited("norm.weight", spoiled), "draft-not-finite", "norm.weight holds NaN", "diverged"),
    "zeros": (
        edited("fc.weight", lambda one: one * 0),
        "draft-all-zero",
        "fc.weight is all zeros",
        "never trained",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_weights_that_do_not_fit_are_named(name: str, target: Path, tmp_path: Path) -> None:
    change, check, words, cause = TENSORS[name]
    (one,) = serious(audited(write_draft(tmp_path, draft_config(), change(draft_tensors())), target))
    assert one.check == check
    assert words in one.message
    assert cause in one.hint


def test_maps_that_contradict_each_other_are_named(target: Path, tmp_path: Path) -> None:
    tensors = in_public_layout(draft_tensors())
    tensors["t2d"][0], tensors["t2d"][1] = False, True
    (one,) = serious(audited(write_draft(tmp_path, draft_config(), tensors), target))
    assert (one.check, one.severity) == ("draft-map-differs", "error")
    assert "(2 of them)" in one.message


CONFIGS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "other vocabulary": (
        {"vocab_size": 400},
        "draft-vocabulary",
        "has 400 tokens, the target's 384",
        "another model",
    ),
    "other head": ({"draft_vocab_size": 90}, "draft-vocabulary-head", "96 rows", "two different drafts"),
    "layer outside": (
        {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 3, 8]}},
        "draft-layers-outside",
        "reads layer 8, and the target has layers 0 to 7",
        "deeper model",
    ),
    "layers in disorder": (
        {"eagle_config": {"eagle_aux_hidden_state_layer_ids": [4, 3, 1]}},
        "draft-layers-order",
        "reads layers [4, 3, 1]",
        "ascending",
    ),
    "other positions": (
        {"rope_theta": 10000.0},
        "draft-rope-theta",
        "is 10000, of the target 50000",
        "default",
    ),
    "stretched positions": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 32.0}},
        "draft-rope-scaling",
        "yarn, factor 32.0",
        "YaRN",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_that_does_not_fit_is_named(name: str, target: Path, tmp_path: Path) -> None:
    changes, check, words, cause = CONFIGS[name]
    (one,) = serious(audited(write_draft(tmp_path, draft_config(**changes), draft_tensors()), target))
    assert one.check == check
    assert words in one.message
    assert cause in one.hint


def test_a_draft_of_a_wider_model_says_so_once(target: Path, tmp_path: Path) -> None:
    torch = import_module("torch")
    tensors = draft_tensors() | {"fc.weight": torch.ones(128, 3 * 128, dtype=torch.bfloat16)}
    tensors |= {"layers.0.self_attn.q_proj.weight": torch.ones(128, 256, dtype=torch.bfloat16)}
    found = audited(write_draft(tmp_path, draft_config(hidden_size=128), tensors), target)
    (one,) = serious(found)
    assert one.check == "draft-hidden-size"
    assert "hidden size is 128, the target's 64" in one.message


def test_layers_that_the_configuration_leaves_out_are_the_default(target: Path, tmp_path: Path) -> None:
    config = draft_config()
    del config["eagle_config"]
    found = audited(write_draft(tmp_path, config, draft_tensors()), target)
    assert found.shape is not None
    assert found.shape.hidden_layers == LAYERS
    assert [one.check for one in found.findings if one.severity == "info"] == [
        "draft-layers-assumed",
        "draft-tokenizer-unknown",
    ]


def test_layers_changed_after_the_training_are_named(target: Path, tmp_path: Path) -> None:
    config = draft_config(eagle_config={"eagle_aux_hidden_state_layer_ids": [1, 3, 5]})
    draft = write_draft(tmp_path, config, draft_tensors())
    write_identity(draft, target, LAYERS)
    (one,) = serious(audited(draft, target))
    assert (one.check, one.severity) == ("draft-layers-differ", "error")


def exchanged(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Two tokens change their ids."""
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (next(token for token, one in vocabulary.items() if one == at) for at in (100, 101))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    return tokenizer


@pytest.mark.parametrize("carries", [False, True], ids=["digest", "tokenizer"])
def test_a_tokenizer_that_differs_in_two_ids_is_refused(
    *, carries: bool, target: Path, tmp_path: Path
) -> None:
    draft = write_draft(tmp_path / "draft", draft_config(), draft_tensors())
    if carries:
        shutil.copy(target / "tokenizer.json", draft)
    else:
        write_identity(draft, target, LAYERS)
    assert serious(audited(draft, target)) == []
    other = change_target(target, tmp_path / "other", "tokenizer.json", exchanged)
    (one,) = serious(audited(draft, other))
    assert (one.check, one.severity) == ("draft-tokenizer", "error")
    if carries:
        assert one.message.startswith("2 token ids differ between the tokenizers: 100: ")


def test_one_added_token_is_a_difference(target: Path, tmp_path: Path) -> None:
    def with_one_more(tokenizer: dict[str, Any]) -> dict[str, Any]:
        added = tokenizer["added_tokens"]
        return tokenizer | {"added_tokens": [*added, added[-1] | {"id": VOCAB, "content": "<|tool|>"}]}

    draft = write_draft(tmp_path / "draft", draft_config(), draft_tensors())
    shutil.copy(target / "tokenizer.json", draft)
    other = change_target(target, tmp_path / "other", "tokenizer.json", with_one_more)
    (one,) = serious(audited(draft, other))
    assert "384: None in the draft's, '<|tool|>' in the target's" in one.message


def test_a_map_or_a_depth_that_the_training_did_not_have_is_refused(target: Path, tmp_path: Path) -> None:
    tensors = draft_tensors()
    draft = write_draft(tmp_path / "draft", draft_config(), tensors)
    write_identity(draft, target, LAYERS)
    write_draft(draft, draft_config(), tensors | {"d2t": tensors["d2t"] + 1})
    (one,) = serious(audited(draft, target))
    assert (one.check, one.severity) == ("draft-map-changed", "error")
    write_draft(draft, draft_config(), tensors)
    deeper = change_target(
        target, tmp_path / "deeper", "config.json", lambda config: config | {"num_hidden_layers": 9}
    )
    (one,) = serious(audited(draft, deeper))
    assert (one.check, one.severity) == ("draft-other-target", "error")
    assert "of 8 layers, this one has 9" in one.message


@pytest.mark.parametrize("written", ["midlayer.{}", "model.layers.0.{}", "eagle_module.layers.0.{}"])
def test_names_of_every_make_of_drafts_are_known(written: str, target: Path, tmp_path: Path) -> None:
    prefix = written.partition(".")[0] + "." if not written.startswith("midlayer") else ""
    tensors = {
        written.format(name.removeprefix("layers.0.").replace("mlp.", "feed_forward."))
        if name.startswith("layers.0.")
        else f"{prefix}{name}": tensor
        for name, tensor in draft_tensors().items()
    }
    assert serious(audited(write_draft(tmp_path, draft_config(), tensors), target)) == []


def test_a_draft_in_four_bits_is_no_other_kind_of_draft(target: Path, tmp_path: Path) -> None:
    torch = import_module("torch")
    tensors = draft_tensors()
    for name in [name for name in tensors if "_proj" in name]:
        rows, columns = tensors.pop(name).shape
        tensors[name] = torch.full((rows, columns // 2), 17, dtype=torch.uint8)
        tensors[f"{name}_scale"] = torch.ones(rows, columns // 16, dtype=torch.float8_e4m3fn)
    (one,) = serious(audited(write_draft(tmp_path, draft_config(), tensors), target))
    assert (one.check, one.severity) == ("draft-quantized", "warning")


def test_an_embedding_of_another_vocabulary_and_endless_layers_are_named(
    target: Path, tmp_path: Path
) -> None:
    torch = import_module("torch")
    tensors = draft_tensors() | {"embed_tokens.weight": torch.ones(100, HIDDEN, dtype=torch.bfloat16)}
    (one,) = serious(audited(write_draft(tmp_path / "a", draft_config(), tensors), target))
    assert "embed_tokens.weight has shape (100, 64)" in one.message
    config = draft_config(num_hidden_layers=10**9)
    (one,) = serious(audited(write_draft(tmp_path / "b", config, draft_tensors()), target))
    assert one.check == "draft-tensor-missing"


def test_another_chat_template_is_a_warning_with_what_it_costs(target: Path, tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft", draft_config(), draft_tensors())
    write_identity(draft, target, LAYERS)
    shutil.copytree(target, tmp_path / "other")
    (tmp_path / "other/chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (one,) = serious(audited(draft, tmp_path / "other"))
    assert (one.check, one.severity) == ("draft-chat-template", "warning")
    assert "1.04" in one.hint


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", TARGET_FILE])
def test_a_damaged_file_is_a_finding_and_no_traceback(name: str, target: Path, tmp_path: Path) -> None:
    draft = write_draft(tmp_path, draft_config(), draft_tensors())
    (draft / name).write_bytes(b"{")
    found = audited(draft, target)
    assert found.shape is None
    assert [one.check for one in serious(found)] == ["draft-unreadable"]
    assert name in found.findings[0].message


def test_pickled_weights_are_not_read(target: Path, tmp_path: Path) -> None:
    draft = write_draft(tmp_path, draft_config(), draft_tensors())
    (draft / "model.safetensors").rename(draft / "pytorch_model.bin")
    (one,) = audited(draft, target).findings
    assert "pickled" in one.message
