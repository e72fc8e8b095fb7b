"""The pack that the GPU tests load: one that was built before, or one built now."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def built_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with every shipped op for this GPU.

    Where bwdeploy cannot build one, BWDEPLOY_TEST_PACK names it.
    """
    if given := os.environ.get("BWDEPLOY_TEST_PACK"):
        return Path(given).resolve()
    out = tmp_path_factory.mktemp("built") / "pack"
    major, minor = torch.cuda.get_device_capability()
    build = ["kernels", "build", "--arch", f"sm_{major}{minor}a", str(out)]
    subprocess.run([sys.executable, "-m", "bwdeploy", *build], check=True)
    return out
