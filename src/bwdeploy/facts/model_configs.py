"""Configurations that come with bwdeploy, by hub id, for models that are not on this machine.

The index says which file describes an id; several ids share a shape. A quantized checkpoint is the shape of
its base with the content of its hf_quant_config.json; where only the scope was known, its note says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.facts.reader import read_data

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER = "model_configs"


class BundledModel(NamedTuple):
    """One hub id."""

    config: dict[str, Any]
    """As in its config.json, without keys that say nothing of sizes."""
    quantization: dict[str, Any] | None
    """As in hf_quant_config.json under `quantization`; None when the configuration alone speaks."""
    source: str
    """Where the shape was read."""
    note: str
    """What is assumed; empty when nothing is."""


def bundled_model(hub_id: str) -> BundledModel | None:
    """The configuration of `org/name`, None when none comes with bwdeploy."""
    entry: Mapping[str, Any] | None = read_data(f"{_FOLDER}/index.json").get(hub_id)
    if entry is None:
        return None
    data = read_data(f"{_FOLDER}/{entry['file']}.json")
    config = dict(data["config"])
    quantization = entry.get("quantization")
    if quantization is not None:
        # That of the base model: the checkpoint was quantized anew.
        config.pop("quantization_config", None)
    return BundledModel(config, quantization, data["source"], entry.get("note", ""))


def bundled_ids() -> tuple[str, ...]:
    """All hub ids that are described here."""
    return tuple(read_data(f"{_FOLDER}/index.json"))
