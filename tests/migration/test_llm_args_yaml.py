"""YAML of LLM API arguments, and published launch scripts, as recipes.

The scripts are NVIDIA's own settings: docs/source/blogs/Best_perf_practice_on_DeepSeek-R1_in_TensorRT-LLM.md
(its editions of 0.19 and of 1.0), tech_blog/blog6_Llama4_maverick_eagle_guide.md, and settings of 0.21 in
between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from bwdeploy.checks.llm_args import check_llm_args
from bwdeploy.checks.recipes import CheckedRecipe, check_recipes
from bwdeploy.errors import RecipeError
from bwdeploy.migration.found import Found, Wanted
from bwdeploy.migration.sources import llm_args_yaml, read_source
from bwdeploy.migration.writing import recipe_text

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = ("1.2.1", "1.3.0rc20", "1.4.0rc1")
MAVERICK = "hf://nvidia/Llama-4-Maverick-17B-128E-Instruct-FP8@main"

R1_LATENCY_019 = r"""
YOUR_DATA_PATH=<your dataset file following the format>

cat >./extra-llm-api-config.yml<<EOF
pytorch_backend_config:
    enable_overlap_scheduler: true
    use_cuda_graph: true
    moe_backend: TRTLLM
speculative_config:
    decoding_type: MTP
    num_nextn_predict_layers: 3
EOF

export TRTLLM_ENABLE_PDL=1

trtllm-bench --model nvidia/DeepSeek-R1-FP4 \
    throughput \
    --dataset $YOUR_DATA_PATH \
    --backend pytorch \
    --num_requests 10 \
    --concurrency 1 \
    --max_batch_size 1 \
    --tp 8 \
    --ep 2 \
    --extra_llm_api_options ./extra-llm-api-config.yml
"""
R1_LATENCY_021 = r"""
cat << EOF > config_min_latency.yml
kv_cache_dtype: fp8
cuda_graph_padding_enabled: true
print_iter_log: true
stream_interval: 4
enable_attention_dp: false
use_cuda_graph: true
cuda_graph_batch_sizes:
  - 1
moe_backend: TRTLLM
speculative_config:
  decoding_type: MTP
  num_nextn_predict_layers: 3
  use_relaxed_acceptance_for_thinking: true
  relaxed_topk: 10
  relaxed_delta: 0.6
EOF

trtllm-serve nvidia/DeepSeek-R1-0528-FP4 \
  --host 0.0.0.0 \
  --port 8000 \
  --backend pytorch \
  --max_batch_size 4 \
  --tp_size 8 \
  --ep_size 2 \
  --max_num_tokens 32768 \
  --trust_remote_code \
  --extra_llm_api_options config_min_latency.yml \
  --kv_cache_free_gpu_memory_fraction 0.75
"""
R1_THROUGHPUT_1 = """
cat >./extra-llm-api-config.yml <<EOF
cuda_graph_config:
  enable_padding: true
  batch_sizes:
  - 896
  - 512
  - 1
print_iter_log: true
kv_cache_dtype: fp8
enable_attention_dp: true
EOF
trtllm-bench  --model nvidia/DeepSeek-R1-0528-FP4
     throughput
     --dataset ${YOUR_DATA_PATH}
     --tp 8  --ep 8
     --extra_llm_api_options ./extra-llm-api-config.yml
     --max_batch_size 896
     --max_num_tokens 2048
     --kv_cache_free_gpu_mem_fraction 0.93
     --concurrency 7168
     --num_requests 114688
"""
MAVERICK_1 = r"""
docker run -d --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 \
    -p 8000:8000 --gpus=all -e "TRTLLM_ENABLE_PDL=1" \
    -v /path/to/maverick:/config/models/maverick -v /path/to/eagle:/config/models/eagle \
    docker.io/<username>/tensorrt_llm:main sh \
        -c "echo -e 'enable_autotuner: false\nenable_attention_dp: false\nenable_min_latency: true\ncuda_graph_config:\n  max_batch_size: 8\nspeculative_config:\n  decoding_type: Eagle\n  max_draft_len: 3\n  speculative_model_dir: DRAFT\n  eagle3_one_model: true\nkv_cache_config:\n  enable_block_reuse: false' > c.yaml && \
        TRT_LLM_DISABLE_LOAD_WEIGHTS_IN_PARALLEL=True \
        trtllm-serve /config/models/maverick \
            --host 0.0.0.0 --port 8000 \
            --tp_size 8 --ep_size 1 \
            --trust_remote_code --extra_llm_api_options c.yaml \
            --kv_cache_free_gpu_memory_fraction 0.75"
"""  # noqa: E501 - as published
DRAFT = "nvidia/Llama-4-Maverick-17B-128E-Eagle3"


def script(tmp_path: Path, text: str, name: str = "launch.sh") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def migrated(path: Path, **wanted: Any) -> Found:
    assert llm_args_yaml.recognizes(path)
    return llm_args_yaml.read(path, Wanted(**wanted))


def checked(found: Found, tmp_path: Path) -> CheckedRecipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_text(found, source="test", file=str(file)))
    (recipe,) = check_recipes(file)
    return recipe


def said(found: Found) -> set[tuple[str, str]]:
    return {(note.effect, note.key) for note in found.notes}


# NVIDIA's own settings


@pytest.mark.parametrize("target", TARGETS)
def test_deepseek_r1_at_minimum_latency_comes_through(tmp_path: Path, target: str) -> None:
    found = migrated(script(tmp_path, R1_LATENCY_019), tensorrt_llm=target)
    recipe = checked(found, tmp_path).loaded.recipe
    assert recipe.model.source == "hf://nvidia/DeepSeek-R1-FP4@main"
    assert recipe.quantize.method == "prequantized"
    assert recipe.speculative is not None
    assert (recipe.speculative.method, recipe.speculative.draft_len) == ("mtp", 3)
    assert (recipe.layout.tp, recipe.layout.ep, recipe.layout.gpus_per_node) == (8, 2, 8)
    assert not recipe.layout.attention_dp
    assert recipe.engine.max_batch_size == 1
    assert recipe.engine.llm_args == {
        "cuda_graph_config": {},
        "disable_overlap_scheduler": False,
        "moe_config": {"backend": "TRTLLM"},
    }
    assert check_llm_args(target, recipe.engine.llm_args) == ()
    assert not [note for note in found.notes if note.effect == "lost"]
    assert {
        ("assumed", "version"),
        ("renamed", "pytorch_backend_config.moe_backend"),
        ("no-effect", "TRTLLM_ENABLE_PDL"),
        ("no-effect", "--concurrency"),
    } <= said(found)


@pytest.mark.parametrize("target", TARGETS)
def test_relaxed_acceptance_comes_through(tmp_path: Path, target: str) -> None:
    found = migrated(script(tmp_path, R1_LATENCY_021), tensorrt_llm=target)
    recipe = checked(found, tmp_path).loaded.recipe
    assert recipe.speculative is not None
    assert recipe.speculative.draft_len == 3
    assert recipe.engine.llm_args == {
        "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.75},
        "cuda_graph_config": {"enable_padding": True, "batch_sizes": [1]},
        "print_iter_log": True,
        "stream_interval": 4,
        "moe_config": {"backend": "TRTLLM"},
        "speculative_config": {
            "decoding_type": "MTP",
            "use_relaxed_acceptance_for_thinking": True,
            "relaxed_topk": 10,
            "relaxed_delta": 0.6,
        },
    }
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens) == (4, 32768)
    assert not recipe.model.trust_remote_code  # the branch could change
    assert ("changed", "trust_remote_code") in said(found)


@pytest.mark.parametrize("target", TARGETS)
def test_deepseek_r1_at_maximum_throughput_comes_through(tmp_path: Path, target: str) -> None:
    found = migrated(script(tmp_path, R1_THROUGHPUT_1), tensorrt_llm=target)
    recipe = checked(found, tmp_path).loaded.recipe
    assert (recipe.layout.tp, recipe.layout.ep, recipe.layout.attention_dp) == (8, 8, True)
    assert (recipe.engine.max_batch_size, recipe.engine.max_num_tokens) == (896, 2048)
    assert recipe.engine.llm_args == {
        "cuda_graph_config": {"enable_padding": True, "batch_sizes": [896, 512, 1]},
        "print_iter_log": True,
        "kv_cache_config": {"dtype": "fp8", "free_gpu_memory_fraction": 0.93},
    }
    assert ("renamed", "kv_cache_dtype") in said(found)
    if target == "1.2.1":
        assert recipe.serve.max_running == 7168  # 896 on each of 8 ranks
    else:
        assert recipe.serve.server == "trtllm-serve"


@pytest.mark.parametrize("target", TARGETS)
def test_maverick_with_eagle3_comes_through(tmp_path: Path, target: str) -> None:
    path = script(tmp_path, MAVERICK_1.replace("DRAFT", DRAFT))
    found = migrated(path, tensorrt_llm=target, model=MAVERICK)
    recipe = checked(found, tmp_path).loaded.recipe
    assert recipe.speculative is not None
    assert (recipe.speculative.method, recipe.speculative.draft_len) == ("eagle3", 3)
    assert recipe.speculative.draft == f"hf://{DRAFT}@main"
    assert (recipe.layout.tp, recipe.layout.ep) == (8, 1)
    assert recipe.engine.max_batch_size == 8
    one_model: dict[str, Any] = {
        "1.2.1": {"speculative_config": {"decoding_type": "Eagle", "eagle3_one_model": True}},
        "1.3.0rc20": {"speculative_config": {"decoding_type": "Eagle3", "eagle3_one_model": True}},
        "1.4.0rc1": {},
    }
    assert recipe.engine.llm_args == {
        "enable_autotuner": False,
        "enable_min_latency": True,
        "cuda_graph_config": {"max_batch_size": 8},
        "kv_cache_config": {"enable_block_reuse": False, "free_gpu_memory_fraction": 0.75},
        **one_model[target],
    }
    assert recipe.engine.environment == {"TRT_LLM_DISABLE_LOAD_WEIGHTS_IN_PARALLEL": "True"}
    gone = ("no-effect", "speculative_config.eagle3_one_model")
    assert (gone in said(found)) == (target == "1.4.0rc1")


def test_a_draft_in_a_container_is_to_be_put_in(tmp_path: Path) -> None:
    path = script(tmp_path, MAVERICK_1.replace("DRAFT", "/config/models/eagle"))
    found = migrated(path)
    assert found.needs_model  # /config/models/maverick is in the container too
    assert ("assumed", "speculative_config.speculative_model") in said(found)
    assert found.recipe["speculative"]["draft"] == "file:///config/models/eagle"


# YAML files


def test_a_yaml_file_says_less(tmp_path: Path) -> None:
    path = script(
        tmp_path, "kv_cache_dtype: fp8\nuse_cuda_graph: true\ntensor_parallel_size: 2\n", "serve.yaml"
    )
    found = migrated(path)
    assert found.needs_model
    assert {("assumed", "max_batch_size"), ("assumed", "quantize.method")} <= said(found)
    found = migrated(path, model="hf://nvidia/Llama-3.3-70B-Instruct-FP4@main")
    recipe = checked(found, tmp_path).loaded.recipe
    assert recipe.engine.llm_args["kv_cache_config"] == {"dtype": "fp8"}
    assert recipe.layout.tp == 2
    assert recipe.name == "serve"


def test_a_yaml_file_of_a_known_model_needs_nothing(tmp_path: Path) -> None:
    text = (
        "model: nvidia/Llama-3.3-70B-Instruct-FP8\ngpus_per_node: 8\nmax_batch_size: 32\nmax_seq_len: 4096\n"
    )
    layout = "tensor_parallel_size: 8\npipeline_parallel_size: 2\n"
    layout += "scheduler_config: {capacity_scheduler_policy: MAX_UTILIZATION}\n"
    found = migrated(script(tmp_path, text + layout, "a.yml"))
    recipe = checked(found, tmp_path).loaded.recipe
    assert (recipe.layout.nodes, recipe.layout.gpus_per_node, recipe.layout.pp) == (2, 8, 2)
    assert recipe.quantize.method == "prequantized"
    assert "scheduler_config" in recipe.engine.llm_args
    assert read_source(tmp_path / "a.yml", Wanted()).kind == found.kind


def test_a_bf16_model_is_not_quantized(tmp_path: Path) -> None:
    found = migrated(
        script(tmp_path, "model: meta-llama/Llama-3.1-8B-Instruct\nmax_batch_size: 8\n", "a.yaml")
    )
    assert checked(found, tmp_path).loaded.recipe.quantize.method == "none"


def test_a_revision_belongs_to_the_model(tmp_path: Path) -> None:
    commit = "0" * 40
    text = f"model: org/Some-NVFP4\nrevision: '{commit}'\ntrust_remote_code: true\nmax_batch_size: 8\n"
    found = migrated(script(tmp_path, text, "a.yaml"))
    assert found.recipe["model"] == {"source": f"hf://org/Some-NVFP4@{commit}", "trust_remote_code": True}
    assert found.recipe["quantize"]["method"] == "prequantized"
    assert ("assumed", "quantize.method") in said(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "schema: 1\nmax_batch_size: 3\n"),
        ("a.yaml", "trt_llm: {build: {}}\n"),
        ("a.yaml", "colour: blue\n"),
        ("a.yaml", "[1, 2]\n"),
        ("a.yaml", ": : :\n"),
        ("a.sh", "trtllm-build --checkpoint_dir x\n"),
        ("a.json", "{}"),
    ],
)
def test_other_files_are_not_recognized(tmp_path: Path, name: str, text: str) -> None:
    assert not llm_args_yaml.recognizes(script(tmp_path, text, name))
    assert not llm_args_yaml.recognizes(tmp_path)


# Command lines


def test_the_file_wins_over_the_command_line_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "f.yml").write_text("max_batch_size: 16\nkv_cache_config: {enable_block_reuse: false}\n")
    text = "trtllm-serve serve nvidia/DeepSeek-R1-FP4 --tp_size=8 --max_batch_size 4 --config f.yml"
    text += " --free_gpu_memory_fraction 0.8\n"
    found = migrated(script(tmp_path, text))
    assert found.recipe["engine"]["max_batch_size"] == 16
    assert ("changed", "max_batch_size") in said(found)
    args = found.recipe["engine"]["llm_args"]
    assert args["kv_cache_config"] == {"enable_block_reuse": False, "free_gpu_memory_fraction": 0.8}


def test_what_a_command_line_says_otherwise_is_noted(tmp_path: Path) -> None:
    text = (
        "trtllm-serve nvidia/DeepSeek-R1-FP4 --tp_size $TP --frobnicate 3 --enable_chunked_prefill"
        " --ep_size two --tool_parser qwen3\ntrtllm-serve other --tp_size 2\n"
    )
    found = migrated(script(tmp_path, text))
    assert {
        ("lost", "--tp_size"),
        ("lost", "--frobnicate"),
        ("lost", "--ep_size"),
        ("no-effect", "--tool_parser"),
        ("lost", "trtllm-serve"),
        ("assumed", "tensor_parallel_size"),
    } <= said(found)
    assert found.recipe["engine"]["llm_args"] == {"enable_chunked_prefill": True}


def test_a_shell_variable_in_the_yaml_is_not_a_value(tmp_path: Path) -> None:
    text = "cat > a.yml <<EOF\nprint_iter_log: ${LOG}\nkv_cache_config: {dtype: $KV}\nEOF\n"
    text += "trtllm-serve nvidia/DeepSeek-R1-FP4 --config a.yml\n"
    found = migrated(script(tmp_path, text))
    assert {("lost", "print_iter_log"), ("lost", "kv_cache_config.dtype")} <= said(found)


def test_each_command_has_the_file_that_stood_before_it(tmp_path: Path) -> None:
    command = "trtllm-bench -m nvidia/DeepSeek-R1-FP4 throughput --config a.yml\n"
    text = "".join(f"cat > a.yml <<EOF\nstream_interval: {number}\nEOF\n{command}" for number in (4, 8))
    found = migrated(script(tmp_path, text))
    assert found.recipe["engine"]["llm_args"] == {"stream_interval": 4}


def test_script_that_builds_its_yaml_in_steps_is_read_whole(tmp_path: Path) -> None:
    """Settings under a condition are read too, and said; what is appended does not replace what was there."""
    text = r"""
MAX_BATCH_SIZE=$CONC
EXTRA_CONFIG_FILE="r1.yml"
KV_DTYPE=fp8
cat > "$EXTRA_CONFIG_FILE" << EOF
cuda_graph_config:
    enable_padding: true
    max_batch_size: $MAX_BATCH_SIZE
kv_cache_config: {dtype: $KV_DTYPE}
$MODE_CONFIG
EOF
if [[ "$DP" == "true" ]]; then
    cat << EOF >> $EXTRA_CONFIG_FILE
attention_dp_config: {timeout_iters: 60}
torch_compile_config: {capture_num_tokens: [${TOKENS%, }]}
EOF
fi
mpirun -n 1 trtllm-serve $MODEL --tp_size=8 --max_batch_size ${BATCH:-16} \ # a comment
    --config=$EXTRA_CONFIG_FILE > $LOG 2>&1 &
"""
    found = migrated(script(tmp_path, text), model="hf://nvidia/DeepSeek-R1-FP4@main")
    arguments = found.recipe["engine"]["llm_args"]
    assert arguments["cuda_graph_config"] == {"enable_padding": True}
    assert arguments["kv_cache_config"]["dtype"] == "fp8"
    assert arguments["attention_dp_config"] == {"timeout_iters": 60}
    assert (found.recipe["engine"]["max_batch_size"], found.recipe["name"]) == (16, "launch")
    lost = {key for effect, key in said(found) if effect == "lost"}
    assert lost == {
        "cuda_graph_config.max_batch_size",
        "torch_compile_config.capture_num_tokens",
        "r1.yml",  # the line that a variable stands for
    }
    assert ("assumed", "r1.yml") in said(found)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_yaml_of_an_echo_is_read(tmp_path: Path, quote: str) -> None:
    text = f"echo -e {quote}stream_interval: 4\nprint_iter_log: true{quote} > a.yml\n"
    text += 'bash -c "trtllm-serve nvidia/DeepSeek-R1-FP4 --tp_size 8 --config ./a.yml"\n'
    assert migrated(script(tmp_path, text)).recipe["engine"]["llm_args"] == {
        "stream_interval": 4,
        "print_iter_log": True,
    }


@pytest.mark.parametrize(
    ("named", "noted"),
    [("./conf/llm.yml", False), ("deploy/conf/llm.yml", False), ("/workspace/llm.yml", True)],
)
def test_yaml_is_found_from_where_the_script_is_run(tmp_path: Path, named: str, *, noted: bool) -> None:
    """A script names files as seen from the directory it is started in, or in its container."""
    place = tmp_path / "deploy" / "conf"
    place.mkdir(parents=True)
    (place / "llm.yml").write_text("stream_interval: 4\n")
    start = place if noted else tmp_path / "deploy"
    text = f"trtllm-serve nvidia/DeepSeek-R1-FP4 --tp_size 8 --config {named}\n"
    found = migrated(script(start, text))
    assert found.recipe["engine"]["llm_args"] == {"stream_interval": 4}
    assert (("assumed", "file of arguments") in said(found)) == noted


@pytest.mark.parametrize(
    ("graphs", "cut"),
    [
        ({"batch_sizes": [1, 2, 4, 8, 128]}, {"batch_sizes": [1, 2, 3]}),
        ({"max_batch_size": 128, "enable_padding": True}, {"max_batch_size": 3, "enable_padding": True}),
        ({"batch_sizes": [1, 3]}, {"batch_sizes": [1, 3]}),
    ],
)
def test_graphs_that_no_batch_fills_are_left_out(tmp_path: Path, graphs: Any, cut: Any) -> None:
    file = tmp_path / "llm.yaml"
    file.write_text(
        f"model: nvidia/DeepSeek-R1-FP4\nmax_batch_size: 3\ncuda_graph_config: {graphs}\n".replace(
            "True", "true"
        )
    )
    found = migrated(file)
    assert found.recipe["engine"]["llm_args"]["cuda_graph_config"] == cut
    notes = {
        key for effect, key in said(found) if effect == "changed" and key.startswith("cuda_graph_config.")
    }
    assert bool(notes) == (graphs != cut)


def test_arguments_that_only_a_newer_version_has_decide_the_version(tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    file.write_text(
        "model: nvidia/DeepSeek-R1-FP4\nspeculative_config: {decoding_type: Eagle3}\nkv_cache_config:\n"
        "  use_kv_cache_manager_v2: true\n"
    )
    found = migrated(file)
    assert found.recipe["engine"]["tensorrt_llm"].startswith("1.3.0")
    assert found.recipe["serve"]["server"] == "trtllm-serve"
    assert not {key for effect, key in said(found) if effect == "lost"}


@pytest.mark.parametrize(
    ("named", "version"),
    [
        ("pip install tensorrt_llm==1.2.1", "1.2.1"),
        ("docker run nvcr.io/nvidia/tensorrt-llm/release:1.3.0rc20 bash", "1.3.0rc20"),
        ("docker run nvcr.io/nvidia/tritonserver:26.06-trtllm-python-py3 bash", "1.2.1"),
        ("pip install tensorrt_llm==0.9.0", ""),  # nothing is known of its arguments
        ("pip install tensorrt_llm==1.2.1 # or tensorrt_llm==1.3.0rc20", ""),
    ],
)
def test_version_that_the_script_installs_counts(tmp_path: Path, named: str, version: str) -> None:
    text = f"{named}\ntrtllm-serve nvidia/DeepSeek-R1-FP4 --tp_size 8\n"
    found = migrated(script(tmp_path, text))
    assert found.recipe["engine"]["tensorrt_llm"] == (version or "1.2.1")
    assert (("assumed", "version") in said(found)) == (not version)


def test_argument_of_quantized_experts_says_that_the_model_is_quantized(tmp_path: Path) -> None:
    file = tmp_path / "moe.yaml"
    file.write_text(
        "model: org/unheard-of\nmoe_config: {backend: CUTLASS, use_low_precision_moe_combine: true}\n"
    )
    assert migrated(file).recipe["quantize"]["method"] == "prequantized"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trtllm-serve org/model --config $FILE\n", "does not say plainly"),
        ("trtllm-serve org/model --config nowhere.yml\n", "nowhere.yml"),
        ("trtllm-serve alone\n", "no command line"),
        ("cat > a.yml <<EOF\n- 1\nEOF\ntrtllm-serve m --config a.yml\n", "no mapping"),
        ("cat > a.yml <<EOF\na: [\nEOF\ntrtllm-serve m --config a.yml\n", "YAML"),
    ],
)
def test_a_script_that_cannot_be_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        migrated(script(tmp_path, text))


def test_variables_come_through_unless_only_a_shell_knows_them(tmp_path: Path) -> None:
    text = R1_LATENCY_019.replace(
        "export TRTLLM_ENABLE_PDL=1",
        'export TRTLLM_ENABLE_PDL="0" TRT_LLM_DISABLE_LOAD_WEIGHTS_IN_PARALLEL=True TLLM_LOG_LEVEL=$LEVEL',
    )
    found = migrated(script(tmp_path, text), tensorrt_llm="1.2.1")
    assert found.recipe["engine"]["environment"] == {
        "TRTLLM_ENABLE_PDL": "0",
        "TRT_LLM_DISABLE_LOAD_WEIGHTS_IN_PARALLEL": "True",
    }
    assert ("lost", "TLLM_LOG_LEVEL") in said(found)
