"""The LLM API arguments of a TensorRT-LLM version, as a JSON Schema.

An installed tensorrt_llm of the pinned version brings its own schema file, which wins; it is found and
read without importing the package. Otherwise one of the bundled files speaks for the version, and says
how sure it is. Bundled files carry a few keys of our own: `x-status`, `x-known-values` (a list that
upstream does not enforce), `x-python-only` (no YAML value fits), `x-backends`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bwdeploy.errors import HostError
from bwdeploy.facts.reader import read_data
from bwdeploy.facts.versions import Version, parse_version

INSTALLED_SCHEMA = Path("schemas") / "trtllm-serve-config.schema.json"
_BUNDLED: tuple[tuple[Version, Version, str], ...] = (
    ((1, 2, 0, 0), (1, 3, 0, 0), "1.2.1"),
    ((1, 3, 0, 0), (1, 5, 0, 0), "1.3"),
)
"""From (included), before, and the bundled file that speaks for these versions."""
KNOWN_VERSIONS = "1.2.x, 1.3.x and 1.4.x"


class LlmArgsSchema(NamedTuple):
    """The arguments of one version."""

    schema: dict[str, Any]
    describes: str
    """The version that the schema was made from."""
    exact: bool
    """Whether that is the version asked for."""
    source: str
    """File of the installed package, or the upstream file that was read."""
    engine_only_keys: frozenset[str]
    """Keys that only the engine backend (TensorRT-LLM up to 1.3.0rc20) knows."""


def llm_args_schema(version: str) -> LlmArgsSchema | None:
    """The arguments of TensorRT-LLM `version`, or None when neither the machine nor a bundled file knows it.

    Raises:
        HostError: an installed tensorrt_llm carries a schema file that cannot be read.
    """
    return installed_schema(version) or bundled_schema(version)


def bundled_schema(version: str) -> LlmArgsSchema | None:
    """What the bundled files say about `version`."""
    parsed = parse_version(version)
    if parsed is None:
        return None
    name = next((name for start, end, name in _BUNDLED if start <= parsed < end), None)
    if name is None:
        return None
    schema = read_data(f"llm_args_{name}.json")
    return LlmArgsSchema(
        schema=schema,
        describes=name,
        exact=version == name,
        source=schema["x-sources"][0],
        engine_only_keys=frozenset(schema["x-engine-backend-only"]),
    )


def other_bundled_schemas(version: str) -> tuple[LlmArgsSchema, ...]:
    """The bundled files that speak for other versions than `version`."""
    own = bundled_schema(version)
    candidates = [bundled_schema(name) for _, _, name in _BUNDLED]
    return tuple(
        found
        for found in candidates
        if found is not None and (own is None or found.describes != own.describes)
    )


def installed_version() -> str | None:
    """The version of an installed tensorrt_llm, or None; the package is not imported."""
    root = _installed_root()
    return _version_in(root) if root is not None else None


def installed_schema(version: str) -> LlmArgsSchema | None:
    """The schema file of an installed tensorrt_llm, unless that is known to be another version.

    Raises:
        HostError: the file is there but cannot be read.
    """
    root = _installed_root()
    if root is None or not (root / INSTALLED_SCHEMA).is_file():
        return None
    installed = _version_in(root)
    if installed not in {None, version}:
        return None
    return LlmArgsSchema(
        schema=_read_schema(root / INSTALLED_SCHEMA),
        describes=version,
        exact=True,
        source=str(root / INSTALLED_SCHEMA),
        engine_only_keys=frozenset(),
    )


@cache
def _installed_root() -> Path | None:
    spec = find_spec("tensorrt_llm")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _version_in(root: Path) -> str | None:
    try:
        text = (root / "version.py").read_text(encoding="utf-8")[:100_000]
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r"""__version__\s*=\s*["']([^"']+)["']""", text)
    return found.group(1) if found else None


@cache
def _read_schema(file: Path) -> dict[str, Any]:
    try:
        schema = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file, str(error)) from None
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        raise _unusable(file, "it has no properties")
    return schema


def _unusable(file: Path, reason: str) -> HostError:
    return HostError(
        f"the schema file of the installed tensorrt_llm cannot be used: {file}: {reason}",
        hint="reinstall tensorrt_llm, or uninstall it to check against the bundled field list",
    )
