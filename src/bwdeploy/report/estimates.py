"""An estimate as text and as JSON (`estimate --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bwdeploy.report.wrapping import wrapped

if TYPE_CHECKING:
    from bwdeploy.estimate.figures import Compared, Drafts, Estimate, EstimatedPoint
    from bwdeploy.planner.speed.roofline import Band, Load

_UNITS = {
    "tokens_per_s_per_user": "tokens/s per user",
    "tokens_per_s_per_gpu": "tokens/s per GPU",
    "tokens_per_s": "tokens/s",
}
_VERDICTS = {
    "inside": "the figure lies inside the band",
    "above": "the figure lies above the band",
    "below": "the figure lies below the band",
}
_ASSUMED = {
    "": "",
    "traffic": " (its own traffic is not said: assumed)",
    "requests": " (its own number of requests is not said: assumed)",
}
_UNEXPLAINED = {
    "above": "no setting of the recipe explains it: the estimate is too low here, or the software was newer",
    "below": (
        "no setting of the recipe explains it: the figure is older or had other text, the server's"
        " environment or clocks differ, or the estimate is too high here"
    ),
}


def estimate_json(estimate: Estimate) -> dict[str, Any]:
    """The contract of `estimate --json`; every speed is an object with value, low and high."""
    return {
        "name": estimate.name,
        "method": estimate.method,
        "why": estimate.why,
        "gpu": estimate.gpu,
        "gpus": estimate.gpus,
        "workload": _load_json(estimate.load),
        "points": [_point_json(point) for point in estimate.points],
        "own_point": _point_json(estimate.own_point),
        "bands": [
            {"method": method, "low": band.low, "high": band.high, "why": band.why}
            for method, band in _bands(estimate)
        ],
        "drafts": estimate.drafts._asdict() if estimate.drafts else None,
        "expect": [_expect_json(one) for one in estimate.expect],
        "front": [point._asdict() for point in estimate.front],
        "notes": list(estimate.notes),
    }


def estimate_text(estimate: Estimate) -> str:
    """The estimate for a person."""
    load = estimate.load
    lines = [
        f"{estimate.name}: {gpus_text(estimate)}, {traffic_text(load)}",
        *_entry(f"method: {estimate.method} ({estimate.why})"),
    ]
    if estimate.drafts:
        lines += _entry(_drafts_text(estimate.drafts))
    lines.append(f"  {'requests':>10}  {'tokens/s per user':>22}  {'tokens/s per GPU':>22}  method")
    lines += [_row(point, own=point.concurrency == load.concurrency) for point in _all_points(estimate)]
    for method, band in _bands(estimate):
        lines += _entry(f"band of {method}: {band.low:g} to {band.high:g} times the figure: {band.why}")
    for one in estimate.expect:
        lines += _expect_lines(one)
    for note in estimate.notes:
        lines += _entry(f"note: {note}")
    return "\n".join(lines)


def gpus_text(estimate: Estimate) -> str:
    """For example `8 × B200`."""
    return f"{estimate.gpus} × {estimate.gpu.replace('_', ' ').upper()}"


def traffic_text(load: Load) -> str:
    """For example `1,024 tokens in, 2,048 out`."""
    return f"{load.input_tokens:,} tokens in, {load.output_tokens:,} out"


def requests_text(count: int) -> str:
    """For example `7,168 requests`."""
    return "1 request" if count == 1 else f"{count:,} requests"


def _entry(text: str) -> list[str]:
    return wrapped(text, indent=2, hanging=6)


def _all_points(estimate: Estimate) -> list[EstimatedPoint]:
    return sorted(dict.fromkeys((*estimate.points, estimate.own_point)), key=lambda one: one.concurrency)


def _bands(estimate: Estimate) -> list[tuple[str, Band]]:
    return list(dict.fromkeys((point.method, point.band) for point in _all_points(estimate)))


def _row(point: EstimatedPoint, *, own: bool) -> str:
    user = _range(point.tokens_per_s_per_user, point.band)
    gpu = _range(point.tokens_per_s_per_gpu, point.band)
    remark = f"; {point.remark}" if point.remark else ""
    mark = "  ← the recipe's own" if own else ""
    return f"  {point.concurrency:>10,}  {user:>22}  {gpu:>22}  {point.method}{mark}{remark}"


def _range(value: float, band: Band) -> str:
    return f"{_short(value * band.low)} to {_short(value * band.high)}"


def _short(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits are enough


def _drafts_text(drafts: Drafts) -> str:
    best = f"; best length for one user: {drafts.best_draft_len}" if drafts.best_draft_len is not None else ""
    return (
        f"drafts: {drafts.method}, {drafts.draft_len} tokens, {drafts.acceptance_length:g} gained in a step,"
        f" {drafts.gain_alone:.2f} times for one user{best} (acceptance: {drafts.source})"
    )


def _expect_lines(one: Compared) -> list[str]:
    lines = _entry(
        f"expect {one.name}: {one.value:,g} {_UNITS[one.metric]} ({one.status}) at"
        f" {requests_text(one.load.concurrency)}, {traffic_text(one.load)}{_ASSUMED[one.assumed]};"
        f" estimate {_short(one.low)} to {_short(one.high)} ({one.method}): {_VERDICTS[one.verdict]}"
    )
    for setting in one.look_at:
        lines += wrapped(f"look at {setting} [{setting.source}]", indent=4, hanging=6)
    if one.verdict != "inside" and not one.look_at:
        lines += wrapped(_UNEXPLAINED[one.verdict], indent=4, hanging=6)
    return lines


def _load_json(load: Load) -> dict[str, int]:
    return {
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "concurrency": load.concurrency,
    }


def _point_json(point: EstimatedPoint) -> dict[str, Any]:
    return {
        "concurrency": point.concurrency,
        "tokens_per_s_per_user": _banded(point.tokens_per_s_per_user, point.band),
        "tokens_per_s_per_gpu": _banded(point.tokens_per_s_per_gpu, point.band),
        "method": point.method,
        "remark": point.remark,
    }


def _banded(value: float, band: Band) -> dict[str, float]:
    return {
        "value": round(value, 2),
        "low": round(value * band.low, 2),
        "high": round(value * band.high, 2),
    }


def _expect_json(one: Compared) -> dict[str, Any]:
    return {
        "name": one.name,
        "metric": one.metric,
        "value": one.value,
        "status": one.status,
        "source": one.source,
        "workload": _load_json(one.load),
        "assumed": one.assumed or None,
        "method": one.method,
        "low": round(one.low, 2),
        "high": round(one.high, 2),
        "verdict": one.verdict,
        "look_at": [setting._asdict() for setting in one.look_at],
    }
