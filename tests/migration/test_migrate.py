"""Any path ends in a recipe or in one clear sentence; any recipe changes its backend."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Wanted
from bwdeploy.migration.migrate import migrate_path
from bwdeploy.migration.sources import SOURCES
from tests.migration.deployments import checked, engine_config, notes_of, write_engine

if TYPE_CHECKING:
    from pathlib import Path

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 10)}]\n" for n in range(6)
)


def refused(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        migrate_path(path, Wanted())
    assert len(str(caught.value)) < 2000
    return str(caught.value)


def test_unknown_directory_names_all_that_is_recognized(tmp_path: Path) -> None:
    message = refused(tmp_path)
    for what in SOURCES.values():
        assert what in message


def test_nothing_there(tmp_path: Path) -> None:
    assert "there is no such file" in refused(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b'{"pretrained_config": ', "is not JSON"),
        ("config.json", b"[" * 100_000, "nested too deeply"),
        ("config.json", b"[1, 2]", "holds no JSON object"),
        ("config.json", b'{"architectures": ["LlamaForCausalLM"]}', "no deployment that can be migrated"),
        ("config.json", b" " * (5 << 20), "is larger"),
        ("config.yaml", b"trt_llm: {}\ntrt_llm: {}\n", "this key stands twice"),
        ("config.yaml", b"trt_llm:\n  build: !!python/object:os.system x\n", "tag"),
        ("config.yaml", BOMB.encode() + b"trt_llm: *g\n", "more than 20000 values"),
        ("build.sh", b"\x7fELF\x00\xff\xfe", "not UTF-8 text"),
        ("build.sh", b"trtllm-build \x00", "NUL bytes"),
        ("build.sh", b"#" * 2_000_000, "larger than"),
        ("empty.sh", b"", "no deployment that can be migrated"),
    ],
)
def test_bad_file_is_told_in_one_sentence(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in refused(tmp_path / name)


def test_engine_file_itself_is_no_configuration(tmp_path: Path) -> None:
    file = write_engine(tmp_path / "engine") / "rank0.engine"
    file.write_bytes(bytes(range(256)))
    assert "name a configuration, not an engine" in refused(file).lower()


def test_links_that_lead_nowhere_and_in_circles(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop")
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "config.json").symlink_to(tmp_path / "engine" / "config.json")
    refused(tmp_path / "engine")


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "build.sh")
    assert "not a plain file" in refused(tmp_path / "build.sh")


def test_gpu_is_put_first_into_the_layout(tmp_path: Path, model: Path) -> None:
    found = migrate_path(write_engine(tmp_path / "engine"), Wanted(model=str(model)), gpu="h100")
    assert next(iter(found.recipe["layout"].items())) == ("gpu", "h100")
    checked(found, tmp_path)
    with pytest.raises(RecipeError, match="Did you mean b200"):
        migrate_path(tmp_path / "engine", Wanted(model=str(model)), gpu="b20")


def test_pytorch_recipe_moves_to_engines(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "serve.yaml"
    arguments = {
        "tensor_parallel_size": 2,
        "max_batch_size": 16,
        "max_num_tokens": 4096,
        "max_seq_len": 4096,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "enable_block_reuse": False},
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "enable_chunked_prefill": True,
        "stream_interval": 4,
    }
    file.write_text(json.dumps(arguments))
    found = migrate_path(file, Wanted(model=str(model), backend="tensorrt"))
    recipe = checked(found, tmp_path)
    assert (recipe.engine.backend, recipe.engine.llm_args, recipe.layout.tp) == ("tensorrt", {}, 2)
    assert recipe.serve.engine_parameters == {
        "kv_cache_free_gpu_mem_fraction": 0.8,
        "enable_kv_cache_reuse": False,
        "batch_scheduler_policy": "max_utilization",
        "enable_chunked_context": True,
    }
    assert notes_of(found, "lost").keys() == {"llm_args.stream_interval"}


def test_engine_there_and_back_keeps_its_settings(tmp_path: Path, model: Path) -> None:
    """What the table calls renamed on the way to PyTorch comes back on the way to engines."""
    engine = write_engine(tmp_path / "engine", build={"max_beam_width": 4})
    on_pytorch = migrate_path(engine, Wanted(model=str(model), backend="pytorch"))
    assert on_pytorch.recipe["engine"]["llm_args"]["max_beam_width"] == 4
    assert engine_config()["build_config"]["plugin_config"]["tokens_per_block"] == 64
    file = tmp_path / "args.yaml"
    file.write_text(
        json.dumps(
            {**on_pytorch.recipe["engine"]["llm_args"], "max_batch_size": 32, "tensor_parallel_size": 2}
        )
    )
    back = migrate_path(file, Wanted(model=str(model), backend="tensorrt"))
    assert back.recipe["engine"]["build_flags"] == {"tokens_per_block": 64, "max_beam_width": 4}
