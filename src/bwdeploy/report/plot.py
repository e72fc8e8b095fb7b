"""An estimate as a picture: speed of a user against tokens of a GPU, with the band and the `expect:` figures.

PNG or SVG by the file's suffix. matplotlib is imported only here and only when a picture is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bwdeploy.errors import HostError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from bwdeploy.estimate.figures import Compared, Estimate

_SUFFIXES = (".png", ".svg")
_SIZE_INCHES = (8.0, 5.0)


def check_plot_file(file: Path) -> None:
    """Say early that a picture cannot be drawn.

    Raises:
        HostError: another suffix than .png or .svg, or matplotlib is not installed.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise HostError(f"{file} is neither PNG nor SVG", hint="name a file that ends in .png or .svg")
    _matplotlib()


def write_plot(estimate: Estimate, file: Path) -> None:
    """Draw the estimate into `file`.

    Raises:
        HostError: as `check_plot_file`.
        StoreError: the file cannot be written.
    """
    check_plot_file(file)
    figure = _matplotlib()(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    _draw_points(axes, estimate)
    _draw_front(axes, estimate)
    for one in estimate.expect:
        _draw_expectation(axes, one, estimate.gpus)
    load = estimate.load
    axes.set_xlabel("tokens/s per user")
    axes.set_ylabel("tokens/s per GPU")
    axes.set_title(
        f"{estimate.name}: {estimate.gpus} {estimate.gpu}, {load.input_tokens} in, {load.output_tokens} out"
    )
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    try:
        figure.savefig(file, metadata={"Date": None} if file.suffix.lower() == ".svg" else {})
    except OSError as error:
        raise StoreError(f"cannot write {file}: {error}", hint="choose another place") from error


def _draw_points(axes: Any, estimate: Estimate) -> None:  # noqa: ANN401 - matplotlib
    """The curve over concurrency, the band as an area between its low and its high ends."""
    points = sorted(estimate.points, key=lambda one: one.tokens_per_s_per_user)
    users = [one.tokens_per_s_per_user for one in points]
    gpus = [one.tokens_per_s_per_gpu for one in points]
    low = [
        (user * one.band.low, gpu * one.band.low) for user, gpu, one in zip(users, gpus, points, strict=True)
    ]
    high = [
        (user * one.band.high, gpu * one.band.high)
        for user, gpu, one in zip(users, gpus, points, strict=True)
    ]
    outline = [*low, *reversed(high)]
    axes.fill(*zip(*outline, strict=True), alpha=0.15, color="C0", label="band")
    axes.plot(users, gpus, marker="o", color="C0", label=f"this layout ({estimate.method})")
    for one in points:
        axes.annotate(str(one.concurrency), (one.tokens_per_s_per_user, one.tokens_per_s_per_gpu), fontsize=7)
    own = estimate.own_point
    axes.plot(
        [own.tokens_per_s_per_user],
        [own.tokens_per_s_per_gpu],
        marker="*",
        markersize=14,
        linestyle="none",
        color="C3",
        label=f"the recipe's own: {own.concurrency} requests",
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
        label="Pareto front of all layouts, no drafts (aiconfigurator)",
    )


def _draw_expectation(axes: Any, one: Compared, gpus: int) -> None:  # noqa: ANN401 - matplotlib
    label = f"expect {one.name} ({one.status})"
    if one.metric == "tokens_per_s_per_user":
        axes.axvline(one.value, linestyle=":", color="C1", label=label)
    else:
        value = one.value / gpus if one.metric == "tokens_per_s" else one.value
        axes.axhline(value, linestyle=":", color="C1", label=label)


def _matplotlib() -> Any:  # noqa: ANN401 - a class of matplotlib
    """Its figure class; without pyplot no window system is touched."""
    try:
        return import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise HostError(
            "a picture needs matplotlib, which is not installed",
            hint="install it with `pip install matplotlib`, or leave --plot out",
        ) from error
