"""A directory to run the command line in: a recipe, its model and a cache of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Place:
    """Holds `recipe.yaml`; the model that it names as file://model is put there by the caller."""

    def __init__(self, root: Path, recipe: str, *, environment: Mapping[str, str] | None = None) -> None:
        self.root = root
        (root / "recipe.yaml").write_text(recipe)
        self.environment = {**os.environ, "BWDEPLOY_CACHE": str(root / "cache"), **(environment or {})}

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "bwdeploy", *arguments],
            cwd=self.root,
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> tuple[Any, str]:
        """The JSON answer and stderr of a verb that ends with `code`."""
        with self.start(*arguments, "--json", environment=environment) as process:
            stdout, stderr = process.communicate(timeout=240)
        assert process.returncode == code, stderr
        assert "Traceback" not in stderr
        return json.loads(stdout), stderr
