"""How long `check` takes for a matrix of 500 recipes, beside one recipe.

    python -m benchmarks.matrix_check

The same recipe with and without the matrix, each in its own process, interleaved; the median counts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import write_result

RUNS = 7
BASE = Path(__file__).parents[1] / "recipes" / "llama-3.3-70b-nvfp4-b200.yaml"
MATRIX = """
matrix:
  engine.max_batch_size: [384, 400, 416, 432, 448, 464, 480, 496, 512, 528]
  engine.max_num_tokens: [8192, 9216, 10240, 12288, 16384]
  serve.flush_tokens: [1, 2, 4, 8, 12, 16, 24, 32, 48, 64]
"""
BUILDS = 500
LIMIT = 30.0


def seconds(recipe: Path) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "bwdeploy", "check", str(recipe)], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        one, many = Path(directory, "one.yaml"), Path(directory, "many.yaml")
        one.write_text(BASE.read_text())
        many.write_text(BASE.read_text() + MATRIX)
        for recipe in (one, many):
            seconds(recipe)  # warm-up: byte code, disk cache
        samples = {recipe.stem: [seconds(recipe) for _ in range(RUNS)] for recipe in (one, many)}
    medians = {name: statistics.median(values) for name, values in samples.items()}
    write_result(
        "matrix_check",
        {
            "builds": BUILDS,
            "one_recipe_median_s": round(medians["one"], 4),
            "matrix_median_s": round(medians["many"], 4),
            "ratio": round(medians["many"] / medians["one"], 1),
            "limit": LIMIT,
        },
    )


if __name__ == "__main__":
    main()
