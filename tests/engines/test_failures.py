"""Known failures: real lines of logs lead to their hints, and no line costs much."""

from __future__ import annotations

import re
import time

import pytest

from bwdeploy.engines.failures import hint_for_log, known_failure, known_failures

LINES = {
    "fmha-fp8-gpu": "[TensorRT-LLM][ERROR] Assertion failed: FP8 FMHA cannot be enabled except on Ada or "
    "Hopper or Blackwell Arch. ",
    "fp8-hardware": "[04/09/2024-16:26:41] [TRT] [E] 9: [standardEngineBuilder.cpp::buildEngine::2266] "
    "Error Code 9: Internal Error (Networks with FP8 precision require hardware with FP8 "
    "support.)",
    "sm-plugin": "NotImplementedError: gemm_swiglu_plugin=fp8 is not supported on SM 100.",
    "rowwise-arch": "[TensorRT-LLM Error][CutlassFp8RowwiseGemmRunner][GEMM Dispatch] Arch unsupported "
    "for CUTLASS gated GEMM",
    "sm-unsupported": "[TensorRT-LLM][ERROR] Assertion failed: Unsupported architecture "
    "(/tensorrt_llm/cpp/x.cpp:89)",
    "no-implementation": "[TRT] [E] 10: [optimizer.cpp::computeCosts::4048] Error Code 10: Internal Error "
    "(Could not find any implementation for node "
    "{ForeignNode[LLaMAForCausalLM/transformer/layers/0/CAST_5]}.)",
    "fp4-division": "ITensor::getDimensions: Error Code 4: DIV operation has incompatible input types "
    "Int32 and Float type.",
    "build-gpu-memory": "[TRT] [W] Requested amount of GPU memory (24793579520 bytes) could not be allocated",
    "tactic-memory": "[TRT] [W] Tactic Device request: 41472MB Available: 40338MB. Device memory is "
    "insufficient.",
    "runtime-gpu-memory": "[TensorRT-LLM][ERROR] CUDA runtime error in ::cudaMallocAsync(ptr, n, s): out of "
    "memory",
    "kv-cache-too-small": "maxTokensInPagedKvCache must be large enough to process at least 1 sequence to "
    "completion",
    "leader-world": "Assertion failed: With communicationMode kLEADER, MPI worldSize is expected to be "
    "equal to tp*pp when participantIds are not specified",
    "mpi-size": "RuntimeError: [TensorRT-LLM][ERROR] Assertion failed: MPI size 1 != TP size 2 * PP size 1",
    "slurm-pmi": "but OMPI was not built with SLURM's PMI support and therefore cannot",
    "plan-device": "[TRT] [E] 6: The engine plan file is generated on an incompatible device, expecting "
    "compute 8.0 got compute 8.9, please rebuild.",
    "plan-version": "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag "
    "does not match.",
    "engine-missing": "[TensorRT-LLM][ERROR] Assertion failed: Error opening engine file: /e/rank1.engine",
    "not-a-checkpoint": "KeyError: 'architecture'",
    "missing-tensors": "RuntimeError: Required but not provided "
    "tensors:{'transformer.layers.61.attention.qkv.weight'}",
    "lm-head": "KeyError: 'lm_head.weight'",
    "model-unknown": "RuntimeError: Unsupported model architecture: FalconForCausalLM",
    "unrecognized-option": "trtllm-build: error: unrecognized arguments: --multi_block_mode enable",
    "block-size": "Detailed export error: Weight shape is not divisible for block size for block "
    "quantization.",
    "no-examples": "python3: can't open file '/app/examples/models/core/llama/convert_checkpoint.py': "
    "[Errno 2] No such file or directory",
    "calibration-config": "ValueError: Config name is missing.",
    "calibration-offline": "ConnectionError: Couldn't reach 'abisee/cnn_dailymail' on the Hub "
    "(OfflineModeIsEnabled)",
    "lfs-pointer": "safetensors_rust.SafetensorError: Error while deserializing header: "
    "InvalidHeaderDeserialization",
    "plugin-library": "unable to load shared library: libnvinfer_plugin_tensorrt_llm.so.9: cannot open "
    "shared object file: No such file or directory",
    "mpi-library": "ImportError: libmpi.so.12: cannot open shared object file: No such file or directory",
    "no-gpu": "OSError: libnvidia-ml.so.1: cannot open shared object file: No such file or directory",
    "driver-old": "ERROR: This container was built for NVIDIA Driver Release 535.86 or later, but",
    "shared-memory": "misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-YNr3AB to "
    "9637892 bytes",
    "disk-full": 'SafetensorError: IoError(Os { code: 28, kind: StorageFull, message: "No space left '
    'on device" })',
    "engine-none": "TypeError: a bytes-like object is required, not 'NoneType'",
    "killed": "Killed",
}


@pytest.mark.parametrize(("name", "line"), LINES.items(), ids=LINES)
def test_a_real_line_leads_to_its_hint(name: str, line: str) -> None:
    found = known_failure(["[TRT] [I] Detected 49 inputs", line, "Traceback (most recent call last):"])
    assert found is not None
    assert found.id == name
    assert hint_for_log([line]) == f"{found.hint} (see {found.source})"


def test_the_most_telling_line_wins_wherever_it_stands() -> None:
    log = [
        "Networks with FP8 precision require hardware with FP8 support.",
        "Engine building failed, please check error log.",
        "Killed",
    ]
    assert "has no FP8" in hint_for_log(log)
    assert "has no FP8" in hint_for_log(log[::-1])


def test_an_unknown_log_has_no_hint() -> None:
    assert hint_for_log(["[TRT-LLM] [I] Total time of building all engines: 00:04:13"]) == ""
    assert hint_for_log([]) == ""


def test_every_failure_is_sourced_and_every_id_is_its_own() -> None:
    failures = known_failures()
    assert len(failures) >= 40
    assert len({one.id for one in failures}) == len(failures)
    for one in failures:
        assert one.hint
        assert re.match(r"https://github\.com/\S+/\d+$|tensorrt_llm/\S+\.py", one.source), one.id


def test_no_pattern_repeats_without_a_bound() -> None:
    for one in known_failures():
        assert not re.search(r"\.[*+]|\)[*+]", one.pattern.pattern), one.id


def test_long_lines_cost_little() -> None:
    lines = ["Could not find any implementation for node " * 5000, "a" * 1_000_000] * 50
    began = time.perf_counter()
    hint_for_log(lines)
    assert time.perf_counter() - began < 1.0
