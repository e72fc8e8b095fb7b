"""An estimate as a picture: speed of a user against tokens of a GPU, with the band and the `expect:` figures.

PNG or SVG by the file's suffix. matplotlib is imported only here and only when a picture is asked for.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import HostError, StoreError, argument_error
from bwdeploy.report.estimates import gpus_text, requests_text, traffic_text

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.estimate.figures import Compared, Estimate, EstimatedPoint

_SUFFIXES = (".png", ".svg")
_SIZE_INCHES = (9.0, 6.5)
_LABEL_GAP = 0.05
"""Between two labelled points, as a share of either axis: closer ones would be written over each other."""
_COLOURS = ("C1", "C4", "C5", "C6", "C8", "C9")


def check_plot_file(file: Path) -> None:
    """Say early that a picture cannot be drawn or written.

    Raises:
        RecipeError: another suffix than .png or .svg.
        HostError: matplotlib is not installed.
        StoreError: there is no such directory, or it cannot be written to.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise argument_error(
            f"--plot: {file} is neither PNG nor SVG", "Name a file that ends in .png or .svg"
        )
    _matplotlib()
    if file.is_dir():
        raise StoreError(f"cannot write {file}: it is a directory", hint="Name a file")
    if not file.parent.is_dir():
        raise StoreError(f"cannot write {file}: there is no directory {file.parent}", hint="Create it first")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise StoreError(f"cannot write {file}: permission denied", hint="Choose another place")


def write_plot(estimate: Estimate, file: Path) -> None:
    """Draw the estimate into `file`.

    Raises:
        RecipeError: as `check_plot_file`, and HostError.
        StoreError: the file cannot be written.
    """
    check_plot_file(file)
    figure = new_figure(_SIZE_INCHES)
    axes = figure.subplots()
    _draw_band(axes, estimate)
    _draw_points(axes, estimate)
    _draw_front(axes, estimate)
    for one, colour in zip(estimate.expect, _COLOURS * len(estimate.expect), strict=False):
        _draw_expectation(axes, one, estimate, colour)
    axes.set_xlabel("tokens/s per user")
    axes.set_ylabel("tokens/s per GPU")
    axes.set_title(f"{estimate.name}\n{gpus_text(estimate)}, {traffic_text(estimate.load)}", fontsize=11)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower left", fontsize=8, ncols=1)
    save_figure(figure, file)


def new_figure(size_inches: tuple[float, float]) -> Any:  # noqa: ANN401 - matplotlib
    """An empty figure.

    Raises:
        HostError: matplotlib is not installed.
    """
    return _matplotlib()(figsize=size_inches, layout="constrained")


def save_figure(figure: Any, file: Path) -> None:  # noqa: ANN401 - matplotlib
    """Write a figure, as its suffix says.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        figure.savefig(file, metadata={"Date": None} if file.suffix.lower() == ".svg" else {})
    except OSError as error:
        raise StoreError(f"cannot write {file}: {error}", hint="Choose another place") from error


def _drawn(estimate: Estimate) -> list[EstimatedPoint]:
    points = dict.fromkeys((*estimate.points, estimate.own_point))
    return sorted(points, key=lambda one: one.concurrency)


def _draw_band(axes: Any, estimate: Estimate) -> None:  # noqa: ANN401 - matplotlib
    """Between the low and the high ends of all points; of a single point it is a line through it."""
    points = _drawn(estimate)
    ends = [
        [
            (one.tokens_per_s_per_user * factor, one.tokens_per_s_per_gpu * factor)
            for one, factor in ((one, getattr(one.band, side)) for one in points)
        ]
        for side in ("low", "high")
    ]
    factors = " and ".join(
        dict.fromkeys(f"{one.band.low:g} to {one.band.high:g} times ({one.method})" for one in points)
    )
    label = f"band: {factors}"
    outline = [*ends[0], *reversed(ends[1])]
    if len(points) > 1:
        axes.fill(*zip(*outline, strict=True), alpha=0.15, color="C0", label=label)
    else:
        axes.plot(*zip(*outline, strict=True), alpha=0.3, linewidth=8, color="C0", label=label)


def _draw_points(axes: Any, estimate: Estimate) -> None:  # noqa: ANN401 - matplotlib
    """The curve over concurrency, each point with its number of requests where there is room."""
    points = _drawn(estimate)
    users = [one.tokens_per_s_per_user for one in points]
    gpus = [one.tokens_per_s_per_gpu for one in points]
    methods = " and ".join(dict.fromkeys(one.method for one in points))
    label = f"this layout ({methods}); numbers are requests at once"
    axes.plot(users, gpus, marker="o", markersize=4, color="C0", label=label)
    own = estimate.own_point
    axes.plot(
        [own.tokens_per_s_per_user],
        [own.tokens_per_s_per_gpu],
        marker="*",
        markersize=14,
        linestyle="none",
        color="C3",
        label=f"the recipe's own: {requests_text(own.concurrency)}",
    )
    wide, high = max(one * 2 for one in users), max(one * 2 for one in gpus)
    last: EstimatedPoint | None = None
    for one in reversed(points):
        apart = last is None or max(
            abs(one.tokens_per_s_per_user - last.tokens_per_s_per_user) / wide,
            abs(one.tokens_per_s_per_gpu - last.tokens_per_s_per_gpu) / high,
        )
        if apart is not True and apart < _LABEL_GAP:
            continue
        last = one
        axes.annotate(
            f"{one.concurrency:,}",
            (one.tokens_per_s_per_user, one.tokens_per_s_per_gpu),
            xytext=(7, 5),
            textcoords="offset points",
            fontsize=8,
        )


def _draw_front(axes: Any, estimate: Estimate) -> None:  # noqa: ANN401 - matplotlib
    if not estimate.front:
        return
    front = sorted(estimate.front, key=lambda one: one.tokens_per_s_per_user)
    axes.plot(
        [one.tokens_per_s_per_user for one in front],
        [one.tokens_per_s_per_gpu for one in front],
        linestyle="--",
        color="C2",
        label="Pareto front of all layouts, without drafts and without a band (aiconfigurator)",
    )


def _draw_expectation(axes: Any, one: Compared, estimate: Estimate, colour: str) -> None:  # noqa: ANN401 - matplotlib
    """A line at the figure; other traffic than the picture's is written beside it."""
    unit, draw, value = {
        "tokens_per_s_per_user": ("per user", axes.axvline, one.value),
        "tokens_per_s_per_gpu": ("per GPU", axes.axhline, one.value),
        "tokens_per_s": ("in all, drawn per GPU", axes.axhline, one.value / estimate.gpus),
    }[one.metric]
    same = one.load[1:] == estimate.load[1:]
    traffic = "" if same else f", OTHER TRAFFIC: {traffic_text(one.load)}"
    label = (
        f"expect {one.name}: {one.value:,g} tokens/s {unit}"
        f" ({one.status}{'' if one.assumed else ', ' + requests_text(one.load.concurrency)}{traffic})"
    )
    draw(value, linestyle="--" if same else ":", linewidth=1.2, color=colour, label=label)


def _matplotlib() -> Any:  # noqa: ANN401 - a class of matplotlib
    """Its figure class; without pyplot no window system is touched."""
    try:
        return import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise HostError(
            "a picture needs matplotlib, which is not installed",
            hint="Install it with `pip install matplotlib`, or leave --plot out",
        ) from error
