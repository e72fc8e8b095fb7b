"""A machine with a tritonserver (the bundled one under that name) and the stand-in for mpirun on PATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bwdeploy.tools.triton_environment import bundled_environment


def put_programs(folder: Path) -> None:
    """Write `tritonserver` and `mpirun` into the existing `folder`."""
    environment = bundled_environment()
    server = folder / "tritonserver"
    server.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={os.pathsep.join(map(str, environment.library_path))}\n"
        f"export PATH={environment.binaries}:$PATH\n"
        f'exec {environment.server} "$@" --backend-directory={environment.backends} '
        f"--cache-directory={environment.cache_directory} --allow-gpu-metrics=false\n"
    )
    mpirun = folder / "mpirun"
    mpirun.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("stand_in_mpirun.py").read_text())
    for program in (server, mpirun):
        program.chmod(0o755)
