"""Draws curves of runs: in the terminal, and as one figure."""

import math
import warnings
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_letters
from typing import Any, Literal

from ..errors import MissingPackageError, UsageError
from ..shown_text import plain
from .metric_series import LARGEST, Curve, thinned

XAxis = Literal["step", "epoch", "time", "wall"]

_TERMINAL_ROWS = 10
_COLUMNS = 3
_MOST_IN_LEGEND = 20
_MOST_CHARS = 80
_SMALLEST = 1e-300
_ROOM = 0.02  # above the highest: a letter on the edge is not drawn
_NOTHING = "no finite values"


def draw_in_terminal(
    runs: Mapping[str, Mapping[str, Curve]],
    metrics: Sequence[str],
    x: XAxis,
    columns: int,
    smooth: float = 0.0,
) -> str:
    """Draw each metric as a plot: of one run in dots, of several with a letter for each.

    Args:
        runs: run -> metric -> curve.
        metrics: those to draw, in order.
        x: the axis: optimizer steps, epochs, seconds since the run began, or since 1970.
        columns: width of the terminal, in characters.
        smooth: weight of the values before, from 0 to below 1; see ``smoothed``.

    Returns:
        The plots, as lines of text.

    Raises:
        MissingPackageError: plotille is missing.
        UsageError: there are more runs than letters.
    """
    try:
        import plotille
    except ImportError:
        raise MissingPackageError("drawing in the terminal", "plotille", "plot") from None
    if len(runs) > len(ascii_letters):
        raise UsageError(
            f"{len(runs)} runs are too many for the terminal, which has a letter for "
            f"{len(ascii_letters)}; give fewer, or -o FILE"
        )
    width = max(20, columns - 24)  # what plotille writes around the dots
    is_one = len(runs) == 1
    points = 2 * width if is_one else width
    legend = "\n".join(f"{a} {_title(name)}" for a, name in zip(ascii_letters, runs, strict=False))
    plots = [] if is_one else [legend]
    for metric in metrics:
        drawn = {
            letter: _thinned(run[metric], x, points, smooth)
            for letter, run in zip(ascii_letters, runs.values(), strict=False)
            if metric in run
        }
        drawn = {letter: curve for letter, curve in drawn.items() if curve[0]}
        if not drawn:
            plots.append(f"{_title(metric)}: {_NOTHING}")
            continue
        figure: Any = plotille.Figure()
        figure.width, figure.height = width, _TERMINAL_ROWS
        figure.with_colors, figure.origin = False, False
        figure.x_label, figure.y_label = _label(x), _title(metric)
        figure.x_ticks_fkt = figure.y_ticks_fkt = _tick
        room = 0.0 if is_one else _ROOM
        figure.set_x_limits(*_limits([at for xs, _ in drawn.values() for at in xs], room))
        figure.set_y_limits(*_limits([value for _, ys in drawn.values() for value in ys], room))
        for letter, (xs, ys) in drawn.items():
            draw = figure.plot if is_one and len(xs) > 1 else figure.scatter
            draw(xs, ys, marker=None if is_one else letter)
        plots.append("\n".join(line.rstrip(" \u2800") for line in figure.show().splitlines()))
    return "\n\n".join(plots) + "\n"


def _thinned(curve: Curve, x: XAxis, most: int, smooth: float) -> tuple[list[float], list[float]]:
    if smooth:
        curve = curve.with_values(smoothed(curve.values, smooth))
    return thinned(curve, _along(curve, x), most)


def save_figure(
    runs: Mapping[str, Mapping[str, Curve]],
    metrics: Sequence[str],
    x: XAxis,
    path: Path,
    log: bool = False,
    smooth: float = 0.0,
) -> None:
    """Write a figure with a plot for each metric, and a line in it for each run.

    Args:
        runs: run -> metric -> curve.
        metrics: those to draw, in order.
        x: the axis: optimizer steps, epochs, seconds since the run began, or since 1970.
        path: the file; its ending chooses a format of matplotlib: png, svg, pdf and others.
        log: draw values on a logarithmic axis.
        smooth: weight of the values before, from 0 to below 1; see ``smoothed``.

    Raises:
        MissingPackageError: matplotlib is missing.
        UsageError: matplotlib cannot write this format.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    except ImportError:
        raise MissingPackageError("nightbus plot", "matplotlib", "plot") from None
    ending = path.suffix.removeprefix(".")
    endings = FigureCanvasAgg.get_supported_filetypes()
    if ending not in endings:
        raise UsageError(f"{path}: expected one of the endings {', '.join(sorted(endings))}")
    with matplotlib.rc_context({"text.usetex": False}), warnings.catch_warnings():
        # Warnings about missing letters and space: the names may be a stranger's.
        warnings.simplefilter("ignore", UserWarning)
        figure = figure_of(runs, metrics, x, log, smooth)
        figure.savefig(path, dpi=120)


def figure_of(
    runs: Mapping[str, Mapping[str, Curve]],
    metrics: Sequence[str],
    x: XAxis,
    log: bool = False,
    smooth: float = 0.0,
) -> Any:
    """Return a figure of matplotlib with a plot for each metric, and a line in it for each run.

    Args:
        runs: run -> metric -> curve.
        metrics: those to draw, in order.
        x: the axis.
        log: draw values on a logarithmic axis.
        smooth: weight of the values before, from 0 to below 1; see ``smoothed``.

    Raises:
        MissingPackageError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("a figure", "matplotlib", "plot") from None

    columns = min(_COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for number, (name, run) in enumerate(runs.items()):
        for axis, metric in zip(axes, metrics, strict=False):
            curve = run.get(metric)
            if curve is not None:
                marker = "o" if len(curve) == 1 else None
                values = smoothed(curve.values, smooth)
                xs, ys = _along(curve, x), [_drawable(value) for value in values]
                (handles[name],) = axis.plot(xs, ys, f"C{number}", marker=marker)
    for axis, metric in zip(axes, metrics, strict=False):
        axis.set_title(_title(metric), parse_math=False)
        axis.set_xlabel(_label(x))
        axis.set_ylabel(_title(metric), parse_math=False)
        axis.grid(alpha=0.3)
        if log:
            axis.set_yscale("log")
        if not any(has_finite(run[metric]) for run in runs.values() if metric in run):
            axis.text(0.5, 0.5, _NOTHING, ha="center", va="center", transform=axis.transAxes)
            axis.set_yticks([])
        else:
            _give_room(axis)
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    if len(runs) > 1:
        shown = list(handles)[:_MOST_IN_LEGEND]
        lines = [handles[name] for name in shown]
        titles = [_title(name) for name in shown]
        legend = figure.legend(lines, titles, loc="outside upper center", ncols=4)
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        figure.suptitle(_title(next(iter(runs))), parse_math=False)
    return figure


def has_finite(curve: Curve) -> bool:
    """Return whether there is anything to draw."""
    return any(map(math.isfinite, curve.values))


def _drawable(value: float) -> float:
    """Return a value that matplotlib can draw; values that are not finite leave a gap."""
    return min(max(value, -LARGEST), LARGEST) if math.isfinite(value) else math.nan


def _give_room(axis: Any) -> None:
    """Move apart limits that matplotlib would take for the same number."""
    low, high = axis.get_ylim()
    if high - low < _SMALLEST:
        axis.set_ylim(-_SMALLEST, _SMALLEST)


def _title(name: str) -> str:
    """Return a name in one line that can be shown."""
    shown = plain(name)
    return shown if len(shown) <= _MOST_CHARS else f"{shown[:_MOST_CHARS]}..."


def _along(curve: Curve, x: XAxis) -> "array[Any]":
    along: array[Any] = getattr(curve, {"step": "steps", "epoch": "epochs"}.get(x, f"{x}s"))
    return along


def _label(x: XAxis) -> str:
    return {"time": "time (s)", "wall": "time since 1970 (s)"}.get(x, x)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Return exponential means of values, which begin at the first; gaps stay gaps.

    Args:
        values: the values.
        weight: of the mean before, from 0 (the values themselves) to below 1.
    """
    if not weight:
        return list(values)
    means, mean, total = [], 0.0, 0.0
    for value in values:
        if not math.isfinite(value):
            means.append(value)
            continue
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        means.append(mean / total)
    return means


def _limits(values: Sequence[float], room: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low <= max(abs(low), abs(high)) * 1e-12 + _SMALLEST:  # a line needs some room
        margin = max(abs(low), abs(high)) / 10
        margin = margin if margin > _SMALLEST else 1.0
        return low - margin, high + margin
    return low, high + room * (high - low)


def _tick(low: float, high: float) -> str:
    return f"{low:.5g}"
