"""Values of many runs by name: they colour runs, group them, and are plotted against others."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ...bus.library.names import sort_key, value_of
from ...bus.library.table import Runs
from ...bus.runs.run_summary import RunSummary
from .plain_values import plain
from .shelf import Table, key_of

MAX_RUNS = 10_000
MAX_GROUPS = 1_000
MAX_NAMES = 100  # of one question


def columns_answer(
    table: Table, names: Sequence[str], where: str = "", keys: Iterable[str] = ()
) -> dict[str, Any]:
    """Return values of runs, the newest first: a list a name, as long as the list of keys.

    Args:
        table: the runs.
        names: what is asked for; a run that has no such value has None.
        where: a condition, for a part of the runs.
        keys: of runs that are answered whether the condition holds or not.

    Raises:
        UsageError: the condition is wrong, or no run has a value of one of its names.
    """
    chosen = table.runs.where(where) if where else table.runs
    newest = chosen.summaries[::-1]
    runs = {key_of(run): run for run in newest[:MAX_RUNS]}
    runs |= {key: run for key in keys if (run := table.by_key.get(key)) is not None}
    return {
        "found": len(newest),
        "keys": list(runs),
        "ids": [plain(run.id) for run in runs.values()],
        "columns": [[plain(value_of(run, name)) for run in runs.values()] for name in names],
    }


def grouped(runs: Runs, name: str) -> tuple[Runs, list[list[RunSummary]]]:
    """Return runs with those of one value together, and the groups; within, the order stays.

    Args:
        runs: the runs, in their order.
        name: what they have in common.
    """
    groups: dict[str, tuple[Any, list[RunSummary]]] = {}
    for run in runs.summaries:
        value = value_of(run, name)
        key = repr(plain(value))
        groups.setdefault(key, (sort_key(value), []))[1].append(run)
    ordered = [members for _, members in sorted(groups.values(), key=lambda each: each[0])]
    return Runs([run for members in ordered for run in members]), ordered


def groups_answer(
    groups: Sequence[Sequence[RunSummary]], name: str, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Return of each group its value, number of runs, and the means of columns.

    Args:
        groups: the runs of each; the first MAX_GROUPS are answered.
        name: what the runs of a group have in common.
        columns: names of columns; the mean of one that holds no numbers is None.
    """
    return [
        {
            "value": plain(value_of(members[0], name)),
            "count": len(members),
            "means": [_mean([value_of(run, column) for run in members]) for column in columns],
        }
        for members in groups[:MAX_GROUPS]
    ]


def _mean(values: list[Any]) -> float | None:
    numbers = [
        float(value)
        for value in values
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ]
    return math.fsum(numbers) / len(numbers) if numbers else None
