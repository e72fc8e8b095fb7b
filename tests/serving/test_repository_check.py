"""Traps of existing Triton repositories, each with the line that it stands on."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bwdeploy.errors import Finding
from bwdeploy.recipe.schema import Engine, Serve
from bwdeploy.serving.repository import RepositoryInputs, write_repository
from bwdeploy.serving.repository_check import REPOSITORY_RULES, check_repository, is_repository

LLMAPI = """\
name: "tensorrt_llm"
backend: "python"
max_batch_size: 0
model_transaction_policy { decoupled: true }
input [
  { name: "text_input" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "streaming" data_type: TYPE_BOOL dims: [ 1 ] optional: true }
]
output [ { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
MODEL_YAML = "model: m\nbackend: pytorch\ntriton_config:\n  max_batch_size: 0\n  decoupled: true\n"
ENSEMBLE = """\
name: "ensemble"
platform: "ensemble"
input [ { name: "IN" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] } ]
ensemble_scheduling { step [ {
  model_name: "tensorrt_llm"
  model_version: -1
  input_map { key: "text_input" value: "IN" }
  output_map { key: "text_output" value: "OUT" }
} ] }
"""


def model(repository: Path, config: str, *, name: str = "tensorrt_llm", settings: str | None = None) -> Path:
    place = repository / name
    (place / "1").mkdir(parents=True)
    (place / "config.pbtxt").write_text(config)
    if settings is not None:
        (place / "1" / "model.yaml").write_text(settings)
    return place


def found(directory: Path) -> list[tuple[str, int, str]]:
    findings = check_repository(directory)
    assert all(one.hint and one.message and one.source and Path(one.file).exists() for one in findings)
    return [(one.rule, one.line, one.message) for one in findings]


def test_a_sound_repository_has_no_findings(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI, settings=MODEL_YAML)
    assert found(tmp_path) == []


@pytest.mark.parametrize("streaming", [True, False])
def test_the_repository_that_we_write_has_no_findings(tmp_path: Path, streaming: bool) -> None:  # noqa: FBT001
    inputs = RepositoryInputs(
        serve=Serve(streaming=streaming), engine=Engine(), checkpoint=None, llm_args=None, runtime="echo"
    )
    write_repository(tmp_path, inputs)
    assert found(tmp_path) == []


WRONG: list[tuple[str, str, str, int, str | None]] = [
    (
        '"tensorrt_llm"',
        '"llm"',
        "triton-model-name",
        1,
        "the model is named llm, its directory tensorrt_llm",
    ),
    ('backend: "python"\n', "", "triton-backend-missing", 0, "neither backend nor platform is named"),
    ("max_batch_size: 0", "max_batch_size: -1", "triton-batch-size", 3, "max_batch_size is -1"),
    ("max_batch_size: 0", "max_batch_size: x", "triton-config-syntax", 3, None),
    ("TYPE_BOOL", "TYPE_BOOOL", "triton-config-syntax", 7, None),
    (
        " data_type: TYPE_BOOL",
        "",
        "triton-tensor-incomplete",
        7,
        "input streaming has no data_type",
    ),
    ("dims: [ 1 ]", "dims: [ 0 ]", "triton-tensor-incomplete", 7, "input streaming has [0]"),
    (" dims: [ 1 ]", "", "triton-tensor-incomplete", 7, "input streaming has no dims"),
    (
        '"streaming"',
        '"text_input"',
        "triton-tensor-list",
        6,
        "input text_input stands there 2 times",
    ),
    (
        'output [ { name: "text_output" data_type: TYPE_STRING dims: [ -1 ] } ]\n',
        "",
        "triton-tensor-list",
        0,
        "the model has no output",
    ),
    ("count: 1", "count: 0", "triton-instance-count", 10, "an instance group of 0 instances"),
    ("count: 1", "count: -1", "triton-instance-count", 10, "an instance group of -1 instances"),
    ("KIND_CPU", "KIND_CPU gpus: [ 0 ]", "triton-instance-kind", 10, "KIND_CPU with gpus: [0]"),
    (
        "KIND_CPU",
        "KIND_GPU",
        "triton-instance-kind",
        10,
        "the LLM API chooses its GPUs itself, so that its instances must be KIND_CPU",
    ),
    (
        "instance_group [ { count: 1 kind: KIND_CPU } ]\n",
        "",
        "triton-instance-kind",
        0,
        "without instance_group Triton makes an instance for each GPU, each loading the whole model",
    ),
    (
        "count: 1",
        "count: 2",
        "triton-instances-share-gpus",
        10,
        "2 instances would all load onto the same GPUs",
    ),
    (
        "decoupled: true }",
        "decoupled: true }\nresponse_cache { enable: true }",
        "triton-response-cache",
        5,
        "a decoupled model cannot use the response cache",
    ),
    (
        "decoupled: true }",
        "decoupled: true }\ndynamic_batching { }",
        "triton-dynamic-batching",
        5,
        "dynamic_batching does nothing for a decoupled model",
    ),
    (
        "max_batch_size: 0",
        "max_batch_size: 0\nversion_policy: { specific { versions: [ 3 ] } }",
        "triton-version-missing",
        4,
        "version_policy names version 3, which does not exist",
    ),
    (
        "decoupled: true }",
        "decoupled: true }\nmodel_metrics { }",
        "triton-field-too-new",
        5,
        "servers up to 2.51, such as the bundled one, do not know model_metrics",
    ),
    (
        "input [\n",
        'input [\n  { name: "lora_path" data_type: TYPE_STRING dims: [ 1 ] optional: true },\n',
        "triton-client-names-file",
        6,
        "whoever sends a request names a file or URL with lora_path, and the server reads it",
    ),
    (
        "max_batch_size: 0",
        'max_batch_size: 0\nparameters { key: "EXECUTION_ENV_PATH" value { string_value: "/e; rm x" } }',
        "triton-environment-path",
        4,
        "EXECUTION_ENV_PATH is put into a shell command, and '/e; rm x' is more than a path",
    ),
    (
        "decoupled: true",
        "decoupled: false",
        "triton-decoupled-split",
        4,
        "model.yaml says decoupled true, config.pbtxt false",
    ),
]
"""What stands in the sound configuration, what in its place, and the finding; None: protobuf's own words."""


@pytest.mark.parametrize("row", WRONG, ids=lambda row: f"{row[2]}-{row[1][:20]}")
def test_a_wrong_configuration_is_named_with_its_line(
    tmp_path: Path, row: tuple[str, str, str, int, str | None]
) -> None:
    old, new, rule, line, message = row
    assert old in LLMAPI
    model(tmp_path, LLMAPI.replace(old, new), settings=MODEL_YAML)
    ((found_rule, found_line, found_message),) = found(tmp_path)
    assert (found_rule, found_line) == (rule, line)
    assert message in {None, found_message}


def test_a_preferred_batch_above_the_limit_is_named(tmp_path: Path) -> None:
    config = LLMAPI.replace("max_batch_size: 0", "max_batch_size: 4").replace("decoupled: true", "")
    config = config.replace('"streaming"', '"other"') + "dynamic_batching { preferred_batch_size: [ 8 ] }\n"
    model(tmp_path, config)
    assert found(tmp_path) == [("triton-batch-size", 11, "preferred_batch_size 8 is above max_batch_size 4")]


def test_the_legacy_backend_may_batch_a_decoupled_model(tmp_path: Path) -> None:
    config = LLMAPI.replace('backend: "python"', 'backend: "tensorrtllm"').replace(
        "max_batch_size: 0", "max_batch_size: 64\ndynamic_batching { preferred_batch_size: [ 64 ] }"
    )
    model(tmp_path, config)
    assert found(tmp_path) == []


def test_streaming_without_a_decoupled_model_is_a_warning(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI.replace("decoupled: true", "decoupled: false"))
    (finding,) = check_repository(tmp_path)
    assert (finding.rule, finding.severity, finding.line) == ("triton-streaming-refused", "warning", 4)


def test_two_instances_with_their_own_gpus_are_fine(tmp_path: Path) -> None:
    own = 'parameters { key: "gpu_device_ids" value { string_value: "0;1" } }\n'
    model(tmp_path, LLMAPI.replace("count: 1", "count: 2") + own)
    assert found(tmp_path) == []


def test_a_model_without_versions_is_named(tmp_path: Path) -> None:
    (model(tmp_path, LLMAPI) / "1").rmdir()
    assert found(tmp_path) == [("triton-version-missing", 0, "tensorrt_llm has no version directory")]


def test_a_directory_that_is_no_model_is_named(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI)
    (tmp_path / "notes").mkdir()
    (tmp_path / ".cache").mkdir()
    assert found(tmp_path) == [("triton-config-missing", 0, "notes has no config.pbtxt")]


def test_one_model_directory_can_be_checked_alone(tmp_path: Path) -> None:
    place = model(tmp_path, LLMAPI.replace("KIND_CPU", "KIND_GPU"))
    assert [rule for rule, _, _ in found(place)] == ["triton-instance-kind"]


def test_code_of_the_model_is_a_warning(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI, settings=MODEL_YAML + "trust_remote_code: true\n")
    assert [(one.rule, one.severity) for one in check_repository(tmp_path)] == [
        ("triton-trust-remote-code", "warning")
    ]


def test_a_broken_model_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI, settings="a: 1\nb: [\n")
    ((rule, line, _),) = found(tmp_path)
    assert (rule, line > 0) == ("triton-config-syntax", True)


# Ensembles


def test_an_ensemble_around_an_llm_is_a_warning_only(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI)
    model(tmp_path, ENSEMBLE, name="ensemble")
    message = "an ensemble around an LLM: cancelled requests go on, and streamed text can split characters"
    assert found(tmp_path) == [("triton-ensemble-llm", 5, message)]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('name: "tensorrt_llm"', 'name: "llm"', 6, "step llm is no model of this repository"),
        ('key: "text_input"', 'key: "text"', 8, "step tensorrt_llm has no input text"),
        ('key: "text_output"', 'key: "text"', 9, "step tensorrt_llm has no output text"),
        (
            '"IN" data_type: TYPE_STRING',
            '"IN" data_type: TYPE_INT32',
            3,
            "tensor IN has another data type than input text_input of step tensorrt_llm",
        ),
        ('  input_map { key: "text_input" value: "IN" }\n', "", 6, "step tensorrt_llm gets no text_input"),
    ],
)
def test_an_ensemble_that_does_not_connect_is_named(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    model(tmp_path, LLMAPI)
    model(tmp_path, ENSEMBLE.replace(old, new), name="ensemble")
    assert ("triton-ensemble", line, message) in found(tmp_path)


def test_an_ensemble_without_steps_is_named(tmp_path: Path) -> None:
    model(tmp_path, ENSEMBLE.partition("ensemble_scheduling")[0], name="ensemble")
    assert found(tmp_path) == [("triton-ensemble", 0, "an ensemble without steps")]


# Templates


def test_an_unfilled_template_names_every_mandatory_key(tmp_path: Path) -> None:
    config = LLMAPI.replace("max_batch_size: 0", "max_batch_size: ${triton_max_batch_size}") + (
        'parameters { key: "gpt_model_path" value { string_value: "${engine_dir}" } }\n'
        'parameters { key: "decoding_mode" value { string_value: "${decoding_mode}" } }\n'
    )
    model(tmp_path, config)
    assert found(tmp_path) == [
        ("triton-template-unfilled", 3, "${triton_max_batch_size} was never filled in"),
        ("triton-template-unfilled", 11, "${engine_dir} was never filled in"),
    ]


def test_a_value_that_was_cut_at_its_comma_is_named(tmp_path: Path) -> None:
    cut = 'parameters { key: "gpu_device_ids" value { string_value: "0\\\\" } }\n'
    model(tmp_path, LLMAPI + cut)
    message = "a value ends in a backslash: it was cut at a comma that belongs to it"
    assert found(tmp_path) == [("triton-template-comma", 11, message)]


# Launch files


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("tritonserver --model-control-mode=explicit", "triton-model-control"),
        ("tritonserver --model-control-mode poll", "triton-model-control"),
        ("tritonserver --backend-config=python,shm-region-prefix-name=prefix0_", "triton-shm-prefix"),
        ("tritonserver --allow-sagemaker=true", "triton-front-end"),
    ],
)
def test_a_launch_script_beside_the_models_is_read(tmp_path: Path, line: str, rule: str) -> None:
    model(tmp_path, LLMAPI)
    (tmp_path / "serve.sh").write_text(f"#!/bin/sh\n# {line}\n{line}\n")
    assert [(name, where) for name, where, _ in found(tmp_path)] == [(rule, 3)]


@pytest.mark.parametrize("separator", [" ", " \\\n  "])
@pytest.mark.parametrize(
    ("doors", "expected"),
    [("--allow-http=false --allow-grpc=false", []), ("--allow-http=false", ["triton-model-control"])],
)
def test_a_rank_without_doors_may_load_its_model_explicitly(
    tmp_path: Path, separator: str, doors: str, expected: list[str]
) -> None:
    model(tmp_path, LLMAPI)
    follower = f"-n 1 tritonserver --model-control-mode=explicit --load-model=tensorrt_llm {doors}"
    words = f"mpirun -n 1 tritonserver --http-port=1 : {follower} : {follower}".split()
    (tmp_path / "serve.sh").write_text(separator.join(words) + "\n")
    assert sorted({rule for rule, _, _ in found(tmp_path)}) == expected


def test_a_safe_launch_script_has_no_findings(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI)
    (tmp_path / "serve.sh").write_text(
        "tritonserver --model-control-mode=none --allow-sagemaker=false"
        " --backend-config=python,shm-region-prefix-name=triton_python_backend_shm_region_a_\n"
    )
    assert found(tmp_path) == []


# All of it


def test_a_repository_is_recognized(tmp_path: Path) -> None:
    assert not is_repository(tmp_path)
    assert not is_repository(tmp_path / "nowhere")
    place = model(tmp_path, LLMAPI)
    assert is_repository(tmp_path)
    assert is_repository(place)


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff\xfe", b"{", b"name: 3", b"input [" * 9000])
def test_no_configuration_gives_a_traceback(tmp_path: Path, content: bytes) -> None:
    (model(tmp_path, LLMAPI) / "config.pbtxt").write_bytes(content)
    assert all(isinstance(finding, Finding) for finding in check_repository(tmp_path))


def test_every_rule_is_described_and_tested() -> None:
    ids = [rule.id for rule in REPOSITORY_RULES]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"triton(-[a-z]+)+", name) for name in ids)
    assert all(rule.summary and rule.source and rule.why for rule in REPOSITORY_RULES)
    files = (Path(__file__), Path(__file__).with_name("test_repository_check_engines.py"))
    here = "".join(file.read_text() for file in files)
    assert [name for name in ids if f'"{name}"' not in here] == []


DEVICES = 'parameters {{ key: "gpu_device_ids" value {{ string_value: "{}" }} }}\n'


@pytest.mark.parametrize(
    ("count", "devices", "settings", "expected"),
    [
        (2, "0,1;2,3", "tensor_parallel_size: 2\n", []),
        (1, "0", "", []),
        (2, "0;0", "kv_cache_config: {free_gpu_memory_fraction: 0.4}\n", []),
        (2, "0,1", "", [("triton-instances-share-gpus", "gpu_device_ids has 1 group for 2 instances")]),
        (1, "0 1", "", [("triton-instances-share-gpus", "gpu_device_ids is '0 1', not GPU numbers")]),
        (
            2,
            "0;1",
            "tensor_parallel_size: 2\n",
            [
                (
                    "triton-instances-share-gpus",
                    "model.yaml asks for 2 GPUs for each instance, gpu_device_ids says 0;1",
                )
            ],
        ),
        (
            2,
            "0;0",
            "",
            [
                (
                    "triton-instances-kv-share",
                    "2 instances share a GPU, and each takes the default share of its free memory",
                )
            ],
        ),
        (
            2,
            "0;0",
            "kv_cache_config: {free_gpu_memory_fraction: 0.8}\n",
            [("triton-instances-kv-share", "2 instances share a GPU, and each takes 0.8 of its free memory")],
        ),
    ],
)
def test_the_gpus_of_each_instance_are_held_against_count_and_ranks(
    tmp_path: Path, count: int, devices: str, settings: str, expected: list[tuple[str, str]]
) -> None:
    config = LLMAPI.replace("count: 1", f"count: {count}") + DEVICES.format(devices)
    model(tmp_path, config, settings=MODEL_YAML + settings)
    assert [(rule, message) for rule, _, message in found(tmp_path)] == expected


def test_a_key_of_the_command_line_in_model_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI, settings=MODEL_YAML + "kv_cache_dtype: fp8\n")
    assert found(tmp_path) == [("triton-settings-key", 6, "the LLM API has no argument kv_cache_dtype")]


def test_tensors_that_nothing_makes_are_named(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI)
    config = ENSEMBLE.replace('value: "IN"', 'value: "INN"').replace('value: "OUT"', 'value: "OUTT"')
    model(tmp_path, config, name="ensemble")
    messages = {message for rule, _, message in found(tmp_path) if rule == "triton-ensemble"}
    assert messages == {
        "step tensorrt_llm takes tensor INN, which nothing makes",
        "no step makes the ensemble's output OUT",
    }


@pytest.mark.parametrize("version", ["0", "01", "v1"])
def test_a_directory_that_triton_ignores_is_no_version(tmp_path: Path, version: str) -> None:
    place = model(tmp_path, LLMAPI)
    (place / "1").rename(place / version)
    assert [rule for rule, _, _ in found(tmp_path)] == ["triton-version-missing"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "it is no UTF-8 text"),
        (b"\xef\xbb\xbf" + LLMAPI.encode(), "it starts with a byte order mark"),
        (b"#" * 1_000_001, "it is larger than 1 MB, which no configuration is"),
        (b"\x00\x1b[31m", "Expected identifier or number, got ?."),
    ],
)
def test_a_configuration_that_is_no_text_is_said_in_plain_words(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (model(tmp_path, LLMAPI) / "config.pbtxt").write_bytes(content)
    ((rule, _, said),) = found(tmp_path)
    assert (rule, said) == ("triton-config-syntax", message)


@pytest.mark.timeout(20)
def test_pipes_and_links_in_a_repository_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(model(tmp_path, LLMAPI) / "1" / "model.yaml")
    place = tmp_path / "other"
    place.mkdir()
    os.mkfifo(place / "config.pbtxt")
    os.mkfifo(tmp_path / "launch.sh")
    (tmp_path / "loop.sh").symlink_to("loop.sh")
    assert found(tmp_path) == [("triton-config-missing", 0, "other has no config.pbtxt")]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("TYPE_BOOL", "BOOL", "Did you mean TYPE_BOOL"),
        ("max_batch_size", "max_batchsize", "Did you mean max_batch_size"),
        ("instance_group [", "instance_groups [", "Did you mean instance_group"),
    ],
)
def test_a_misspelt_word_gets_the_near_one(tmp_path: Path, old: str, new: str, hint: str) -> None:
    model(tmp_path, LLMAPI.replace(old, new))
    (finding,) = check_repository(tmp_path)
    assert (finding.rule, finding.hint) == ("triton-config-syntax", hint)


@pytest.mark.parametrize(
    ("tag", "rule"), [("24.05", "triton-image-holes"), ("25.10", "triton-image-old"), ("26.06", None)]
)
def test_an_old_image_in_a_launch_file_is_named(tmp_path: Path, tag: str, rule: str | None) -> None:
    model(tmp_path, LLMAPI)
    (tmp_path / "compose.yaml").write_text(f"image: nvcr.io/nvidia/tritonserver:{tag}-trtllm-python-py3\n")
    assert [said for said, _, _ in found(tmp_path)] == ([rule] if rule else [])


@pytest.mark.parametrize(("grace", "expected"), [(30, ["triton-grace-period"]), (90, [])])
def test_a_grace_period_must_outlast_the_exit_of_the_server(
    tmp_path: Path, grace: int, expected: list[str]
) -> None:
    model(tmp_path, LLMAPI)
    text = f'terminationGracePeriodSeconds: {grace}\nargs: ["--exit-timeout-secs=60"]\n'
    (tmp_path / "deployment.yaml").write_text(text)
    assert [rule for rule, _, _ in found(tmp_path)] == expected


def test_a_load_test_in_the_old_mode_is_named(tmp_path: Path) -> None:
    model(tmp_path, LLMAPI)
    (tmp_path / "bench.sh").write_text(
        "genai-perf profile -m llm --service-kind triton --backend tensorrtllm\n"
    )
    assert [(rule, line) for rule, line, _ in found(tmp_path)] == [("triton-load-test", 1)]
