"""A layout suggestion as text and as JSON (`plan --suggest`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.planner.speed.roofline import BAND
from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from bwdeploy.planner.layout.suggest import Candidate, Rejection, Suggestion
    from bwdeploy.planner.speed.roofline import Load
    from bwdeploy.recipe.schema import Layout

_RUNNERS_UP = 4
_SHOWN_REASONS = 3

_TITLES = {
    "memory": "too large for the GPU",
    "pcie": "tensor parallelism over PCIe",
    "nvlink": "tensor parallelism beyond NVLink",
    "tp-heads": "attention heads",
    "tp-kv-heads": "KV heads",
    "llama4-tp": "heads of Llama 4",
    "experts-ep": "experts",
    "pp-layers": "more stages than layers",
}


def suggestion_json(name: str, suggestion: Suggestion) -> dict[str, Any]:
    """The contract of `plan --suggest --json`; speeds come with the band that they are known within."""
    load = suggestion.load
    return {
        "name": name,
        "goal": suggestion.goal,
        "gpu": suggestion.gpu,
        "workload": load and {"input_tokens": load.input_tokens, "output_tokens": load.output_tokens},
        "chosen": _candidate_json(suggestion.ranked[0]) if suggestion.ranked else None,
        "runners_up": [_candidate_json(one) for one in suggestion.ranked[1:]],
        "rejected": [
            {"layout": _values(one.layout), "key": one.key, "reason": one.reason}
            for one in suggestion.rejected
        ],
        "band": {"low": BAND.low, "high": BAND.high, "why": BAND.why},
        "assumptions": list(suggestion.assumptions),
        "problem": suggestion.problem,
    }


def suggestion_text(name: str, suggestion: Suggestion) -> str:
    """The suggestion for a person: the chosen layout, the next best, and why the others do not fit."""
    lines = [f"{name}: layout for {suggestion.goal} on {suggestion.gpu.replace('_', ' ').upper()}"]
    lines += [f"  assumed: {one}" for one in suggestion.assumptions]
    if suggestion.problem:
        lines.append(f"  {suggestion.problem}")
    for index, one in enumerate(suggestion.ranked[: 1 + _RUNNERS_UP]):
        first = f"{'chosen' if index == 0 else 'then':<7} {_candidate_text(one, suggestion)}"
        lines += wrapped(first, indent=2, hanging=10)
        lines += [line for remark in one.remarks for line in wrapped(f"but {remark}", indent=10, hanging=14)]
    more = len(suggestion.ranked) - 1 - _RUNNERS_UP
    if more > 0:
        lines.append(f"          and {more} more that work")
    if suggestion.load and suggestion.ranked:
        lines += wrapped(_prediction_text(suggestion, suggestion.load), indent=2, hanging=6)
    if suggestion.rejected:
        lines.append(f"  {_count(len(suggestion.rejected), 'layout does', 'layouts do')} not work:")
        lines += _rejections_text(suggestion.rejected)
    return "\n".join(lines)


def _prediction_text(suggestion: Suggestion, load: Load) -> str:
    staged = suggestion.goal == "throughput" and any(one.layout.pp > 1 for one in suggestion.ranked)
    stages = " Layouts with pipeline stages are ranked a tenth lower: stages wait for each other." * staged
    return (
        f"predicted by arithmetic, without drafts, for {load.input_tokens:,} tokens in,"
        f" {load.output_tokens:,} out: {BAND.why}; measure close ones.{stages}"
    )


def layout_name(layout: Layout) -> str:
    """A layout in a few words, for example `tp 8 · ep 2 · attention dp`."""
    parts = [f"tp {layout.tp}"]
    parts += [f"pp {layout.pp}"] if layout.pp > 1 else []
    parts += [f"ep {layout.ep}"] if layout.ep > 1 else []
    parts += ["attention dp"] if layout.attention_dp else []
    return " · ".join(parts)


def _rejections_text(rejected: tuple[Rejection, ...]) -> list[str]:
    """Grouped by reason; of each group the first few."""
    groups: dict[str, list[Rejection]] = {}
    for one in rejected:
        groups.setdefault(one.key, []).append(one)
    lines = []
    for key, group in groups.items():
        lines.append(f"    {_TITLES.get(key, key)} ({len(group)})")
        for one in group[:_SHOWN_REASONS]:
            lines += wrapped(f"{layout_name(one.layout)}: {one.reason}", indent=6, hanging=10)
        if len(group) > _SHOWN_REASONS:
            lines.append(f"      … and {len(group) - _SHOWN_REASONS} more (--json has all)")
    return lines


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _candidate_text(one: Candidate, suggestion: Suggestion) -> str:
    gpus = one.layout.tp * one.layout.pp
    requests = _count(one.max_requests, "request", "requests")
    speed = (
        f"{_band(one.tokens_per_s_per_user)} tokens/s per user, step {one.step_ms:.1f} ms"
        if suggestion.goal == "latency"
        else f"{_band(one.tokens_per_s_per_gpu)} tokens/s per GPU with"
        f" {_count(one.requests, 'request', 'requests')}"
    )
    return (
        f"{layout_name(one.layout)} on {gpus} GPU{'s' if gpus > 1 else ''}: {speed};"
        f" weights {one.weights_gib:.1f} GiB, room for {requests} of the longest"
    )


def _band(value: float) -> str:
    return f"{value * BAND.low:,.0f} to {value * BAND.high:,.0f}"


def _candidate_json(one: Candidate) -> dict[str, Any]:
    return {
        "layout": _values(one.layout),
        "requests": one.requests,
        "step_ms": round(one.step_ms, 3),
        "tokens_per_s_per_user": _banded(one.tokens_per_s_per_user),
        "tokens_per_s_per_gpu": _banded(one.tokens_per_s_per_gpu),
        "weights_gib": round(one.weights_gib, 2),
        "max_requests": one.max_requests,
        "remarks": list(one.remarks),
    }


def _banded(value: float) -> dict[str, float]:
    return {
        "value": round(value, 1),
        "low": round(value * BAND.low, 1),
        "high": round(value * BAND.high, 1),
    }


def _values(layout: Layout) -> dict[str, Any]:
    return layout.model_dump(include={"gpu", "nodes", "gpus_per_node", "tp", "pp", "ep", "attention_dp"})
