"""Many runs as a table: chosen by a condition, sorted, and shown."""

import html
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ..errors import RunFolderError, UsageError
from ..log.summary import MetricTotal
from ..runs.run_summary import RunSummary
from ..shown_text import plain
from ..system.paths import as_path
from .frames import Columns, FramesOfColumns
from .index import read_table
from .names import FIELDS, hparam_columns, known_names, metric_columns, sort_key, value_of
from .where import names_in, parse

if TYPE_CHECKING:
    from .run import Run

MAX_SHOWN = 40
_SHOWN = ("id", "ending", "epochs", "steps")


class Runs(Sequence["Run"], FramesOfColumns):
    """Runs of a folder, in an order.

    Args:
        summaries: the runs in short.
    """

    def __init__(self, summaries: Sequence[RunSummary]) -> None:
        self.summaries = list(summaries)

    @overload
    def __getitem__(self, number: int) -> "Run": ...
    @overload
    def __getitem__(self, number: slice) -> "Runs": ...
    def __getitem__(self, number: int | slice) -> "Run | Runs":
        """Return one run by its number, or several."""
        if isinstance(number, slice):
            return Runs(self.summaries[number])
        return _run_of(self.summaries[number])

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.summaries)

    def __iter__(self) -> "Iterator[Run]":
        """Iterate over the runs."""
        return map(_run_of, self.summaries)

    def where(self, condition: str) -> "Runs":
        """Return the runs for which a condition holds.

        Args:
            condition: such as ``"lr < 0.01 and ending == 'completed'"``.

        Raises:
            UsageError: it is not a condition, or no run has one of its names.
        """
        holds = parse(condition)
        self.refuse_unknown(names_in(condition))
        return Runs([run for run in self.summaries if holds(_lookup(run))])

    def begun_since(self, wall_ns: int) -> "Runs":
        """Return the runs that began at a time or later.

        Args:
            wall_ns: the time, in ns since 1970.
        """
        return Runs([run for run in self.summaries if run.created_ns >= wall_ns])

    def of_group(self, group: str) -> "Runs":
        """Return the runs of a group.

        Args:
            group: its name.
        """
        return Runs([run for run in self.summaries if run.group == group])

    def tagged(self, *tags: str) -> "Runs":
        """Return the runs that have all of some tags.

        Args:
            *tags: the tags.
        """
        return Runs([run for run in self.summaries if all(tag in run.tags for tag in tags)])

    def sort(self, by: str, reverse: bool = False) -> "Runs":
        """Return the runs in another order; those without a value come last.

        Args:
            by: a name, as in conditions: ``val_loss.min``, ``lr``, ``duration``.
            reverse: the largest first.

        Raises:
            UsageError: no run has a value of this name.
        """
        self.refuse_unknown([by])
        keyed = [(sort_key(value_of(run, by)), run) for run in self.summaries]
        there = [pair for pair in keyed if pair[0][0] < 2]
        missing = [run for key, run in keyed if key[0] == 2]
        there.sort(key=lambda pair: pair[0], reverse=reverse)
        return Runs([*(run for _, run in there), *missing])

    def refuse_unknown(self, names: Iterable[str]) -> None:
        """Refuse names of which no run has a value.

        Args:
            names: as in conditions.

        Raises:
            UsageError: no run has a value of one; the message says which are near.
        """
        for name in names:
            if name in FIELDS or any(value_of(run, name) is not None for run in self.summaries):
                continue
            if self.summaries:
                from difflib import get_close_matches

                near = get_close_matches(name, known_names(self.summaries))
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise UsageError(f"no run has {name!r}{hint}")

    def columns(self) -> Columns:
        """Return a row a run: its fields, hyperparameters and the last values of its metrics.

        A name that stands for two of these has its kind in front: ``hparams.group`` or
        ``metrics.lr``.
        """
        names = [*FIELDS, *self.varied_hparams(everything=True), *self._metric_names()]
        return {name: [_cell(value_of(run, name)) for run in self.summaries] for name in names}

    def varied_hparams(self, everything: bool = False) -> list[str]:
        """Return the hyperparameters in which the runs differ, as conditions and columns name them.

        Args:
            everything: also those that are the same in all.
        """
        names = dict.fromkeys(name for run in self.summaries for name in run.hparams)
        if everything or len(self.summaries) < 2:
            return hparam_columns(names)
        first, different = self.summaries[0].hparams, set[str]()
        for run in self.summaries:
            if run.hparams != first:
                same = different | {n for n in names if run.hparams.get(n) == first.get(n)}
                different |= names.keys() - same
        return hparam_columns(name for name in names if name in different)

    def _metric_names(self) -> list[str]:
        names = dict.fromkeys(name for run in self.summaries for name in run.metrics)
        return metric_columns(self.summaries, names)

    def table(self, *columns: str) -> str:
        """Return the runs as text, a line each.

        Args:
            *columns: names, as in conditions; by default the id, how it ended, epochs, steps, the
                hyperparameters that differ and the first metrics.
        """
        names = columns or (*_SHOWN, *self.varied_hparams()[:6], *self._metric_names()[:4])
        rows = [[_text(value_of(run, name)) for name in names] for run in self.summaries]
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (names, *rows)
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the first runs as a table."""
        more = len(self) - MAX_SHOWN
        shown = Runs(self.summaries[:MAX_SHOWN]).table() if self.summaries else "no runs"
        return f"{shown}\nand {more} more" if more > 0 else shown

    def __rich__(self) -> Any:
        """Return the first runs as a table of rich."""
        from rich.table import Table
        from rich.text import Text

        names, rows = self._first()
        table = Table()
        for name in names:
            table.add_column(Text(plain(name)))
        for row in rows:
            table.add_row(*(Text(plain(text)) for text in row))
        if (more := len(self) - len(rows)) > 0:
            table.caption = f"and {more} more"
        return table

    def _first(self) -> tuple[Sequence[str], list[list[str]]]:
        """Return the first runs as texts, and the names of the columns."""
        lines = Runs(self.summaries[:MAX_SHOWN])
        names = (*_SHOWN, *lines.varied_hparams()[:6], *lines._metric_names()[:4])
        return names, [[_text(value_of(run, name)) for name in names] for run in lines.summaries]

    def _repr_html_(self) -> str:
        names, texts = self._first()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
            for row in texts
        )
        return f"<table><tr>{head}</tr>{rows}</table>"


def runs(
    root: str | Path = "runs", where: str = "", sort: str = "", archived: bool = False
) -> Runs:
    """Return the runs of a folder, oldest first.

    Args:
        root: the folder the runs lie in, or the one that holds its folder ``runs``.
        where: a condition, such as ``"lr < 0.01 and ending == 'completed'"``.
        sort: the name to sort by, such as ``val_loss``.
        archived: also those that were put away with ``nightbus archive``.

    Returns:
        The runs, each of which is read when it is used.

    Raises:
        RunFolderError: there is no such folder.
        UsageError: the condition is wrong, or no run has one of its names.
    """
    path = as_path(root)
    if not path.is_dir():
        raise RunFolderError(
            f"{path} is not a folder; give the folder the runs lie in, the trainer's "
            "default_root_dir/runs"
        )
    found = read_table(path)
    if not found and (path / "runs").is_dir():
        found = read_table(path / "runs")
    chosen = Runs(found if archived else [run for run in found if not run.is_archived])
    chosen = chosen.where(where) if where else chosen
    return chosen.sort(sort) if sort else chosen


def open_run(run: str | Path) -> "Run":
    """Return a run as data.

    Args:
        run: a path in or of a run, an id or its beginning, a name (``digits``, ``digits@-1``), a
            tag, or ``last``.

    Returns:
        The run.

    Raises:
        RunFolderError: there is no such run, or several.
    """
    from ..runs.find_run import find_events
    from .run import Run

    return Run(find_events(str(run)).path)


def _run_of(summary: RunSummary) -> "Run":
    from .run import Run  # takes longer to load than a table to read

    return Run(summary.path, summary)


def _lookup(run: RunSummary) -> Callable[[str], Any]:
    return lambda name: value_of(run, name)


def _cell(value: Any) -> Any:
    if isinstance(value, MetricTotal):
        return value.last
    return ", ".join(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    value = _cell(value)
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
