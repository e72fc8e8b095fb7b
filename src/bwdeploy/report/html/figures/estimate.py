"""Predicted speed over the requests at once, with its band and what is expected of the deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bwdeploy.report.html.figures.axes import count_axis, logarithmic
from bwdeploy.report.html.figures.palette import SERIES

if TYPE_CHECKING:
    from collections.abc import Sequence


class SpeedPoint(NamedTuple):
    """Speed at one number of requests, with the ends of its band."""

    requests: int
    value: float
    low: float
    high: float


def draw_estimate(
    figure: Any,  # noqa: ANN401 - matplotlib
    per_user: Sequence[SpeedPoint],
    per_gpu: Sequence[SpeedPoint],
    own_requests: int,
) -> None:
    """Left the speed of one user, right that of one GPU, both over the requests at once."""
    panels = (("tokens/s of one user", per_user, SERIES[0]), ("tokens/s of one GPU", per_gpu, SERIES[2]))
    for axes, (title, points, color) in zip(figure.subplots(1, 2), panels, strict=True):
        requests = [point.requests for point in points]
        axes.fill_between(
            requests,
            [point.low for point in points],
            [point.high for point in points],
            color=color,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(requests, [point.value for point in points], color=color, marker="o", markersize=4)
        own = [point for point in points if point.requests == own_requests]
        if own:
            axes.plot(own[0].requests, own[0].value, color=color, marker="*", markersize=13)
        count_axis(axes, requests, "requests at once")
        logarithmic(axes)
        axes.set_title(title)
