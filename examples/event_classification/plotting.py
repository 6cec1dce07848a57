"""Figures that belong to no window: nothing is ever shown, only drawn and saved."""

from typing import TYPE_CHECKING, Any

import nightbus as nb

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        MissingPackageError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise nb.MissingPackageError("a figure", "matplotlib", "events") from None
    figure = Figure(figsize=(width, height), dpi=80)
    # Fixed margins: a layout that is worked out takes twice as long to draw.
    figure.subplots_adjust(left=0.8 / width, right=1 - 0.2 / width, bottom=0.6 / height)
    figure.subplots_adjust(top=1 - 0.4 / height)
    return figure


def mark_classes(axes: Any, names: list[str]) -> None:
    """Name the rows and columns of a matrix by classes.

    Args:
        axes: the matrix's axes.
        names: the class names.
    """
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(places, names)
