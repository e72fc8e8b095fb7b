"""The estimate for the recipe's own GPUs, with its band, and the figures it is expected to reach."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bwdeploy.report.estimates import gpus_text, requests_text, traffic_text
from bwdeploy.report.html.blocks import Badge, Picture, Points, Section, Table
from bwdeploy.report.html.figures.estimate import SpeedPoint, draw_estimate
from bwdeploy.report.html.numbers import speed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bwdeploy.estimate.figures import Estimate, EstimatedPoint
    from bwdeploy.report.html.blocks import Block
    from bwdeploy.report.html.data import ReportData

_UNITS = {
    "tokens_per_s_per_user": "tokens/s of one user",
    "tokens_per_s_per_gpu": "tokens/s of one GPU",
    "tokens_per_s": "tokens/s in all",
}
_FEWEST = 2


def speed_section(data: ReportData) -> Section | None:
    """A picture and a table of the estimate; None without one."""
    estimate = data.estimate
    if estimate is None:
        return None
    where = f"{gpus_text(estimate)}, {traffic_text(estimate.load)}"
    return Section(
        "speed",
        "Predicted speed",
        tuple(_blocks(estimate)),
        lead=f"For {where}. A {estimate.method} estimate, not measured; its band says how far off it may be.",
    )


def _blocks(estimate: Estimate) -> Iterator[Block]:
    points = sorted({*estimate.points, estimate.own_point}, key=lambda one: one.concurrency)
    if len(points) >= _FEWEST:
        yield Picture(
            "speed-estimate",
            "Predicted speed against batch",
            f"Speed over the requests at once; the shade is the band, a star the recipe's own"
            f" {requests_text(estimate.own_point.concurrency)}.",
            partial(
                draw_estimate,
                per_user=[_banded(one, one.tokens_per_s_per_user) for one in points],
                per_gpu=[_banded(one, one.tokens_per_s_per_gpu) for one in points],
                own_requests=estimate.own_point.concurrency,
            ),
            height=3.3,
        )
    yield Table(
        "Speed by requests at once, low to high end of the band",
        ("Requests", "Tokens/s of one user", "Tokens/s of one GPU", "Method"),
        tuple(
            (
                f"{one.concurrency:,}",
                _range(_banded(one, one.tokens_per_s_per_user)),
                _range(_banded(one, one.tokens_per_s_per_gpu)),
                one.method,
            )
            for one in points
        ),
        texts=frozenset({3}),
        folded=True,
    )
    if estimate.expect:
        yield _expected(estimate)
    if estimate.notes:
        yield Points(estimate.notes)


def _banded(point: EstimatedPoint, value: float) -> SpeedPoint:
    return SpeedPoint(point.concurrency, value, value * point.band.low, value * point.band.high)


def _range(point: SpeedPoint) -> str:
    return f"{speed(point.low)} to {speed(point.high)}"


def _expected(estimate: Estimate) -> Table:
    return Table(
        "Expected figures beside the estimate",
        ("Figure", "Value", "Unit", "Status", "Estimate", "It lies", "Source"),
        tuple(
            (
                one.name,
                f"{one.value:,g}",
                _UNITS[one.metric],
                one.status,
                f"{speed(one.low)} to {speed(one.high)}",
                Badge(f"{one.verdict} the band", "good" if one.verdict == "inside" else "warn"),
                one.source,
            )
            for one in estimate.expect
        ),
        texts=frozenset({0, 2, 3, 5, 6}),
    )
