"""Prints the results of validate and test."""

from collections.abc import Mapping, Sequence
from typing import SupportsFloat


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
