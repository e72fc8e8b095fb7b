"""The sample op of these tests, and copies of it to change."""

from __future__ import annotations

import shutil
from pathlib import Path

SAMPLE_PLUGINS = Path(__file__).with_name("sample_plugins")
SAMPLE_OP = SAMPLE_PLUGINS / "double_rows"
PROJECT = Path(__file__).parents[2]


def copy_of_sample(place: Path) -> Path:
    """A copy of the sample's directory of plugins."""
    return Path(shutil.copytree(SAMPLE_PLUGINS, place / "plugins"))


def installed_with(plugins: Path, place: Path) -> Path:
    """A directory for PYTHONPATH where bwdeploy is installed with other plugins, as a wheel has them."""
    package = place / "site" / "bwdeploy"
    package.mkdir(parents=True)
    for path in (PROJECT / "src" / "bwdeploy").iterdir():
        (package / path.name).symlink_to(path)
    (package / "plugins").symlink_to(plugins)
    return package.parent


def replace_in(file: Path, old: str, new: str) -> None:
    """Change a text file; the old text has to be in it."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
