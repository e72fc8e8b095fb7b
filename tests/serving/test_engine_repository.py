from __future__ import annotations

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import bwdeploy_engine_models
from bwdeploy.errors import StoreError, ToolError
from bwdeploy.facts.build_flags import build_flags
from bwdeploy.facts.template_values import as_text, misfit, typed_value
from bwdeploy.facts.triton_templates import (
    engine_models,
    ensemble_steps,
    key_in,
    template_key_of,
    template_keys,
)
from bwdeploy.recipe.schema import Engine, Layout, Serve
from bwdeploy.recipe.words import path_problem
from bwdeploy.serving.engine_repository import EngineRepositoryInputs, write_engine_repository
from bwdeploy.serving.model_config import parse_pbtxt, refusals, to_pbtxt
from bwdeploy.tools import triton_container
from bwdeploy.tools.triton_ranks import EngineLaunch, server_words
from bwdeploy.tools.triton_request import ServerRequest
from bwdeploy.tools.triton_server import start_server

PACKAGE = Path(bwdeploy_engine_models.__file__).parent
MODELS = ("preprocessing", "postprocessing", "tensorrt_llm", "tensorrt_llm_bls", "ensemble")
SAMPLES = {
    "whole": 3, "number": 0.5, "switch": False, "text": "/some/where", "wholes": [4, 8],
    "groups": [[0, 1], [2, 3]], "tree": [[0, 0], [1]],
}  # fmt: skip


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "modeling.py"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "rank0.engine").write_bytes(b"engine")
    (folder / "config.json").write_text(json.dumps({"pretrained_config": {"vocab_size": 128256}}))
    return folder


@pytest.fixture
def inputs(tokenizer: Path, engines: Path) -> EngineRepositoryInputs:
    return EngineRepositoryInputs(
        Serve(max_queued=7, cancellation_check_period_ms=250, cumulative_text=True),
        Engine(backend="tensorrt", max_batch_size=16, max_seq_len=4096),
        Layout(),
        tokenizer,
        engines,
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def configs(out: Path, inputs: EngineRepositoryInputs) -> dict[str, Any]:
    write_engine_repository(out, inputs)
    return {name: parse_pbtxt((out / name / "config.pbtxt").read_text()) for name in MODELS}


def parameters(config: Any) -> dict[str, str]:
    return {name: value.string_value for name, value in config.parameters.items()}


def with_serve(inputs: EngineRepositoryInputs, **serve: Any) -> EngineRepositoryInputs:
    return inputs._replace(serve=Serve(**serve))


def test_five_models_read_back_as_they_were_written(out: Path, inputs: EngineRepositoryInputs) -> None:
    found = configs(out, inputs)
    assert {path.name for path in out.iterdir()} == set(MODELS) == set(engine_models())
    for name, config in found.items():
        assert parse_pbtxt(to_pbtxt(config)) == config
        assert refusals(config, directory_name=name) == ()


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_of_the_template_is_there(
    out: Path, inputs: EngineRepositoryInputs, model: str
) -> None:
    everything = {
        key.name: key.choices[0] if key.choices else SAMPLES[key.kind] for key in template_keys().values()
    } | {"kv_cache_free_gpu_mem_fraction": 0.5, "tensorrt_llm_model_name": "other"}
    found = parameters(configs(out, with_serve(inputs, engine_parameters=everything))[model])
    for parameter, template in engine_models()[model].parameters.items():
        key = key_in(template)
        wanted = template if key is None else as_text(template_keys()[key], everything[key])
        assert found[parameter] == wanted, parameter


def test_unset_parameters_are_empty_and_none_is_left_to_fill_in(
    out: Path, inputs: EngineRepositoryInputs
) -> None:
    found = configs(out, inputs)
    assert parameters(found["tensorrt_llm"])["kv_cache_free_gpu_mem_fraction"] == ""
    assert parameters(found["tensorrt_llm"])["guided_decoding_backend"] == ""
    assert "recv_poll_period_ms" not in found["tensorrt_llm"].parameters
    assert not any("${" in path.read_text() for path in out.rglob("config.pbtxt"))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("version", ["0.19.0", "1.2.1"])
def test_every_tensor_of_the_version_is_there_once(
    out: Path, inputs: EngineRepositoryInputs, model: str, version: str
) -> None:
    engine = inputs.engine.model_copy(update={"tensorrt_llm": version})
    config = configs(out, inputs._replace(engine=engine))[model]
    row = engine_models()[model]
    for written, facts in ((config.input, row.inputs), (config.output, row.outputs)):
        wanted = [tensor.name for tensor in facts if tensor.is_in(version) and not tensor.vision]
        assert [tensor.name for tensor in written] == wanted
        assert len(set(wanted)) == len(wanted)
    names = {tensor.name for tensor in config.input}
    if model in {"ensemble", "tensorrt_llm", "tensorrt_llm_bls"}:
        assert (
            {"seed", "min_tokens"} <= names if version == "1.2.1" else {"random_seed", "min_length"} <= names
        )
        assert [tensor.name for tensor in config.output].count("kv_cache_alloc_total_blocks") == 1


@pytest.mark.parametrize(
    ("version", "counts"),
    [
        ("0.19.0", {
            "ensemble": (34, 17, 0), "preprocessing": (10, 11, 7), "postprocessing": (2, 1, 2),
            "tensorrt_llm": (60, 19, 45), "tensorrt_llm_bls": (36, 17, 5),
        }),
        ("1.2.1", {
            "ensemble": (36, 19, 0), "preprocessing": (10, 11, 7), "postprocessing": (2, 1, 2),
            "tensorrt_llm": (62, 21, 45), "tensorrt_llm_bls": (38, 19, 5),
        }),
    ],
)  # fmt: skip
def test_as_much_is_written_as_upstreams_templates_have(
    out: Path, inputs: EngineRepositoryInputs, version: str, counts: dict[str, tuple[int, int, int]]
) -> None:
    """Counted in upstream's files, without what is for pictures and with three parameters of our own."""
    engine = inputs.engine.model_copy(update={"tensorrt_llm": version})
    found = configs(out, inputs._replace(engine=engine))
    assert counts == {
        name: (len(config.input), len(config.output), len(config.parameters))
        for name, config in found.items()
    }


def test_the_engine_sees_numbers_without_a_dimension(out: Path, inputs: EngineRepositoryInputs) -> None:
    config = configs(out, inputs)["tensorrt_llm"]
    scalars = {tensor.name for tensor in config.input if tensor.HasField("reshape")}
    assert {"input_lengths", "end_id", "seed", "stop"} <= scalars
    assert not {"input_ids", "stop_words_list", "lora_weights"} & scalars
    ragged = {tensor.name for tensor in config.input if tensor.allow_ragged_batch}
    assert {"input_ids", "stop_words_list", "lora_weights"} <= ragged


def test_clients_cannot_name_pictures_by_url(out: Path, inputs: EngineRepositoryInputs) -> None:
    names = {tensor.name.lower() for config in configs(out, inputs).values() for tensor in config.input}
    assert not [name for name in names if "image" in name or "url" in name or "video" in name]


def test_values_follow_from_the_recipe(out: Path, inputs: EngineRepositoryInputs) -> None:
    found = configs(out, inputs)
    engine, bls, before = found["tensorrt_llm"], found["tensorrt_llm_bls"], found["preprocessing"]
    assert {config.max_batch_size for config in found.values()} == {16}
    assert engine.model_transaction_policy.decoupled
    assert bls.model_transaction_policy.decoupled
    assert engine.backend == "tensorrtllm"
    assert engine.dynamic_batching.default_queue_policy.max_queue_size == 7
    assert before.dynamic_batching.default_queue_policy.max_queue_size == 7
    assert parameters(engine)["cancellation_check_period_ms"] == "250"
    assert parameters(engine)["gpt_model_type"] == "inflight_fused_batching"
    assert parameters(engine)["exclude_input_in_output"] == "true"
    assert parameters(bls)["accumulate_tokens"] == "true"
    assert (parameters(before)["max_seq_len"], parameters(before)["vocab_size"]) == ("4096", "128256")
    assert {one.kind for config in found.values() for one in config.instance_group} == {2}  # KIND_CPU


def test_without_streaming_requests_of_the_bls_need_processes(
    out: Path, inputs: EngineRepositoryInputs
) -> None:
    found = configs(out, with_serve(inputs, streaming=False, max_queued=0))
    assert not found["tensorrt_llm"].model_transaction_policy.decoupled
    assert found["tensorrt_llm_bls"].instance_group[0].count == 16
    assert found["tensorrt_llm"].dynamic_batching.default_queue_policy.max_queue_size == 1  # 0 is no limit


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ("medusa", "medusa"),
        ("eagle", "eagle"),
        ("lookahead_decoding", "lookahead"),
        ("explicit_draft_tokens", "redrafter"),
        ("draft_tokens_external", ""),
    ],
)
def test_speculative_engines_decode_as_they_were_built(
    out: Path, inputs: EngineRepositoryInputs, mode: str, wanted: str
) -> None:
    flags = {"speculative_decoding_mode": mode, "max_beam_width": 2}
    engine = inputs.engine.model_copy(update={"build_flags": flags})
    found = parameters(configs(out, inputs._replace(engine=engine))["tensorrt_llm"])
    assert (found["decoding_mode"], found["max_beam_width"]) == (wanted, "2")


def test_several_machines_are_told(out: Path, inputs: EngineRepositoryInputs) -> None:
    layout = Layout(nodes=2, gpus_per_node=8, tp=16)
    assert parameters(configs(out, inputs._replace(layout=layout))["tensorrt_llm"])["num_nodes"] == "2"


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float32", "TYPE_FP32"), ("float16", "TYPE_FP16"), ("bfloat16", "TYPE_BF16")]
)
def test_logits_have_the_engines_type_in_every_model(
    out: Path, inputs: EngineRepositoryInputs, dtype: str, wanted: str
) -> None:
    found = configs(out, inputs._replace(logits_dtype=dtype))
    kinds = {
        config.DESCRIPTOR.file.enum_types_by_name["DataType"].values_by_number[tensor.data_type].name
        for config in found.values()
        for tensor in (*config.input, *config.output)
        if "logits" in tensor.name and not tensor.name.startswith(("return", "use"))
    }
    assert kinds == {wanted}


def test_the_ensemble_passes_on_what_both_sides_have(out: Path, inputs: EngineRepositoryInputs) -> None:
    found = configs(out, inputs)
    ensemble = found["ensemble"]
    made = {tensor.name for tensor in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        model = found[step.model_name]
        assert set(step.input_map) <= {tensor.name for tensor in model.input}
        assert set(step.input_map.values()) <= made
        assert {tensor.name for tensor in model.input if not tensor.optional} <= set(step.input_map)
        assert set(step.output_map) <= {tensor.name for tensor in model.output}
        made |= set(step.output_map.values())
    assert {tensor.name for tensor in ensemble.output} <= made
    used = {name for step in ensemble.ensemble_scheduling.step for name in step.input_map.values()}
    assert {tensor.name for tensor in ensemble.input} <= used


def test_the_engine_is_linked_and_named_where_the_repository_is_mounted(
    out: Path, inputs: EngineRepositoryInputs, engines: Path
) -> None:
    found = configs(out, inputs)
    path = Path(parameters(found["tensorrt_llm"])["gpt_model_path"])
    mounted = path.relative_to(triton_container.REPOSITORY_INSIDE)
    assert (out / mounted / "rank0.engine").samefile(engines / "rank0.engine")
    assert str(path.parents[2]) in (out / "ensemble" / "1" / "README.md").read_text()


def test_the_kernel_pack_lies_where_the_launch_looks_for_its_plugins(
    out: Path, inputs: EngineRepositoryInputs, tmp_path: Path
) -> None:
    library = tmp_path / "pack" / "tensorrt" / "libbwdeploy_tensorrt_plugins.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"plugins")
    write_engine_repository(out, inputs._replace(kernels=tmp_path / "pack"))
    launch = EngineLaunch(version="1.2.1", world_size=1, plugins=True)
    program, preload, server = server_words("tritonserver", repository=str(out), launch=launch)
    assert (program, server) == ("env", "tritonserver")
    assert Path(preload.removeprefix("LD_PRELOAD=")).samefile(library)


def test_engine_and_tokenizer_may_lie_elsewhere(out: Path, inputs: EngineRepositoryInputs) -> None:
    given = {"engine_dir": "/srv/engine", "tokenizer_dir": "/srv/tokenizer"}
    found = configs(out, with_serve(inputs, engine_parameters=given))
    assert parameters(found["tensorrt_llm"])["gpt_model_path"] == "/srv/engine"
    assert parameters(found["preprocessing"])["tokenizer_dir"] == "/srv/tokenizer"


def test_the_tokenizer_is_linked_without_weights_and_code(
    out: Path, inputs: EngineRepositoryInputs, tokenizer: Path
) -> None:
    write_engine_repository(out, inputs)
    for model in ("preprocessing", "postprocessing"):
        folder = out / model / "1" / "tokenizer"
        assert {path.name for path in folder.iterdir()} == {
            "tokenizer.json", "tokenizer_config.json", "generation_config.json",
        }  # fmt: skip
        assert (folder / "tokenizer.json").samefile(tokenizer / "tokenizer.json")


def test_the_models_are_copied_byte_for_byte(out: Path, inputs: EngineRepositoryInputs) -> None:
    write_engine_repository(out, inputs)
    sources = [path for path in PACKAGE.rglob("*.py") if path.name != "model.py"]
    assert len(sources) > 10
    for model in ("preprocessing", "postprocessing", "tensorrt_llm_bls"):
        version = out / model / "1"
        assert filecmp.cmp(PACKAGE / model / "model.py", version / "model.py", shallow=False)
        for source in sources:
            copy = version / PACKAGE.name / source.relative_to(PACKAGE)
            assert filecmp.cmp(source, copy, shallow=False)


def test_the_models_stand_alone() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "import bwdeploy\n" not in text
        assert "from bwdeploy." not in text
        assert "trust_remote_code=True" not in text


def test_a_directory_without_tokenizer_is_a_store_error(
    out: Path, inputs: EngineRepositoryInputs, tokenizer: Path
) -> None:
    (tokenizer / "tokenizer.json").unlink()
    with pytest.raises(StoreError, match="has no tokenizer"):
        write_engine_repository(out, inputs)


def test_an_engine_directory_that_is_gone_is_a_store_error(
    out: Path, inputs: EngineRepositoryInputs, engines: Path
) -> None:
    shutil.rmtree(engines)
    with pytest.raises(StoreError, match="engines has no engine"):
        write_engine_repository(out, inputs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"kv_cache_fraction": 0.5}, "kv_cache_fraction: expected a template key"),
        ({"kv_cache_free_gpu_mem_fraction": 1.5}, "expected a number above 0 and at most 1, got 1.5"),
        ({"batch_scheduler_policy": "greedy"}, "expected one of guaranteed_no_evict, max_utilization"),
    ],
)
def test_parameters_that_check_refuses_are_not_written(
    out: Path, inputs: EngineRepositoryInputs, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        write_engine_repository(out, with_serve(inputs, engine_parameters=given))


def test_the_real_server_misses_nothing_but_the_backend(out: Path, inputs: EngineRepositoryInputs) -> None:
    one_each = {f"{name}_instance_count": 1 for name in ("preprocessing", "postprocessing", "bls")}
    shutil.rmtree(inputs.tokenizer)
    inputs.tokenizer.mkdir()
    vocabulary = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
    (inputs.tokenizer / "tokenizer.json").write_text(json.dumps(vocabulary))
    write_engine_repository(out, with_serve(inputs, engine_parameters=one_each))
    log = out.with_suffix(".log")
    with pytest.raises(ToolError):
        start_server(ServerRequest(repository=out, log=log, exit_timeout_s=1))
    text = log.read_text()
    for model in ("preprocessing", "postprocessing", "tensorrt_llm_bls"):
        assert f"successfully loaded '{model}'" in text
    failures = {line.partition("] ")[2] for line in text.splitlines() if "failed to load '" in line}
    assert "unable to find backend library for backend 'tensorrtllm'" in text
    assert "ensemble 'ensemble' depends on 'tensorrt_llm' which has no loaded version" in text
    assert {failure.split("'")[1] for failure in failures} == {"tensorrt_llm"}
    assert "Poll failed" not in text


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("enable_kv_cache_reuse", False, "false"),
        ("max_attention_window_size", 4096, "4096"),
        ("max_attention_window_size", [4096, 32768], "4096,32768"),
        ("gpu_device_ids", [0, 1], "0,1"),
        ("gpu_device_ids", [[0, 1], [2, 3]], "0,1;2,3"),
        ("medusa_choices", [[0, 0, 0], [0, 1]], "{0, 0, 0}, {0, 1}"),
        ("kv_cache_free_gpu_mem_fraction", 0.85, "0.85"),
        ("lora_prefetch_dir", "/adapters", "/adapters"),
    ],
)
def test_values_are_spelled_as_the_backend_reads_them_and_back(key: str, value: Any, text: str) -> None:
    assert misfit(template_keys()[key], value) == ""
    assert as_text(template_keys()[key], value) == text
    assert typed_value(template_keys()[key], text) == value


@pytest.mark.parametrize("text", ["", " ", "${max_beam_width}"])
def test_an_unfilled_value_counts_as_unset(text: str) -> None:
    assert typed_value(template_keys()["max_beam_width"], text) is None


@pytest.mark.parametrize(
    ("key", "text"), [("max_beam_width", "0"), ("max_beam_width", "two"), ("decoupled_mode", "perhaps")]
)
def test_a_value_that_is_none_is_refused(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|invalid literal"):
        typed_value(template_keys()[key], text)


def test_parameters_lead_back_to_their_template_keys() -> None:
    assert template_key_of("tensorrt_llm", "gpt_model_type") == "batching_strategy"
    assert template_key_of("preprocessing", "gpt_model_path") == "engine_dir"
    assert template_key_of("tensorrt_llm", "executor_worker_path") is None
    assert template_key_of("tensorrt_llm", "nothing") is None
    assert template_key_of("nothing", "gpt_model_path") is None


def test_the_facts_name_only_what_there_is() -> None:
    keys = template_keys()
    used = {key for model in engine_models().values() for key in (*model.mandatory, *model.optional)}
    assert used == set(keys)
    for model in engine_models().values():
        for template in model.parameters.values():
            assert key_in(template) in {None, *model.mandatory, *model.optional}
    for key in keys.values():
        assert key.default is None or misfit(key, key.default) == ""
        place = key.elsewhere
        if place.startswith("engine.build_flags."):
            assert place.removeprefix("engine.build_flags.") in build_flags()
        elif place:
            assert path_problem(tuple(place.split("."))) is None
    for step in ensemble_steps():
        row = engine_models()[step.model]
        assert set(step.inputs) <= {tensor.name for tensor in row.inputs}
        assert set(step.outputs) <= {tensor.name for tensor in row.outputs}
