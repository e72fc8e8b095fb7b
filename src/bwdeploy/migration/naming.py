"""Names of recipes from names of directories and files."""

from __future__ import annotations

import re

_MAX_LENGTH = 100


def recipe_name(text: str) -> str:
    """`text` as a recipe name: letters, digits, `.`, `_`, `-`, the first a letter or digit."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:_MAX_LENGTH]
    return plain.rstrip("-._") or "migrated"
