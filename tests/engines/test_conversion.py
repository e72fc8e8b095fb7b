"""Commands of TensorRT-LLM's own converters, held against parsers of the real scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bwdeploy.engines.checkpoint import read_rank_checkpoint
from bwdeploy.engines.conversion import CALIBRATION, DRAFT, conversion_command, needs_calibration
from bwdeploy.engines.conversion_scripts import scripts
from bwdeploy.errors import RecipeError
from bwdeploy.recipe.schema import Recipe
from tests.checks.model_configs import SMALL_LLAMA
from tests.engines.rank_checkpoints import write_rank_checkpoint
from tests.tools import stand_in_convert_checkpoint, stand_in_quantize


def recipe(directory: Path, config: dict[str, Any] | None = None, **sections: Any) -> Recipe:
    model = directory / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(SMALL_LLAMA | (config or {})))
    engine = {"backend": "tensorrt", "converter": "tensorrt_llm"} | sections.pop("engine", {})
    return Recipe.model_validate(
        {"schema": 1, "name": "tiny", "model": {"source": f"file://{model}"}, "engine": engine, **sections}
    )


TEXT = {"dataset": "file:///texts.jsonl", "samples": 16, "seq_len": 64, "batch_size": 2, "seed": 7}


def test_ptq_is_a_call_of_quantize_py(tmp_path: Path) -> None:
    wanted = recipe(
        tmp_path,
        quantize={"format": "nvfp4", "kv_cache": "fp8", "calibration": TEXT},
        layout={"gpus_per_node": 4, "tp": 2, "pp": 2},
    )
    program, words = conversion_command(wanted, source="SOURCE", out="OUT", examples="/x")
    assert (program, words[0]) == ("python3", "/x/quantization/quantize.py")
    args = stand_in_quantize.parser().parse_args(words[1:])
    assert (args.model_dir, args.output_dir, args.calib_dataset) == ("SOURCE", "OUT", CALIBRATION)
    assert (args.qformat, args.kv_cache_dtype, args.tp_size, args.pp_size) == ("nvfp4", "fp8", 2, 2)
    assert (args.calib_size, args.calib_max_seq_length, args.batch_size, args.seed) == (16, 64, 2, 7)
    assert needs_calibration(wanted)


def test_a_quantized_cache_alone_is_calibrated_too(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, quantize={"method": "none", "kv_cache": "fp8", "calibration": TEXT})
    args = stand_in_quantize.parser().parse_args(conversion_command(wanted, source="S", out="O")[1][1:])
    assert (args.qformat, args.kv_cache_dtype) == ("full_prec", "fp8")


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        ("LlamaForCausalLM", "llama"),
        ("MixtralForCausalLM", "llama"),
        ("Qwen2ForCausalLM", "qwen"),
        ("Phi3ForCausalLM", "phi"),
        ("NemotronForCausalLM", "gpt"),
        ("Gemma2ForCausalLM", "gemma"),
        ("InternLM2ForCausalLM", "internlm2"),
        ("CohereForCausalLM", "commandr"),
        ("DeepseekV2ForCausalLM", "deepseek_v2"),
    ],
)
def test_an_unquantized_model_goes_through_the_script_of_its_family(
    architecture: str, family: str, tmp_path: Path
) -> None:
    wanted = recipe(
        tmp_path,
        {"architectures": [architecture]},
        quantize={"method": "none"},
        layout={"gpus_per_node": 2, "tp": 2},
    )
    script = next(one for one in scripts() if one.name == family)
    _, words = conversion_command(wanted, source="SOURCE", out="OUT", examples="/x")
    assert words[0] == f"/x/{script.path}"
    args = stand_in_convert_checkpoint.parser(family).parse_args(words[1:])
    assert (args.model_dir, args.output_dir, args.tp_size, args.pp_size) == ("SOURCE", "OUT", 2, 1)
    assert args.dtype in {"auto", "bfloat16"}
    assert not needs_calibration(wanted)


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.name)
def test_every_script_takes_every_option_that_it_may_be_given(script: Any) -> None:
    top = stand_in_convert_checkpoint.parser(script.name)
    spelled = {name for action in top._actions for name in action.option_strings}
    wanted = {script.model_flag, script.out_flag, script.tp_flag, "--dtype"}
    wanted |= {"--pp_size"} if script.pipeline else set()
    wanted |= {"--moe_ep_size", "--moe_tp_size"} if script.experts else set()
    wanted |= {script.heads_flag, script.draft_flag, script.depth_flag} if script.heads else set()
    assert wanted <= spelled
    dtypes = next(action.choices for action in top._actions if action.dest == "dtype")
    assert script.dtype in (dtypes or ())


def test_a_modelopt_checkpoint_of_llama_is_converted_as_what_it_is(tmp_path: Path) -> None:
    said = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "quant_method": "modelopt"}
    wanted = recipe(tmp_path, {"quantization_config": said}, quantize={"method": "prequantized"})
    args = stand_in_convert_checkpoint.parser("llama").parse_args(
        conversion_command(wanted, source="S", out="O")[1][1:]
    )
    assert (args.use_nvfp4, args.use_fp8, args.fp8_kv_cache) == (True, False, True)


def test_experts_are_cut_with_their_ranks(tmp_path: Path) -> None:
    wanted = recipe(
        tmp_path,
        {"architectures": ["Qwen2ForCausalLM"]},
        quantize={"method": "none"},
        layout={"gpus_per_node": 4, "tp": 4, "ep": 2},
    )
    args = stand_in_convert_checkpoint.parser("qwen").parse_args(
        conversion_command(wanted, source="S", out="O")[1][1:]
    )
    assert (args.moe_ep_size, args.moe_tp_size) == (2, 2)


def test_medusa_heads_of_modelopt_are_converted_with_the_model(tmp_path: Path) -> None:
    wanted = recipe(
        tmp_path,
        {"quantization_config": {"quant_algo": "FP8"}, "medusa": {"num_medusa_heads": 4}},
        quantize={"method": "prequantized"},
        engine={"build_flags": {"speculative_decoding_mode": "medusa", "max_draft_len": 63}},
    )
    _, words = conversion_command(wanted, source="S", out="O")
    assert words[0].endswith("examples/medusa/convert_checkpoint.py")
    args = stand_in_convert_checkpoint.parser("medusa").parse_args(words[1:])
    assert (args.max_medusa_token_len, args.medusa_model_dir, args.dtype) == (63, None, "bfloat16")


def drafted(directory: Path, method: str, **sections: Any) -> tuple[str, Any]:
    """The script that converts a Llama model with heads beside it, and its arguments."""
    heads = directory / "heads"
    heads.mkdir()
    (heads / "config.json").write_text(json.dumps({"medusa_num_layers": 2}))
    section = {"method": method, "draft": f"file://{heads}", "draft_len": 3}
    config = sections.pop("config", {})
    wanted = recipe(directory, config, quantize={"method": "none"}, speculative=section, **sections)
    _, words = conversion_command(wanted, source="S", out="O", examples="/x")
    return words[0], stand_in_convert_checkpoint.parser(method).parse_args(words[1:])


def test_eagle_heads_are_converted_with_a_chain_of_the_draft_length(tmp_path: Path) -> None:
    script, args = drafted(
        tmp_path, "eagle", config={"dtype": "float16"}, layout={"gpus_per_node": 2, "tp": 2}
    )
    assert (script, args.eagle_model_dir, args.tp_size) == ("/x/eagle/convert_checkpoint.py", DRAFT, 2)
    assert (args.max_draft_len, args.num_eagle_layers, args.max_non_leaves_per_layer) == (3, 3, 1)
    assert args.dtype == "float16"


def test_a_tree_for_the_server_decides_how_deep_the_engine_is(tmp_path: Path) -> None:
    tree = {"engine_parameters": {"eagle_choices": [[0], [1], [0, 0]]}}
    _, args = drafted(tmp_path, "eagle", serve=tree)
    assert (args.max_draft_len, args.num_eagle_layers) == (3, 2)


def test_medusa_heads_are_converted_with_the_layers_that_they_say(tmp_path: Path) -> None:
    _, args = drafted(tmp_path, "medusa", config={"architectures": ["Qwen2ForCausalLM"]})
    assert (args.medusa_model_dir, args.model_type) == (DRAFT, "qwen2")
    assert (args.num_medusa_heads, args.num_medusa_layers, args.max_medusa_token_len) == (3, 2, 3)


def test_eagle_heads_of_modelopt_are_read_from_the_model(tmp_path: Path) -> None:
    wanted = recipe(
        tmp_path,
        {"quantization_config": {"quant_algo": "FP8"}, "eagle": {"num_hidden_layers": 1}},
        quantize={"method": "prequantized"},
        speculative={"method": "eagle", "draft_len": 63},
    )
    args = stand_in_convert_checkpoint.parser("eagle").parse_args(
        conversion_command(wanted, source="S", out="O")[1][1:]
    )
    assert (args.eagle_model_dir, args.num_eagle_layers, args.max_non_leaves_per_layer) == (None, 4, 10)


def test_what_the_scripts_cannot_do_is_told_at_once(tmp_path: Path) -> None:
    wanted = recipe(
        tmp_path,
        quantize={"format": "nvfp4_mlp_only", "kv_cache": "nvfp4"},
        layout={"gpus_per_node": 2, "tp": 2, "ep": 2},
    )
    with pytest.raises(RecipeError) as raised:
        conversion_command(wanted, source="S", out="O")
    assert [one.path for one in raised.value.findings] == [
        "quantize.format",
        "quantize.kv_cache",
        "layout.ep",
        "quantize.calibration.dataset",
    ]
    assert all(one.hint for one in raised.value.findings)


def test_a_model_that_is_not_known_has_no_command(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, quantize={"method": "none"})
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(RecipeError, match="architecture is not known"):
        conversion_command(wanted, source="S", out="O")


def test_the_stand_ins_write_the_checkpoint_that_was_asked_for(tmp_path: Path) -> None:
    model = tmp_path / "model"
    wanted = recipe(
        tmp_path, quantize={"format": "fp8", "calibration": TEXT}, layout={"gpus_per_node": 2, "tp": 2}
    )
    write_rank_checkpoint(model / "rank_checkpoint", tp=2, quant_algo="FP8")
    (tmp_path / "texts").mkdir()
    _, words = conversion_command(wanted, source=str(model), out=str(tmp_path / "out"))
    arguments = [str(tmp_path / "texts") if word == CALIBRATION else word for word in words[1:]]
    subprocess.run([sys.executable, stand_in_quantize.__file__, *arguments], check=True, capture_output=True)
    assert read_rank_checkpoint(tmp_path / "out").missing_ranks == ()
    plain = recipe(tmp_path, quantize={"method": "none"}, layout={"gpus_per_node": 2, "tp": 2})
    _, words = conversion_command(plain, source=str(model), out=str(tmp_path / "again"))
    stand_in_convert_checkpoint.main(list(words[1:]))
    assert read_rank_checkpoint(tmp_path / "again").mapping.world_size == 2
