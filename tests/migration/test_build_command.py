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
