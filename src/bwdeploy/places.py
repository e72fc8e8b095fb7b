"""Where bwdeploy keeps things on this machine, and where the files that ship with it lie."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """The user's cache directory of bwdeploy: `$BWDEPLOY_CACHE`, else the XDG place."""
    own = os.environ.get("BWDEPLOY_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache").absolute() / "bwdeploy"


def shipped_recipes() -> Path:
    """The recipes that come with bwdeploy: inside the installed package, or in the source tree."""
    package = Path(__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parents[1] / "recipes"


def shipped_plugins() -> Path:
    """The fused kernels that come with bwdeploy: inside the installed package, or in the source tree."""
    package = Path(__file__).parent
    installed = package / "plugins"
    return installed if installed.is_dir() else package.parents[1] / "plugins"


def executor_file() -> Path | None:
    """The settings of the executor that `$BWDEPLOY_EXECUTOR` names."""
    named = os.environ.get("BWDEPLOY_EXECUTOR")
    return Path(named).expanduser() if named else None
