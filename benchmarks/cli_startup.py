"""How long the light verbs take, beside the bare import of what any such tool imports.

    python -m benchmarks.cli_startup

Each command runs `RUNS` times, interleaved with the baseline; the median counts. Then `check` runs on every
shipped recipe, `RUNS_OF_EACH` times each beside as many bare imports; there the fastest counts.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.results import write_result

RUNS = 11
RUNS_OF_EACH = 11
RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = RECIPES / "smollm2-135m-nvfp4.yaml"
BARE = [sys.executable, "-c", "import pydantic, typer, rich"]
VERBS = {
    "--help": ["--help"],
    "check": ["check", str(RECIPE)],
    "plan": ["plan", str(RECIPE)],
}
LIMITS = {"--help": 2.0, "check": 2.0, "plan": 3.0}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    commands = {"bare import": BARE} | {
        name: [sys.executable, "-m", "bwdeploy", *arguments] for name, arguments in VERBS.items()
    }
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for name, command in commands.items():
        seconds(command)  # warm-up: byte code, disk cache, digest memory
        samples[name].clear()
    for _ in range(RUNS):
        for name, command in commands.items():
            samples[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in samples.items()}
    rows: dict[str, dict[str, float | None]] = {
        name: {
            "median_s": round(median, 4),
            "min_s": round(min(samples[name]), 4),
            "max_s": round(max(samples[name]), 4),
            "ratio_to_bare_import": round(median / medians["bare import"], 2),
            "limit": LIMITS.get(name),
        }
        for name, median in medians.items()
    }
    rows["check, every shipped recipe"] = {
        recipe.stem: _ratio_of_check(recipe) for recipe in sorted(RECIPES.glob("*.yaml"))
    }
    write_result("cli_startup", rows)


def _ratio_of_check(recipe: Path) -> float:
    command = [sys.executable, "-m", "bwdeploy", "check", str(recipe)]
    seconds(command)
    pairs = [(seconds(BARE), seconds(command)) for _ in range(RUNS_OF_EACH)]
    # The fastest of each: what other programs of the machine add is never negative.
    return round(min(pair[1] for pair in pairs) / min(pair[0] for pair in pairs), 2)


if __name__ == "__main__":
    main()
