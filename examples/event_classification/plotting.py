"""Figures that belong to no window: nothing is ever shown, only drawn and saved."""

from typing import TYPE_CHECKING, Any

from examples.event_classification.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure.

    Args:
        width: in inches.
        height: in inches.

    Raises:
        MissingExtraError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("a figure", "matplotlib", "events") from None
    return Figure(figsize=(width, height), layout="constrained", dpi=80)


def mark_classes(axes: Any, names: list[str]) -> None:
    """Name the rows and columns of a matrix by classes.

    Args:
        axes: the matrix's axes.
        names: the class names.
    """
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(places, names)
