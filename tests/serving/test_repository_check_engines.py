"""Traps of repositories that serve an engine: the engine, its launch files, and the models around it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from bwdeploy.serving.launch_line import launch_words, write_launch_script
from bwdeploy.serving.repository_check import check_repository
from bwdeploy.tools.triton_ranks import EngineLaunch
from tests.serving.test_deployment import engine_config

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "data_type: TYPE_STRING dims: [ 1 ]"
TENSORS = f'input [ {{ name: "IN" {TEXT} }} ]\noutput [ {{ name: "OUT" {TEXT} }} ]\n'
PARAMETER = 'parameters {{ key: "{}" value: {{ string_value: "{}" }} }}\n'
DECOUPLED = "model_transaction_policy { decoupled: true }\n"
IMAGE = "docker run nvcr.io/nvidia/tritonserver:{}-trtllm-python-py3 sleep 1\n"


def add_model(repository: Path, name: str, *lines: str, backend: str = "python", batch: int = 64) -> None:
    (repository / name / "1").mkdir(parents=True)
    config = f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: {batch}\n{TENSORS}' + "".join(lines)
    kind = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
    (repository / name / "config.pbtxt").write_text(config + kind)


def add_engine(repository: Path, *, tp: int = 2, batch: int = 64, version: str = "1.2.1") -> Path:
    engine = repository / "tensorrt_llm" / "1" / "engine"
    engine.mkdir(parents=True)
    (engine / "config.json").write_text(json.dumps(engine_config(tp=tp, version=version)))
    for rank in range(tp):
        (engine / f"rank{rank}.engine").write_bytes(b"plan")
    return engine


def write_repository(
    repository: Path, *, batch: int = 64, tokenizers: tuple[str, str] | None = None, bls: str = DECOUPLED
) -> None:
    """The models around an engine, with the paths of the server's container."""
    pre, post = tokenizers or ("/models/preprocessing/1/tokenizer",) * 2
    engine = PARAMETER.format("gpt_model_path", "/models/tensorrt_llm/1/engine")
    add_model(repository, "tensorrt_llm", DECOUPLED, engine, backend="tensorrtllm", batch=batch)
    add_model(repository, "preprocessing", PARAMETER.format("tokenizer_dir", pre), engine)
    add_model(repository, "postprocessing", PARAMETER.format("tokenizer_dir", post))
    named = PARAMETER.format("tensorrt_llm_model_name", "${tensorrt_llm_model_name}")
    add_model(repository, "tensorrt_llm_bls", bls, named)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A sound repository with an engine of two ranks, as it lies outside its container."""
    place = tmp_path / "models_of_mine"
    place.mkdir()
    write_repository(place)
    add_engine(place)
    (place / "preprocessing" / "1" / "tokenizer").mkdir()
    return place


def add_engine_model(place: Path, **changes: Any) -> None:
    shutil.rmtree(place)
    place.mkdir()
    write_repository(place, **changes)
    add_engine(place)


def found(directory: Path) -> list[tuple[str, int, str]]:
    findings = check_repository(directory)
    assert all(one.hint and one.message and one.source for one in findings)
    return [(one.rule, one.line, one.message) for one in findings]


def test_a_sound_repository_with_an_engine_has_no_findings(repository: Path) -> None:
    assert found(repository) == []


def test_an_engine_that_is_not_on_this_machine_is_not_judged(repository: Path) -> None:
    shutil.rmtree(repository / "tensorrt_llm" / "1" / "engine")
    (repository / "run.sh").write_text(IMAGE.format("26.03") + "tritonserver --model-repository=/models\n")
    assert [rule for rule, _, _ in found(repository) if "engine" in rule] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON"), ('{"architectures": ["LlamaForCausalLM"]}', "is of no engine")],
)
def test_what_is_no_engine_is_named_at_the_line_that_names_it(
    repository: Path, text: str, message: str
) -> None:
    (repository / "tensorrt_llm" / "1" / "engine" / "config.json").write_text(text)
    ((rule, line, said),) = found(repository)
    assert (rule, line) == ("triton-engine-unreadable", 7)
    assert message in said


def test_a_missing_rank_is_named(repository: Path) -> None:
    engine = repository / "tensorrt_llm" / "1" / "engine"
    (engine / "rank1.engine").unlink()
    message = f"{engine} lacks rank1.engine of its 2 ranks"
    assert found(repository) == [("triton-engine-ranks", 7, message)]


def test_a_batch_above_the_engines_is_named(repository: Path) -> None:
    add_engine_model(repository, batch=65)
    message = "max_batch_size is 65, and the engine was built for 64"
    assert ("triton-engine-batch", 3, message) in found(repository)


@pytest.mark.parametrize("bls", ["", "model_transaction_policy { decoupled: false }\n"])
def test_models_that_differ_in_decoupled_are_named(repository: Path, bls: str) -> None:
    add_engine_model(repository, bls=bls)
    messages = [message for rule, _, message in found(repository) if rule == "triton-decoupled-differs"]
    assert messages == ["decoupled is false here and true in tensorrt_llm"]


def test_a_tokenizer_that_is_not_there_is_named_where_paths_are_of_this_machine(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer").mkdir()
    add_engine_model(repository, tokenizers=(str(tmp_path / "tokenizer"), str(tmp_path / "nowhere")))
    assert [(rule, message) for rule, _, message in found(repository)] == [
        (
            "triton-tokenizer-missing",
            f"there is no {tmp_path / 'nowhere'}, although other paths of the repository are on this machine",
        ),
        (
            "triton-tokenizer-differs",
            f"preprocessing reads {tmp_path / 'tokenizer'}, postprocessing another tokenizer",
        ),
    ]


@pytest.mark.parametrize(("other", "rules"), [("{}", []), ("{ }", ["triton-tokenizer-differs"])])
def test_two_copies_of_one_tokenizer_are_one(repository: Path, other: str, rules: list[str]) -> None:
    paths = "/models/preprocessing/1/tokenizer", "/models/postprocessing/1/tokenizer"
    add_engine_model(repository, tokenizers=paths)
    for model, text in (("preprocessing", "{}"), ("postprocessing", other)):
        place = repository / model / "1" / "tokenizer"
        place.mkdir()
        (place / "tokenizer.json").write_text(text)
    assert [rule for rule, _, _ in found(repository)] == rules


@pytest.mark.parametrize("name", ["org/model", "/models/elsewhere"])
def test_a_tokenizer_of_the_hub_or_of_the_container_alone_is_not_judged(repository: Path, name: str) -> None:
    add_engine_model(repository, tokenizers=(name, name))
    assert found(repository) == []


def test_the_repository_that_we_write_is_sound_but_for_being_an_ensemble(tmp_path: Path) -> None:
    tokenizer, engine, out = (tmp_path / name for name in ("source", "engine", "out"))
    for folder in (tokenizer, out):
        folder.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    add_engine(tmp_path / "made").rename(engine)
    layout = Layout(gpu="B200", gpus_per_node=2, tp=2)
    inputs = EngineRepositoryInputs(
        serve=Serve(), engine=Engine(backend="tensorrt"), layout=layout, tokenizer=tokenizer, engines=engine
    )
    write_engine_repository(out, inputs)
    launch = EngineLaunch(version="1.2.1", world_size=2)
    words = launch_words("demo", repository=".", engine=launch, layout=layout)
    write_launch_script(out / "launch.sh", words)
    assert [rule for rule, _, _ in found(out)] == ["triton-ensemble-llm"]


# Launch files


@pytest.mark.parametrize(
    ("image", "expected"), [("26.06", []), ("26.04", []), ("26.03", [2]), ("25.08", [2])]
)
def test_an_image_with_another_version_is_named(repository: Path, image: str, expected: list[int]) -> None:
    (repository / "run.sh").write_text("#!/bin/sh\n" + IMAGE.format(image))
    lines = [line for rule, line, _ in found(repository) if rule == "triton-engine-version"]
    assert lines == expected


@pytest.mark.parametrize(
    ("command", "count"),
    [
        ("python3 launch_triton_server.py --world_size 2 --model_repo=/models", None),
        ("python3 launch_triton_server.py --world_size=4 --model_repo=/models", 4),
        ("python3 launch_triton_server.py --model_repo=/models", 1),
        ("python3 launch_triton_server.py --multi-model --model_repo=/models", None),
        ("export TRTLLM_ORCHESTRATOR=1\ntritonserver --model-repository=/models", None),
        ("mpirun -n 1 tritonserver --http-port=1 : -n 1 tritonserver --load-model=tensorrt_llm", None),
        ("mpirun -n 1 tritonserver --http-port=1", 1),
        ("mpirun --allow-run-as-root \\\n  -np 3 \\\n  /opt/tritonserver/bin/tritonserver", 3),
        ("srun --ntasks=8 tritonserver --model-repository=/models", 8),
        ("tritonserver --model-repository=/models", 1),
        ("# tritonserver --model-repository=/models", None),
        ("curl -s tritonserver:8000/v2/health/ready", None),
    ],
)
def test_the_number_of_processes_is_held_against_the_ranks(
    repository: Path, command: str, count: int | None
) -> None:
    (repository / "run.sh").write_text(f"#!/bin/sh\n{command}\n")
    rows = [row for row in found(repository) if row[0] == "triton-engine-world-size"]
    words = "process is" if count == 1 else "processes are"
    message = f"{count} {words} started for an engine of 2 ranks"
    assert rows == ([("triton-engine-world-size", 2, message)] if count else [])


def test_a_script_beside_the_repository_counts_when_it_names_it(repository: Path) -> None:
    line = "python3 launch_triton_server.py --world_size 4 --model_repo="
    (repository.parent / "mine.sh").write_text(f"{line}models_of_mine\n")
    (repository.parent / "other.sh").write_text(f"{line}models_of_others\n")
    findings = [one for one in check_repository(repository) if one.rule == "triton-engine-world-size"]
    assert [one.file for one in findings] == [str(repository.parent / "mine.sh")]


@pytest.mark.parametrize("world_size", [1, 2])
def test_our_own_launch_script_fits_its_engine_only(repository: Path, world_size: int) -> None:
    engine = EngineLaunch(version="1.2.1", world_size=world_size)
    layout = Layout(gpu="B200", gpus_per_node=2, tp=world_size)
    words = launch_words("demo", repository=".", engine=engine, layout=layout)
    write_launch_script(repository / "launch.sh", words)
    rules = [rule for rule, _, _ in found(repository)]
    assert rules == ([] if world_size == 2 else ["triton-engine-world-size"])
