"""Tokens/s of one answer in the reference runtime: eager, in CUDA graphs, and in graphs with fused kernels.

    python -m benchmarks.decode_kernels --pack PACK [--commit NAME] [--tokens 64] [--repeats 5] CHECKPOINT ...

The checkpoints are those of recipes/smollm2-135m-{fp8,nvfp4}.yaml (OUT/model_repository/*/1/checkpoint);
PACK is a directory of `bwdeploy kernels build`. Each variant is the engine that a served model has, driven
directly: one request at a time, greedy, timed from the first token to the last; the first answer to each
prompt does not count. Without a GPU nothing is written: `--tokens 4 --repeats 1` tries the whole on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import write_result
from bwdeploy_runtime.config import EngineConfig
from bwdeploy_runtime.engines.base import Request, Tokens
from bwdeploy_runtime.engines.reference import ReferenceEngine
from bwdeploy_runtime.quantization import read_quantization
from bwdeploy_runtime.sampling import SamplingParams

PROMPTS = ("Explain how a computer adds two numbers.", "Write a story about a robot that learns to paint.")
FAMILIES = ("add_rmsnorm_quant", "silu_mul_quant")
COMMAND = "python -m benchmarks.decode_kernels --pack PACK CHECKPOINT ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to decode."""

    name: str
    graphs: bool
    kernel_ops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One answer."""

    tokens: tuple[int, ...]
    tokens_per_s: float


def main() -> None:
    options = parse_arguments()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as options.scratch:
        for checkpoint in options.checkpoints:
            algorithm = str(read_quantization(checkpoint).quant_algo or "mixed").lower()
            rows[algorithm] = measure(checkpoint, algorithm, options)
            publish(rows, options)  # what was measured stays, whatever ends the next one


def publish(rows: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what is there, if it was measured on a GPU."""
    measured = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "tokens": options.tokens,
        "repeats": options.repeats,
        "prompts": PROMPTS,
        "checkpoints": rows,
    }
    if torch.cuda.is_available():
        write_result("decode_kernels", measured, command=COMMAND, commit=options.commit)
    else:
        print("no GPU, nothing is written:", measured)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--pack", required=True, type=Path)
    parser.add_argument("--commit", default="", help="where there is no git")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer, at most")
    parser.add_argument("--repeats", type=int, default=5, help="of each prompt")
    return parser.parse_args()


def measure(checkpoint: Path, algorithm: str, options: argparse.Namespace) -> dict[str, Any]:
    """All variants on one checkpoint, and whether they answer alike."""
    number_format = "nvfp4" if "nvfp4" in algorithm else "fp8"
    ops = tuple(f"{family}_{number_format}" for family in FAMILIES)
    variants = (
        Variant(name="eager", graphs=False),
        Variant(name="graphs", graphs=True),
        Variant(name="graphs + kernels", graphs=True, kernel_ops=ops),
    )
    rows: dict[str, Any] = {}
    answers: dict[str, list[tuple[int, ...]]] = {}
    for variant in variants:
        rows[variant.name], answers[variant.name] = run(variant, checkpoint, options)
        print(algorithm, variant.name, rows[variant.name], flush=True)
    speed = {name: row["tokens_per_s"] for name, row in rows.items()}
    return {
        "variants": rows,
        "speedup_of_graphs": round(speed["graphs"] / speed["eager"], 3),
        "speedup_of_kernels": round(speed["graphs + kernels"] / speed["graphs"], 3),
        "graphs_answer_as_eager": alike(answers["graphs"], answers["eager"]),
        "kernels_answer_as_graphs": alike(answers["graphs + kernels"], answers["graphs"]),
    }


def run(
    variant: Variant, checkpoint: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """Load, warm up, time: the row, and the answer to each prompt."""
    engine, replaced = load(variant, checkpoint, options)
    first = [decode(engine, prompt, options.tokens) for prompt in PROMPTS]
    before = engine.kernel_calls()
    timed = [decode(engine, prompt, options.tokens) for _ in range(options.repeats) for prompt in PROMPTS]
    calls = {op: count - before[op] for op, count in engine.kernel_calls().items()}
    engine.close()
    rates = sorted(answer.tokens_per_s for answer in timed)
    row: dict[str, Any] = {
        "tokens_per_s": round(statistics.median(rates), 1),
        "lowest": round(rates[0], 1),
        "highest": round(rates[-1], 1),
        "answers_repeat": [answer.tokens for answer in timed]
        == [answer.tokens for answer in first] * options.repeats,
    }
    if variant.kernel_ops:
        row |= {"modules_replaced": replaced, "kernel_runs": calls}
    return row, [answer.tokens for answer in first]


def load(
    variant: Variant, checkpoint: Path, options: argparse.Namespace
) -> tuple[ReferenceEngine, dict[str, int]]:
    """The engine in a version directory as a repository has one; how many modules call each op."""
    directory = Path(tempfile.mkdtemp(dir=options.scratch))
    (directory / "checkpoint").symlink_to(checkpoint.resolve())
    (directory / "kernels").symlink_to(options.pack.resolve())
    config = EngineConfig(
        runtime="reference",
        chat_template=True,
        kernels="kernels" if variant.kernel_ops else None,
        kernel_ops=variant.kernel_ops,
    )
    engine = ReferenceEngine(graphs=variant.graphs)
    info = engine.load(config, directory, wake=lambda: None)
    return engine, dict(info.kernels)


def decode(engine: ReferenceEngine, prompt: str, tokens: int) -> Decoded:
    """One answer; the rate is that of the tokens after the first."""
    engine.submit(Request("1", prompt, SamplingParams(max_tokens=tokens)))
    found: list[int] = []
    times_s: list[float] = []
    finish = None
    while finish is None:
        (event,) = engine.step()
        assert isinstance(event, Tokens), event
        found.extend(event.tokens)
        times_s.append(time.perf_counter())
        finish = event.finish
    return Decoded(tokens=tuple(found), tokens_per_s=(len(times_s) - 1) / (times_s[-1] - times_s[0]))


def alike(some: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> bool | str:
    """True, or where the answers part."""
    for number, (left, right) in enumerate(zip(some, others, strict=True)):
        for place, pair in enumerate(zip(left, right, strict=False)):
            if pair[0] != pair[1]:
                return f"answer {number} parts at token {place} of {max(len(left), len(right))}"
        if len(left) != len(right):
            return f"answer {number} has {len(left)} tokens, not {len(right)}"
    return True


if __name__ == "__main__":
    main()
