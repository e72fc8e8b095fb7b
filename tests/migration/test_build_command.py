"""Scripts and command lines with trtllm-build become recipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_command, migrate_path
from tests.migration.deployments import SCRIPT, checked, notes_of

if TYPE_CHECKING:
    from pathlib import Path


def test_script_gives_engine_layout_quantization_and_model(tmp_path: Path, model: Path) -> None:
    script = tmp_path / "build-llama.sh"
    script.write_text(SCRIPT.format(model=model))
    found = migrate_path(script, Wanted())
    recipe = checked(found, tmp_path)
    assert (recipe.name, recipe.model.source) == ("build-llama", f"file://{model}")
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens, recipe.engine.max_seq_len) == (
        64,
        8192,
        4096,
    )
    assert (recipe.layout.tp, recipe.quantize.format, recipe.quantize.kv_cache) == (2, "fp8", "fp8")
    assert recipe.engine.build_flags == {"gemm_plugin": "fp8", "workers": 2}
    assert "--use_custom_all_reduce" in notes_of(found, "no-effect")
    assert checked(migrate_path(script, Wanted(backend="pytorch")), tmp_path).engine.backend == "pytorch"


def test_command_line_alone(tmp_path: Path, model: Path) -> None:
    text = "mpirun -n 2 trtllm-build --checkpoint_dir ckpt --max_batch_size=8 --max_seq_len 2048"
    text += " --gather_context_logits"
    found = migrate_command(text, Wanted(model=str(model), name="mine"))
    recipe = checked(found, tmp_path)
    assert (recipe.name, recipe.engine.max_batch_size) == ("mine", 8)
    assert recipe.engine.build_flags == {"gather_context_logits": True}
    assert {"layout", "max_num_tokens"} <= notes_of(found, "assumed").keys()
    on_pytorch = migrate_command(text, Wanted(model=str(model), backend="pytorch"))
    assert notes_of(on_pytorch, "lost").keys() == {"--gather_context_logits"}


@pytest.mark.parametrize(
    ("options", "algorithm"),
    [
        ("--use_fp8", "fp8"),
        ("--use_weight_only --weight_only_precision int4", None),
        ("--smoothquant 0.5 --per_token", None),
        ("", None),
    ],
)
def test_conversion_script_gives_the_quantization(model: Path, options: str, algorithm: str | None) -> None:
    text = (
        f"python convert_checkpoint.py --model_dir {model} --dtype float16 --pp_size 2 {options}\n"
        "trtllm-build --checkpoint_dir c"
    )
    found = migrate_command(text, Wanted())
    assert found.recipe["quantize"].get("format") == algorithm
    assert found.recipe["layout"]["pp"] == 2
    assert bool(notes_of(found, "lost")) == bool(options and algorithm is None)


def test_lengths_of_old_scripts_are_added_up(model: Path) -> None:
    text = "trtllm-build --checkpoint_dir c --max_input_len 3000 --max_output_len 1000"
    assert migrate_command(text, Wanted(model=str(model))).recipe["engine"]["max_seq_len"] == 4000


def test_hub_id_as_model_dir_follows_main(tmp_path: Path) -> None:
    script = tmp_path / "b.sh"
    script.write_text(
        "python3 quantize.py --model_dir meta-llama/Llama-3.1-8B --qformat nvfp4 --output_dir c\n"
        "trtllm-build --checkpoint_dir c --max_seq_len 8192\n"
    )
    assert migrate_path(script, Wanted()).recipe["model"]["source"] == "hf://meta-llama/Llama-3.1-8B@main"


def test_variable_of_the_outside_is_told(model: Path) -> None:
    found = migrate_command(
        "trtllm-build --checkpoint_dir $CKPT --max_batch_size $BATCH", Wanted(model=str(model))
    )
    assert {note.value for note in found.notes if note.key == "script"} == {"$CKPT", "$BATCH"}


def test_last_of_several_builds_counts(model: Path) -> None:
    text = "trtllm-build --checkpoint_dir a --max_batch_size 1; trtllm-build --checkpoint_dir c"
    text += " --max_batch_size 9"
    found = migrate_command(text, Wanted(model=str(model)))
    assert found.recipe["engine"]["max_batch_size"] == 9
    assert notes_of(found, "lost")["script"].value == "2 commands"


def test_misspelt_option_is_lost_with_the_nearest_one(model: Path) -> None:
    found = migrate_command("trtllm-build --checkpoint_dir c --max_batchsize 9", Wanted(model=str(model)))
    assert "--max_batch_size" in notes_of(found, "lost")["--max_batchsize"].hint


def test_text_without_trtllm_build(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no trtllm-build is called here"):
        migrate_command("echo trtllm-builder", Wanted())
    script = tmp_path / "other.sh"
    script.write_text("# trtllm-build --checkpoint_dir c\necho nothing\n")
    with pytest.raises(RecipeError, match="no deployment that can be migrated"):
        migrate_path(script, Wanted())


def test_comment_behind_or_between_continued_lines_hides_no_option(model: Path) -> None:
    text = (
        "trtllm-build --checkpoint_dir c \\ # from the converter\n"
        "  # the old limit:\n"
        "  --max_input_len 2048 \\  \n"
        "  # --max_batch_size 1 \\\n"
        "  --max_batch_size 4\n"
    )
    found = migrate_command(text, Wanted(model=str(model)))
    assert found.recipe["engine"]["max_batch_size"] == 4
    assert "--max_input_len" in notes_of(found, "no-effect")


@pytest.mark.parametrize(
    "fetch",
    [
        "git clone https://huggingface.co/lmsys/vicuna-7b-v1.3",
        "huggingface-cli download lmsys/vicuna-7b-v1.3 --local-dir ./vicuna-7b-v1.3",
        "hf download --local-dir $PWD/vicuna-7b-v1.3 lmsys/vicuna-7b-v1.3",
        "git clone https://huggingface.co/lmsys/vicuna-7b-v1.3.git other/vicuna-7b-v1.3",
    ],
)
def test_model_that_the_script_downloads_is_the_model(fetch: str) -> None:
    place = "other/vicuna-7b-v1.3" if "other" in fetch else "./vicuna-7b-v1.3"
    place = "$PWD/vicuna-7b-v1.3" if "PWD" in fetch else place
    text = f"{fetch}\npython convert_checkpoint.py --model_dir {place}\ntrtllm-build --checkpoint_dir c\n"
    assert migrate_command(text, Wanted()).recipe["model"]["source"] == "hf://lmsys/vicuna-7b-v1.3@main"


def test_each_build_has_the_conversion_that_wrote_its_checkpoint(model: Path) -> None:
    text = (
        f"python convert_checkpoint.py --model_dir {model} --output_dir int8 --use_weight_only\n"
        f"python convert_checkpoint.py --model_dir {model} --output_dir ./plain --tp_size 2\n"
        f"python convert_checkpoint.py --model_dir {model} --output_dir later --pp_size 2\n"
        "trtllm-build --checkpoint_dir int8\ntrtllm-build --checkpoint_dir plain/decoder\n"
    )
    found = migrate_command(text, Wanted())
    assert found.recipe["quantize"] == {"method": "none"}
    assert (found.recipe["layout"]["tp"], found.recipe["layout"].get("pp")) == (2, None)


def test_no_option_of_the_converter_is_dropped_in_silence(model: Path) -> None:
    text = (
        f"python quantize.py --model_dir {model} --dtype float16 --qformat fp8 --calib_size 64"
        " --calib_dataset cnn_dailymail --calib_max_seq_length 1024 --awq_block_size 64\n"
        "trtllm-build --checkpoint_dir c"
    )
    found = migrate_command(text, Wanted())
    assert found.recipe["quantize"]["calibration"] == {"samples": 64, "seq_len": 1024}
    assert "quantize.py --dtype" in notes_of(found, "changed")
    assert "quantize.py --awq_block_size" in notes_of(found, "lost")
    assert "cnn_dailymail" in notes_of(found, "assumed")["quantize.py --qformat fp8"].message


@pytest.mark.parametrize("method", ["eagle", "medusa"])
def test_heads_that_the_converter_was_given_come_through(tmp_path: Path, model: Path, method: str) -> None:
    heads = tmp_path / "heads"
    heads.mkdir()
    (heads / "config.json").write_text('{"medusa_num_heads": 4, "medusa_num_layers": 1}')
    script = tmp_path / "build.sh"
    script.write_text(
        f"HEADS=heads\npython convert_checkpoint.py --model_dir {model} --{method}_model_dir $HEADS"
        " --max_draft_len 63 --num_eagle_layers 4\n"
        "trtllm-build --checkpoint_dir c --speculative_decoding_mode "
        f"{method} --max_seq_len 4096 --max_batch_size 4\n"
    )
    found = migrate_path(script, Wanted())
    recipe = checked(found, tmp_path)
    assert recipe.speculative is not None
    assert (recipe.speculative.method, recipe.speculative.draft_len) == (method, 63)
    assert recipe.speculative.draft == f"file://{heads}"
    assert (recipe.engine.converter, recipe.engine.build_flags) == ("tensorrt_llm", {})
    on_pytorch = migrate_path(script, Wanted(backend="pytorch"))
    assert "--speculative_decoding_mode" in notes_of(on_pytorch, "lost")
    checked(on_pytorch, tmp_path)


def test_heads_that_are_not_here_are_said(model: Path) -> None:
    text = f"python convert_checkpoint.py --model_dir {model} --medusa_model_dir /gone/heads\n"
    found = migrate_command(text + "trtllm-build --checkpoint_dir c", Wanted())
    assert (
        notes_of(found, "assumed")["convert_checkpoint.py --medusa_model_dir"].value == "file:///gone/heads"
    )
    on_pytorch = migrate_command(text + "trtllm-build --checkpoint_dir c", Wanted(backend="pytorch"))
    assert "convert_checkpoint.py --medusa_model_dir" in notes_of(on_pytorch, "lost")


def test_script_that_builds_and_serves_is_about_its_engine(tmp_path: Path, model: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(
        "pip install tensorrt_llm==1.1.0\ntrtllm-build --checkpoint_dir c --output_dir e\n"
        "trtllm-serve serve e --max_batch_size 64 &\n"
    )
    found = migrate_path(script, Wanted(model=str(model)))
    assert (found.recipe["engine"]["backend"], found.recipe["engine"]["tensorrt_llm"]) == (
        "tensorrt",
        "1.1.0",
    )
    assert notes_of(found, "lost")["trtllm-serve"].value == "serve e --max_batch_size 64"


def test_guide_in_markdown_ends_a_command_with_its_code(tmp_path: Path, model: Path) -> None:
    """The module is the same program; a last backslash continues nothing."""
    guide = tmp_path / "README.md"
    guide.write_text(
        "```bash\npython3 -m tensorrt_llm.commands.build --checkpoint_dir c \\\n"
        "  --max_batch_size 3 \\\n```\n"
        "Then trtllm-build is done.\n"
    )
    found = migrate_path(guide, Wanted(model=str(model)))
    assert found.recipe["engine"]["max_batch_size"] == 3
    assert not notes_of(found, "lost")


def test_prose_that_names_the_program_is_no_command(tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text("Run trtllm-build on the checkpoint.\n")
    with pytest.raises(RecipeError, match="no deployment that can be migrated"):
        migrate_path(guide, Wanted())
