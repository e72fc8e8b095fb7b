"""A build with nothing to do: seconds, and how many bytes of files it reads.

    python -m benchmarks.noop_build

The quickstart is built first (minutes, when the store does not have it). Bytes are what the process read
by system calls (`rchar` of /proc/PID/io), with those of a bare `bwdeploy --version` beside them: weights that
were read again would show as more than 100 MB.
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
RECIPE = Path(__file__).parents[1] / "recipes" / "smollm2-135m-nvfp4.yaml"
COUNTED = (
    "import sys\n"
    "from bwdeploy.cli import main\n"
    "status = main()\n"
    "print(open('/proc/self/io').read().split()[1], file=sys.stderr)\n"
    "sys.exit(status)\n"
)


def run(*arguments: str) -> tuple[float, int]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *arguments], check=True, capture_output=True, text=True
    )
    return time.perf_counter() - began, int(done.stderr.split()[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        build = ["build", str(RECIPE), "-o", str(Path(directory, "out"))]
        subprocess.run([sys.executable, "-m", "bwdeploy", *build], check=True)
        samples = [run(*build) for _ in range(RUNS)]
        _, bare_bytes = run("--version")
    write_result(
        "noop_build",
        {
            "median_s": round(statistics.median(seconds for seconds, _ in samples), 3),
            "max_s": round(max(seconds for seconds, _ in samples), 3),
            "limit_s": 1.0,
            "bytes_read": samples[-1][1],
            "bytes_read_by_bare_version": bare_bytes,
        },
    )


if __name__ == "__main__":
    main()
