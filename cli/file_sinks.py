"""The sinks that the command line can write with, which are those that write files."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ..sinks.refill import FILE_SINKS
from .text import how_many, print_note

WANTED = ", ".join(f"--{option} DIR" for option in FILE_SINKS)


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each kind of file."""
    for option, kind in FILE_SINKS.items():
        parser.add_argument(f"--{option}", metavar="DIR", help=f"write a {kind} file into DIR")


def given_folders(options: argparse.Namespace) -> dict[str, str]:
    """Return class -> folder for the options that were given."""
    given = {kind: getattr(options, option) for option, kind in FILE_SINKS.items()}
    return {kind: folder for kind, folder in given.items() if folder is not None}


def make_file_sinks(folders: Mapping[str, str | None]) -> list[Any]:
    """Return sinks by class name, each for a folder, or for the run's own."""
    from .. import sinks

    return [getattr(sinks, kind)(folder) for kind, folder in folders.items()]


def print_sinks(sinks: Sequence[Any], numbers: Sequence[int]) -> None:
    """Print how many events each sink received, and where it wrote.

    Args:
        sinks: the file sinks.
        numbers: of events, one for each sink.
    """
    for sink, number in zip(sinks, numbers, strict=True):
        print_note(f"{how_many(number, 'event')} read, their metrics are in {sink.path}")


def sink_reports(sinks: Sequence[Any], numbers: Sequence[int]) -> list[dict[str, object]]:
    """Return the same as ``print_sinks`` for programs.

    Args:
        sinks: the file sinks.
        numbers: of events, one for each sink.
    """
    return [
        {
            "kind": type(sink).__name__,
            "path": str(sink.path),
            "events": number,
        }
        for sink, number in zip(sinks, numbers, strict=True)
    ]
