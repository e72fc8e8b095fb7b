"""The key of a stage: SHA-256 over everything that its result depends on, known before anything runs."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from bwdeploy.pipeline.host import distribution_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bwdeploy.pipeline.stage import Stage, Step

KeyDocument = dict[str, Any]


def key_document(
    stage: Stage, step: Step, *, source_digests: Mapping[str, str], input_keys: Mapping[str, str]
) -> KeyDocument:
    """What the key is made of, as JSON data: kept with the artifact so that a change can be explained."""
    return {
        "stage": stage.name,
        "version": stage.version,
        "params": dict(step.params),
        "sources": dict(source_digests),
        "tools": {tool: distribution_version(tool) for tool in step.tools},
        "inputs": {name: input_keys[name] for name in step.inputs},
    }


def key_of(document: KeyDocument) -> str:
    """SHA-256 of the canonical JSON form, as hex."""
    canonical = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def differences(before: KeyDocument, now: KeyDocument) -> list[str]:
    """The values that differ between two key documents, in the words of `plan --why`."""
    old, new = _flat(before), _flat(now)
    return [
        f"{name}: {_shown(old.get(name))} → {_shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, object] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _shown(value: object) -> str:
    text = json.dumps(value)
    digest_length = 66  # a quoted SHA-256
    return f'{text[:9]}…"' if len(text) == digest_length else text
