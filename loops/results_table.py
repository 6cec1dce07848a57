"""Prints the results of validate and test."""

from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat


def print_results(function: str, results: Sequence[Mapping[str, SupportsFloat]]) -> None:
    """Print the metrics of each dataloader, one metric a line.

    Args:
        function: function that computed them, for the heading.
        results: metrics of each dataloader by name.
    """
    for idx, values in enumerate(results):
        print(function if len(results) == 1 else f"{function}, dataloader {idx}")
        width = max(map(len, values), default=0)
        for name, value in values.items():
            print(f"  {name:<{width}}  {float(value):.6g}")


def print_any_results(function: str, results: Any) -> None:
    """Print what a loop of a user's own returned: a table of metrics, anything else as it is.

    Args:
        function: function that ran the loop, for the heading.
        results: what its ``run`` returned.
    """
    if isinstance(results, list) and all(_is_of_metrics(values) for values in results):
        print_results(function, results)
    else:
        print(f"{function}: {results}")


def _is_of_metrics(values: Any) -> bool:
    return isinstance(values, Mapping) and all(
        isinstance(name, str) and isinstance(value, SupportsFloat) for name, value in values.items()
    )
