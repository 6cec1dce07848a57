"""Curves of runs, drawn: in the terminal and as one figure."""

import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from .curves import Curve, thinned
from .errors import MissingPackageError, UsageError

XAxis = Literal["step", "time"]

_TERMINAL_ROWS = 10
_COLUMNS = 3
_MOST_IN_LEGEND = 20


def draw_in_terminal(curves: Mapping[str, Curve], x: XAxis, columns: int) -> str:
    """Each metric as a plot of dots.

    Args:
        curves: metric -> curve.
        x: the axis: optimizer steps, or seconds since the run began.
        columns: width of the terminal, in characters.

    Raises:
        MissingPackageError: plotille is missing.
    """
    try:
        import plotille
    except ImportError:
        raise MissingPackageError("show --plot", "plotille", "plot") from None
    width = max(20, columns - 24)  # what plotille writes around the dots
    plots = []
    for name, curve in curves.items():
        xs, ys = thinned(curve, _along(curve, x), 2 * width)
        if not xs:
            plots.append(f"{name}: no finite values")
            continue
        figure: Any = plotille.Figure()
        figure.width, figure.height = width, _TERMINAL_ROWS
        figure.with_colors, figure.origin = False, False
        figure.x_label, figure.y_label = _label(x), name
        figure.x_ticks_fkt = figure.y_ticks_fkt = _tick
        figure.set_x_limits(*_limits(xs))
        figure.set_y_limits(*_limits(ys))
        (figure.plot if len(xs) > 1 else figure.scatter)(xs, ys)
        plots.append("\n".join(line.rstrip(" \u2800") for line in figure.show().splitlines()))
    return "\n\n".join(plots) + "\n"


def save_figure(
    runs: Mapping[str, Mapping[str, Curve]], metrics: Sequence[str], x: XAxis, path: Path
) -> None:
    """One figure with a plot for each metric, and a line in it for each run.

    Args:
        runs: run -> metric -> curve.
        metrics: which, in order.
        x: the axis: optimizer steps, or seconds since the run began.
        path: where to; the ending says how: png, svg, pdf and what else matplotlib writes.

    Raises:
        MissingPackageError: matplotlib is missing.
        UsageError: matplotlib does not write such a file.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("nightbus plot", "matplotlib", "plot") from None
    ending = path.suffix.removeprefix(".")
    endings = FigureCanvasAgg.get_supported_filetypes()
    if ending not in endings:
        raise UsageError(f"{path}: expected one of the endings {', '.join(sorted(endings))}")
    columns = min(_COLUMNS, len(metrics))
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(5 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for number, (name, run) in enumerate(runs.items()):
        for axis, metric in zip(axes, metrics, strict=False):
            curve = run.get(metric)
            if curve is not None:
                marker = "o" if len(curve) == 1 else None
                axis.plot(_along(curve, x), curve.values, f"C{number}", label=name, marker=marker)
    for axis, metric in zip(axes, metrics, strict=False):
        axis.set_title(metric, parse_math=False)
        axis.set_xlabel(_label(x))
        axis.grid(alpha=0.3)
    for axis in axes[len(metrics) :]:
        axis.set_visible(False)
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if len(runs) > 1:
        shown = list(handles)[:_MOST_IN_LEGEND]
        figure.legend([handles[name] for name in shown], shown, loc="outside upper center", ncols=4)
    else:
        figure.suptitle(next(iter(runs)), parse_math=False)
    figure.savefig(path, dpi=120)


def _along(curve: Curve, x: XAxis) -> "array[Any]":
    return curve.steps if x == "step" else curve.times


def _label(x: XAxis) -> str:
    return "step" if x == "step" else "time (s)"


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:  # a line needs some room around it
        margin = abs(low) / 10 or 1.0
        return low - margin, high + margin
    return low, high


def _tick(low: float, high: float) -> str:
    return f"{low:.5g}"
