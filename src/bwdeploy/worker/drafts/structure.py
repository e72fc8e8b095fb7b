"""Audit of a draft's configuration against its target: kind, hidden size, captured layers, position encoding.

Works on headers and JSON. Each finding names in its hint the likely cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.worker.audit_files import finding
from bwdeploy.worker.drafts.shape import CAPTURED, captured_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bwdeploy.pipeline.jobs import AuditFinding
    from bwdeploy.pipeline.training_jobs import DraftShape
    from bwdeploy.worker.drafts.shape import DraftFiles
    from bwdeploy.worker.drafts.target import Target

_JOINS = "fc.weight"
_QUERY = "layers.0.self_attn.q_proj.weight"
_DEFAULT_ROPE_THETA = 10000.0


def check_kind(files: DraftFiles) -> Iterator[AuditFinding]:
    """Whether this is an EAGLE3 draft at all."""
    if _JOINS not in files.tensors:
        yield finding(
            "draft-not-eagle3",
            f"the draft has no {_JOINS}, which joins the hidden states of the target's layers",
            hint=_other_kind(files),
        )
        return
    hidden, query = files.size(_JOINS, 0), files.size(_QUERY, 1)
    if hidden and query and query != 2 * hidden:
        yield finding(
            "draft-not-eagle3",
            f"attention of its first layer reads {query} values, and EAGLE3 joins token and hidden state, "
            f"{2 * hidden}",
            tensor=files.stored_names[_QUERY],
            hint="An EAGLE-1 or EAGLE-2 draft, which reads the last hidden state only: name an EAGLE3 draft.",
        )


def check_hidden_size(files: DraftFiles, shape: DraftShape, target: Target) -> Iterator[AuditFinding]:
    """What the draft shares with the target or reads from it must have the target's width."""
    if shape.hidden_size != target.hidden_size and "embed_tokens.weight" not in files.tensors:
        yield finding(
            "draft-hidden-size",
            f"the draft's hidden size is {shape.hidden_size}, the target's {target.hidden_size}, "
            "and the draft uses the target's embedding",
            hint="Trained for another model of the family: name the draft of exactly this one.",
        )
        return
    read, layers = files.size(_JOINS, 1), captured_layers(files)
    count = len(layers) if layers else CAPTURED
    if read is not None and read != count * target.hidden_size:
        yield finding(
            "draft-captured-width",
            f"{_JOINS} reads {read} values, and {count} captured layers of the target give "
            f"{count * target.hidden_size}",
            tensor=files.stored_names[_JOINS],
            hint="Trained for a model of another hidden size, or with another number of captured layers than "
            "its configuration says.",
        )


def check_layers(
    files: DraftFiles, shape: DraftShape, target: Target, identity: Mapping[str, Any] | None
) -> Iterator[AuditFinding]:
    """The captured layers must exist, in the order in which the runtime joins them."""
    layers = shape.hidden_layers
    said = captured_layers(files) is not None
    outside = [one for one in layers if not 0 <= one < target.layers]
    if outside:
        place = "eagle_config.eagle_aux_hidden_state_layer_ids" if said else "TensorRT-LLM's default"
        yield finding(
            "draft-layers-outside",
            f"{place} reads layer {outside[0]}, and the target has layers 0 to {target.layers - 1}",
            hint="Trained for a deeper model."
            if said
            else "The target is too shallow for the default: the draft's config.json must list its layers.",
        )
    elif list(layers) != sorted(set(layers)):
        yield finding(
            "draft-layers-order",
            f"the draft reads layers {list(layers)}, and TensorRT-LLM joins them in ascending order",
            hint="Trained with layers in another order, or with one twice: train it with ascending ones.",
        )
    elif not said:
        yield finding(
            "draft-layers-assumed",
            f"config.json does not say which layers the draft reads: taken as {list(layers)}, "
            "TensorRT-LLM's default",
            severity="info",
        )
    if identity is not None:
        yield from _check_trained(layers, target, identity)


def _check_trained(
    layers: tuple[int, ...], target: Target, identity: Mapping[str, Any]
) -> Iterator[AuditFinding]:
    trained, depth = identity["hidden_layers"], identity.get("layers", target.layers)
    if list(trained) != list(layers):
        yield finding(
            "draft-layers-differ",
            f"the draft was trained on layers {trained}, its configuration says {list(layers)}",
            hint="config.json was changed after the training: put the trained layers back.",
        )
    if depth != target.layers:
        yield finding(
            "draft-other-target",
            f"the draft was trained for a model of {depth} layers, this one has {target.layers}",
            hint="Trained for another model of the family: train one for this model.",
        )


def check_positions(files: DraftFiles, target: Target) -> Iterator[AuditFinding]:
    """Rotary encoding that differs from the target's is possible, and seldom meant."""
    mine, theirs = _rope_theta(files.config), _rope_theta(target.config)
    if mine != theirs:
        yield finding(
            "draft-rope-theta",
            f"rope_theta of the draft is {mine:g}, of the target {theirs:g}",
            severity="warning",
            hint="A default of the trainer, or a config.json written by another version of transformers.",
        )
    scaling = _scaling(files.config)
    if scaling is not None and scaling != _scaling(target.config):
        yield finding(
            "draft-rope-scaling",
            f"the draft stretches positions ({scaling}), the target does not so",
            severity="warning",
            hint="ModelOpt's exporter adds YaRN for long contexts unless it is told not to; a draft that was "
            "trained without it accepts less with it.",
        )


def _other_kind(files: DraftFiles) -> str:
    if "speculators_model_type" in files.config or "transformer_layer_config" in files.config:
        return "A speculators checkpoint for vLLM: convert it to the layout of the EAGLE3 authors first."
    if any("medusa" in name for name in files.tensors):
        return "Medusa heads: they run inside an engine, with speculative.method: medusa."
    if len([name for name in files.tensors if name.endswith("self_attn.q_proj.weight")]) > 8:  # noqa: PLR2004
        return "A whole model: name the draft that was trained for the target, not a small model."
    return "A draft of another method, or one that was trained without the hidden states of three layers."


def _rope_theta(config: Mapping[str, Any]) -> float:
    parameters = config.get("rope_parameters")
    for place in (config, parameters if isinstance(parameters, dict) else {}):
        value = place.get("rope_theta")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return _DEFAULT_ROPE_THETA


def _scaling(config: Mapping[str, Any]) -> str | None:
    """How positions are stretched; None when they are not."""
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key)
        if isinstance(found, dict):
            kind = str(found.get("rope_type") or found.get("type") or "default")
            if kind != "default":
                return f"{kind}, factor {found.get('factor')}"
    return None
