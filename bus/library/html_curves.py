"""Small curves as HTML without scripts, for notebooks."""

import html
from collections.abc import Mapping

from .thinned_curve import ThinnedCurve

WIDTH, HEIGHT, EDGE = 220, 70, 3  # of a curve, in pixels
MAX_CURVES = 12
MAX_COLUMNS = 400  # of points; a screen shows no more on this width


def html_curves(curves: Mapping[str, ThinnedCurve]) -> str:
    """Return the first curves side by side, each with its name and its last value.

    Args:
        curves: metrics by name; names may come from anywhere.
    """
    shown = list(curves.items())[:MAX_CURVES]
    figures = "".join(_figure(name, curve) for name, curve in shown)
    more = f"<p>and {len(curves) - MAX_CURVES} more</p>" if len(curves) > MAX_CURVES else ""
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>{more}'


def _figure(name: str, curve: ThinnedCurve) -> str:
    title = f"{html.escape(name)} <b>{curve.last:.4g}</b>"
    low, high = (min(curve.lows), max(curve.highs)) if curve.lows else (0.0, 0.0)
    said = f"{low:.4g} to {high:.4g}, {curve.count:,} values"
    return (
        f'<figure style="margin:0;width:{WIDTH}px"><figcaption>{title}</figcaption>'
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="{html.escape(name)}: {said}">'
        f'<polyline fill="none" stroke="#4477aa" stroke-width="1.5" '
        f'points="{_points(curve, low, high)}"/></svg>'
        f'<div style="font-size:80%;opacity:0.7">{said}</div></figure>'
    )


def _points(curve: ThinnedCurve, low: float, high: float) -> str:
    """Return the corners of a line through the lowest and highest value of each column."""
    size = len(curve.lows)
    columns = min(size, MAX_COLUMNS)
    scale = (HEIGHT - 2 * EDGE) / (high - low) if high > low else 0.0
    points = []
    for column in range(columns):
        part = slice(column * size // columns, (column + 1) * size // columns)
        x = EDGE + (WIDTH - 2 * EDGE) * column / max(1, columns - 1)
        for value in dict.fromkeys((min(curve.lows[part]), max(curve.highs[part]))):
            y = HEIGHT - EDGE - (value - low) * scale if scale else HEIGHT / 2
            points.append(f"{x:.1f},{y:.1f}")
    return " ".join(points)
