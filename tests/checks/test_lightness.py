"""Checking a recipe stays light: no model library is imported on the way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from bwdeploy.checks import check
from bwdeploy.recipe.load import load_recipes
for loaded in load_recipes(Path(sys.argv[1])):
    check(loaded)
heavy = {"torch", "transformers", "numpy", "modelopt", "rich", "jsonschema"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_checking_imports_no_model_library() -> None:
    recipe = PROJECT / "recipes" / "smollm2-135m-nvfp4.yaml"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(recipe)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
