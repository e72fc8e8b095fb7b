"""An estimate as text and as JSON (`estimate --json`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bwdeploy.estimate.figures import Compared, Drafts, Estimate, EstimatedPoint
    from bwdeploy.planner.speed.roofline import Band, Load

_UNITS = {
    "tokens_per_s_per_user": "tokens/s per user",
    "tokens_per_s_per_gpu": "tokens/s per GPU",
    "tokens_per_s": "tokens/s",
}
_VERDICTS = {
    "inside": "inside the band",
    "above": "above the band: this recipe should not reach it as it stands",
    "below": "below the band: taken with older software, or the recipe should do better",
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
        "bands": [{"low": band.low, "high": band.high, "why": band.why} for band in _bands(estimate)],
        "drafts": estimate.drafts._asdict() if estimate.drafts else None,
        "expect": [_expect_json(one) for one in estimate.expect],
        "front": [point._asdict() for point in estimate.front],
        "notes": list(estimate.notes),
    }


def estimate_text(estimate: Estimate) -> str:
    """The estimate for a person."""
    load = estimate.load
    lines = [
        (
            f"{estimate.name}: {estimate.gpus} {estimate.gpu},"
            f" {load.input_tokens} tokens in, {load.output_tokens} out"
        ),
        f"  method: {estimate.method} ({estimate.why})",
    ]
    if estimate.drafts:
        lines.append(f"  {_drafts_text(estimate.drafts)}")
    lines.append(f"  {'requests':>10}  {'tokens/s per user':>22}  {'tokens/s per GPU':>22}  method")
    lines += [_row(point, own=point.concurrency == load.concurrency) for point in _all_points(estimate)]
    lines += [
        f"  band: {band.low:g} to {band.high:g} times the figure: {band.why}" for band in _bands(estimate)
    ]
    for one in estimate.expect:
        lines += _expect_lines(one)
    lines += [f"  note: {note}" for note in estimate.notes]
    return "\n".join(lines)


def _all_points(estimate: Estimate) -> list[EstimatedPoint]:
    return sorted(dict.fromkeys((*estimate.points, estimate.own_point)), key=lambda one: one.concurrency)


def _bands(estimate: Estimate) -> list[Band]:
    return list(dict.fromkeys(point.band for point in _all_points(estimate)))


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
        f"drafts: {drafts.method}, {drafts.draft_len} tokens, {drafts.acceptance_length:g} gained in a step"
        f" ({drafts.source}): {drafts.gain_alone:.2f} times for one user{best}"
    )


def _expect_lines(one: Compared) -> list[str]:
    load = one.load
    lines = [
        (
            f"  expect {one.name}: {one.value:,g} {_UNITS[one.metric]} ({one.status}) at {load.concurrency:,}"
            f" requests, {load.input_tokens} in, {load.output_tokens} out;"
            f" estimate {_short(one.low)} to {_short(one.high)}: {_VERDICTS[one.verdict]}"
        )
    ]
    lines += [f"    look at {setting} [{setting.source}]" for setting in one.look_at]
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
        "low": round(one.low, 2),
        "high": round(one.high, 2),
        "verdict": one.verdict,
        "look_at": [setting._asdict() for setting in one.look_at],
    }
