"""The JSON Schema (draft 2020-12) that editors complete and check recipes with, from the models.

It knows the keys of recipe files that are not part of a `Recipe`: `base:` and `matrix:`. A file that has
one of these may leave out what is otherwise required, since the base or the matrix brings it.
"""

from __future__ import annotations

import json
from typing import Any

from bwdeploy.recipe.base import MAX_BASES
from bwdeploy.recipe.matrix import MAX_BUILDS
from bwdeploy.recipe.schema import Recipe

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def editor_schema() -> dict[str, Any]:
    """The schema of one recipe file."""
    schema = Recipe.model_json_schema(by_alias=True)
    properties = {**_composition_keys(), **schema.pop("properties")}
    required = schema.pop("required")
    model_required = schema["$defs"]["Model"].pop("required")
    whole = {"required": required, "properties": {"model": {"required": model_required}}}
    return {
        "$schema": DRAFT,
        "title": "bwdeploy recipe",
        **{key: value for key, value in schema.items() if key != "title"},
        "properties": properties,
        "anyOf": [whole, {"required": ["base"]}, {"required": ["matrix"]}],
    }


def editor_schema_text() -> str:
    """The schema as the text of docs/recipe.schema.json."""
    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


def _composition_keys() -> dict[str, Any]:
    return {
        "base": {
            "type": "string",
            "minLength": 1,
            "description": "Another recipe file, relative to this one and not above the recipe that was "
            f"asked for; deep-merged, this file wins. At most {MAX_BASES} on top of each other.",
        },
        "matrix": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "array", "minItems": 1},
            "description": "Path of the recipe → list of values; the product makes the builds "
            f"(at most {MAX_BUILDS}), each called name-value.",
        },
    }
