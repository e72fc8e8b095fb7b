"""Bad checkpoints, each made as its mistake makes it, against the whole gate: audit, comparison, verdict.

The audit sees what contradicts itself or the source: labels, layouts, scales, patterns, weights that are no
rounding of the source's. It cannot see weights that were trained badly or not to their end: they are close to
the source and well formed. Only the comparison on held-out text stops those, so a recipe needs a limit there.
"""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from bwdeploy.errors import GateError
from bwdeploy.recipe.schema import Evaluation, FormatOverride, Recipe
from bwdeploy.stages.gate import ACCURACY, REPORT, GateStage, broken_limits
from bwdeploy.stages.quantize import RESULT, QuantizeStage
from tests.worker.jobs_in_process import audit_tiny, compare_tiny, quantize_tiny

if TYPE_CHECKING:
    from collections.abc import Callable

Tensors = dict[str, Any]
# A random model has no perplexity to lose. Its NVFP4 export diverges by 0.12 nats per token.
TEXT_LIMITS = {"max_kl_divergence": 0.2}
EVALUATION = Evaluation(samples=8, seq_len=64)
QUANTIZED = ("weight", "weight_scale", "weight_scale_2", "input_scale")
BLOCKS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down")
LAYERS = [f"model.layers.{number}.{block}_proj" for number in range(2) for block in BLOCKS]


class Exports(NamedTuple):
    """Good checkpoints of the tiny model."""

    source: Path
    nvfp4: Path
    """With an FP8 KV cache."""
    fp8: Path
    mixed: Path
    """NVFP4, FP8 in attention."""


@pytest.fixture(scope="module")
def exports(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Exports:
    root = tmp_path_factory.mktemp("good")
    quantize_tiny(tiny_llama, root / "nvfp4", format="nvfp4", kv_cache="fp8")
    quantize_tiny(tiny_llama, root / "fp8", format="fp8")
    override = FormatOverride(modules="*.self_attn.*", format="fp8")
    quantize_tiny(tiny_llama, root / "mixed", format="nvfp4", overrides=(override,))
    return Exports(tiny_llama, root / "nvfp4", root / "fp8", root / "mixed")


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A private copy of a checkpoint, to be damaged."""
    return lambda good: Path(shutil.copytree(good, tmp_path / "checkpoint"))


def gate(checkpoint: Path, source: Path, place: Path, **promise: Any) -> None:
    """What the stage does: audit, compare where the audit finds nothing, judge."""
    place.mkdir(exist_ok=True)
    recipe = Recipe.model_validate(
        {"schema": 1, "name": "planted", "model": {"source": "file:///source"}, "gate": TEXT_LIMITS}
    )
    audit = audit_tiny(checkpoint, source, **{"evaluation": None} | promise)
    (place / REPORT).write_text(audit.model_dump_json())
    if not list(broken_limits(audit, recipe.gate)):
        accuracy = compare_tiny(checkpoint, source, evaluation=EVALUATION)
        (place / ACCURACY).write_text(accuracy.model_dump_json())
    GateStage().judge(recipe, place)


def reason(checkpoint: Path, source: Path, place: Path, **promise: Any) -> str:
    """Why the gate stops `checkpoint`."""
    with pytest.raises(GateError) as caught:
        gate(checkpoint, source, place, **promise)
    return caught.value.message


def tensors_of(checkpoint: Path) -> Tensors:
    loaded: Tensors = import_module("safetensors.torch").load_file(checkpoint / "model.safetensors")
    return loaded


def write_tensors(checkpoint: Path, tensors: Tensors) -> None:
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path = checkpoint / "model.safetensors"
    import_module("safetensors.torch").save_file(whole, path, metadata={"format": "pt"})
    path.chmod(0o644)


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def quantization_of(checkpoint: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((checkpoint / "hf_quant_config.json").read_text())["quantization"]
    return content


def relabel(checkpoint: Path, **labels: Any) -> None:
    """Write these keys into both configuration files."""
    change_json(checkpoint / "hf_quant_config.json", lambda content: content["quantization"].update(labels))
    change_json(checkpoint / "config.json", lambda content: content["quantization_config"].update(labels))


@pytest.mark.parametrize("name", ["nvfp4", "fp8", "mixed"])
def test_good_checkpoint_passes(name: str, exports: Exports, tmp_path: Path) -> None:
    gate(getattr(exports, name), exports.source, tmp_path / "gate")


# FP8 written as NVFP4


def test_fp8_labelled_nvfp4_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.fp8)
    relabel(planted, quant_algo="NVFP4", group_size=16)
    message = reason(planted, exports.source, tmp_path)
    assert "is labelled NVFP4 but stored as fp8" in message
    assert "9 more" in message


def test_nvfp4_labelled_fp8_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.nvfp4)
    relabel(planted, quant_algo="FP8")
    assert "is labelled FP8 but stored as nvfp4" in reason(planted, exports.source, tmp_path)


def test_one_fp8_layer_labelled_nvfp4_in_mixed_precision_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.mixed)
    labels = quantization_of(planted)["quantized_layers"]
    labels["model.layers.1.self_attn.o_proj"] = {"quant_algo": "NVFP4", "group_size": 16}
    relabel(planted, quantized_layers=labels)
    message = reason(planted, exports.source, tmp_path)
    assert "model.layers.1.self_attn.o_proj is labelled NVFP4 but stored as fp8" in message
    assert message.count("\n") == 1


def test_label_in_one_of_two_files_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.fp8)
    change_json(
        planted / "config.json", lambda content: content["quantization_config"].update(quant_algo="NVFP4")
    )
    assert "hf_quant_config.json says FP8, config.json says NVFP4" in reason(
        planted, exports.source, tmp_path
    )


def test_fp8_bytes_read_as_pairs_of_fp4_codes_are_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    torch = import_module("torch")
    planted, fp8 = copy(exports.nvfp4), tensors_of(exports.fp8)
    tensors = tensors_of(planted)
    for name in LAYERS:
        codes = fp8[f"{name}.weight"].view(torch.uint8)
        tensors[f"{name}.weight"] = codes[:, : codes.shape[1] // 2]
    write_tensors(planted, tensors)
    message = reason(planted, exports.source, tmp_path, format="nvfp4", kv_cache="fp8")
    # names, dtypes, shapes, scales and labels are right: only the weights themselves tell
    assert {line.split(":")[0].strip(" -") for line in message.splitlines()[1:]} <= {
        "weight-scale-wrong",
        "weight-unlike-source",
    }


def test_nvfp4_with_the_global_scale_of_fp8_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted, fp8 = copy(exports.nvfp4), tensors_of(exports.fp8)
    tensors = tensors_of(planted)
    for name in LAYERS:
        tensors[f"{name}.weight_scale_2"] = fp8[f"{name}.weight_scale"].reshape(())
    write_tensors(planted, tensors)
    # amax / 448 in place of amax / (6 * 448)
    assert "is on average 5.9" in reason(planted, exports.source, tmp_path)


# Zeroed scales


@pytest.mark.parametrize(
    "scale",
    [
        "mlp.up_proj.weight_scale",
        "mlp.up_proj.weight_scale_2",
        "mlp.up_proj.input_scale",
        "self_attn.k_proj.k_scale",
    ],
)
def test_zeroed_scale_is_stopped(
    scale: str, exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.nvfp4)
    tensors = tensors_of(planted)
    name = f"model.layers.0.{scale}"
    tensors[name] = import_module("torch").zeros_like(tensors[name])
    write_tensors(planted, tensors)
    assert f"scale-not-positive: {name} has {tensors[name].numel()} zero" in reason(
        planted, exports.source, tmp_path
    )


def test_zeroed_scale_of_fp8_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.fp8)
    tensors = tensors_of(planted)
    for name in LAYERS:
        tensors[f"{name}.weight_scale"] *= 0
    write_tensors(planted, tensors)
    message = reason(planted, exports.source, tmp_path)
    assert message.count("scale-not-positive: model.layers") == 5
    assert f"scale-not-positive: {len(LAYERS) - 5} more: the same" in message


def test_zeroed_codes_are_stopped(exports: Exports, copy: Callable[[Path], Path], tmp_path: Path) -> None:
    planted = copy(exports.nvfp4)
    tensors = tensors_of(planted)
    tensors["model.layers.0.mlp.up_proj.weight"] *= 0
    write_tensors(planted, tensors)
    message = reason(planted, exports.source, tmp_path)
    assert "model.layers.0.mlp.up_proj.weight has little in common with its source" in message


# A dead exclude pattern


def test_dead_exclude_pattern_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.nvfp4)
    patterns = [*quantization_of(planted)["exclude_modules"], "transformer.h.*"]
    relabel(planted, exclude_modules=patterns, ignore=patterns)
    assert "names 'transformer.h.*', which matches no module" in reason(planted, exports.source, tmp_path)


def test_excluded_layer_that_the_pattern_misses_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.nvfp4)
    relabel(planted, exclude_modules=["lm_haed", "model.embed_tokens"], ignore=["lm_haed"])
    assert "names 'lm_haed', which matches no module" in reason(planted, exports.source, tmp_path)


def test_exclusion_in_one_of_two_files_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.nvfp4)
    change_json(
        planted / "config.json",
        lambda content: content["quantization_config"].update(ignore=["*.self_attn.*", "lm_head"]),
    )
    message = reason(planted, exports.source, tmp_path)
    assert "model.layers.0.self_attn.k_proj is quantized by one of" in message


def test_dead_name_in_mixed_precision_is_stopped(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted = copy(exports.mixed)
    labels = quantization_of(planted)["quantized_layers"]
    labels["layers.1.mlp.up_proj"] = labels.pop("model.layers.1.mlp.up_proj")
    relabel(planted, quantized_layers=labels)
    message = reason(planted, exports.source, tmp_path)
    assert "layers.1.mlp.up_proj is listed in quantized_layers but has no weight" in message
    assert "model.layers.1.mlp.up_proj is stored quantized but not in quantized_layers" in message


# A half-trained QAT


@pytest.fixture(scope="module")
def half_trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported from the middle of a training whose learning rate had just been at its peak, far too high."""
    torch = import_module("torch")
    export = import_module("bwdeploy.worker.export")
    cpu = import_module("bwdeploy.worker.cpu_quantizers")
    mtq = import_module("modelopt.torch.quantization")
    out = tmp_path_factory.mktemp("half-trained") / "out"
    out.mkdir()
    model = import_module("transformers").AutoModelForCausalLM.from_pretrained(
        tiny_llama, dtype=torch.float32
    )
    entries = cpu.select_backend(list(mtq.NVFP4_DEFAULT_CFG["quant_cfg"]))
    weights = [model.get_submodule(name).weight for name in LAYERS]
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 384, (4, 64), generator=generator)
    with cpu.cpu_rounding():
        mtq.quantize(model, {"quant_cfg": entries, "algorithm": "max"}, lambda live: live(tokens))
        optimizer = torch.optim.AdamW(weights, lr=1e-2)
        for _ in range(4):
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        export.export_checkpoint(model, source=tiny_llama, out=out, code=False)
    return out


def test_half_trained_weights_are_well_formed_and_only_the_text_stops_them(
    half_trained: Path, exports: Exports, tmp_path: Path
) -> None:
    assert audit_tiny(half_trained, exports.source, format="nvfp4", evaluation=None).findings == ()
    message = reason(half_trained, exports.source, tmp_path, format="nvfp4")
    assert "fail: KL divergence: 0.5" in message
    assert "allowed by gate.max_kl_divergence" in message


@pytest.mark.parametrize("taken", ["weights without their scales", "half of the layers"])
def test_checkpoint_of_two_steps_is_stopped_by_the_text(
    taken: str, half_trained: Path, exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    planted, trained = copy(exports.nvfp4), tensors_of(half_trained)
    tensors = tensors_of(planted)
    if taken == "half of the layers":
        written = [f"{name}.{leaf}" for name in LAYERS[7:] for leaf in QUANTIZED]
    else:
        written = [f"{name}.weight" for name in LAYERS]
    write_tensors(planted, tensors | {name: trained[name] for name in written})
    assert audit_tiny(planted, exports.source, format="nvfp4", evaluation=None).findings == ()
    assert "fail: KL divergence" in reason(planted, exports.source, tmp_path, format="nvfp4")


def test_weights_of_another_order_than_their_scales_are_stopped_without_a_limit_on_text(
    exports: Exports, copy: Callable[[Path], Path], tmp_path: Path
) -> None:
    torch = import_module("torch")
    planted = copy(exports.nvfp4)
    tensors = tensors_of(planted)
    name = "model.layers.1.mlp.down_proj.weight"
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(tensors[name].shape[0], generator=generator)
    write_tensors(planted, tensors | {name: tensors[name][shuffled]})
    assert f"{name} has little in common with its source" in reason(planted, exports.source, tmp_path)


def test_export_that_lost_its_training_is_stopped_before_the_gate(tmp_path: Path) -> None:
    # ModelOpt's plain path on the quickstart model: weights rounded and scales fused after the training
    figures = {"perplexity_before": 28.94, "perplexity_trained": 21.49, "perplexity_exported": 25.13}
    (tmp_path / RESULT).write_text(json.dumps(figures))
    recipe = Recipe.model_validate(
        {
            "schema": 1,
            "name": "planted",
            "model": {"source": "file:///source"},
            "quantize": {"method": "qat", "format": "nvfp4"},
        }
    )
    with pytest.raises(
        GateError, match=r"lost the training: perplexity 21\.49 in training, 25\.13 as exported"
    ):
        QuantizeStage().judge(recipe, tmp_path)
