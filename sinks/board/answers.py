"""What the board says of runs: plain data, which JSON can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...bus.errors import LogError, RunFolderError, UsageError
from ...bus.inspection.report import RunReport, summarise
from ...bus.library.names import FIELDS, metric_columns, value_of
from ...bus.library.table import Runs
from ...bus.runs.run_folder import RunFolder
from ...bus.runs.run_summary import RunSummary
from .columns import grouped, groups_answer
from .plain_values import plain
from .series_cache import RunSeries
from .shelf import Table, key_of

MAX_ROWS = 500  # of one answer
MAX_NAMES = 500  # of a kind
MAX_REASON = 300  # characters of why a run ended, in the table
_COLUMNS = ("steps", "epochs", "created", "duration")
_HPARAMS, _METRICS = 6, 4  # that are shown if nothing else is asked for


def table_answer(
    table: Table,
    where: str = "",
    sort: str = "",
    is_reversed: bool = False,
    columns: Sequence[str] = (),
    rows: range = range(MAX_ROWS),
    group: str = "",
) -> dict[str, Any]:
    """Return a part of the table of runs.

    Args:
        table: the runs.
        where: a condition, for a part of them.
        sort: the name of a column; the newest first if empty.
        is_reversed: the other way round.
        columns: names of what is shown; a choice if empty.
        rows: which ones.
        group: a name; runs with one value of it are answered together.

    Returns:
        The part. Where no run of it has a value of ``sort`` or ``group``, ``unknown`` says so, and
        the newest are first, or all are one group.

    Raises:
        UsageError: the condition is wrong, or no run has a value of one of its names.
    """
    chosen = table.runs.where(where) if where else table.runs
    no_order, no_groups = _why_unknown(chosen, sort), _why_unknown(chosen, group)
    if sort and not no_order:
        chosen = chosen.sort(sort, is_reversed)
    elif sort or not is_reversed:
        chosen = chosen[::-1]
    names = list(columns) or _default_columns(chosen)
    groups: list[list[RunSummary]] = []
    if group:
        chosen, groups = grouped(chosen, group)
    part = chosen.summaries[rows.start : min(rows.stop, rows.start + MAX_ROWS)]
    return {
        "number": table.number,
        "all": len(table.runs),
        "found": len(chosen),
        "first": rows.start,
        "columns": [plain(name) for name in names],
        "rows": [_row(run, names) for run in part],
        "groups": groups_answer(groups, group, names),
        "unknown": plain(no_groups or no_order),
    }


def _why_unknown(runs: Runs, name: str) -> str:
    """Return why nothing can be ordered by a name: no run has it; empty if some have."""
    try:
        runs.refuse_unknown([name] if name else [])
    except UsageError as error:
        return str(error)
    return ""


def _default_columns(runs: Runs) -> list[str]:
    metrics = dict.fromkeys(name for run in runs.summaries for name in list(run.metrics)[:_METRICS])
    chosen = metric_columns(runs.summaries, list(metrics)[:_METRICS])
    return [*runs.varied_hparams()[:_HPARAMS], *chosen, *_COLUMNS]


def _row(run: RunSummary, names: Sequence[str]) -> dict[str, Any]:
    return {
        "key": key_of(run),
        "id": plain(run.id),
        "name": plain(run.name),
        "ending": run.ending,
        "problem": plain(run.problem),
        "reason": plain(run.reason[:MAX_REASON]),
        "cells": [plain(value_of(run, name)) for name in names],
    }


def names_answer(table: Table) -> dict[str, list[str]]:
    """Return of what there can be columns, by kind; what is taken has its kind in front.

    Args:
        table: the runs.
    """
    kinds = ("hparams", "metrics", "config", "environment", "versions")
    names: dict[str, dict[str, None]] = {kind: {} for kind in kinds}
    for run in table.runs.summaries:
        said = run.said
        its: tuple[Mapping[str, Any], ...] = (
            run.hparams,
            run.metrics,
            said.config,
            said.environment,
            said.versions,
        )
        for known, mapping in zip(names.values(), its, strict=True):
            if len(known) < MAX_NAMES and not mapping.keys() <= known.keys():
                known |= dict.fromkeys(mapping)
    taken = set(FIELDS)
    found: dict[str, list[str]] = {}
    for kind, of_kind in names.items():
        shown = list(of_kind)[:MAX_NAMES]
        found[kind] = [plain(f"{kind}.{name}" if name in taken else name) for name in shown]
        taken |= of_kind.keys()
    return {"fields": list(FIELDS), **found}


def metrics_answer(runs: Sequence[RunSummary]) -> dict[str, int]:
    """Return the metrics of runs, and how many values they have together.

    Args:
        runs: the runs.
    """
    found: dict[str, int] = {}
    for run in runs:
        for name, total in run.metrics.items():
            found[plain(name)] = found.get(plain(name), 0) + total.count
    return found


def run_answer(run: RunSummary, folder: RunFolder, series: RunSeries) -> dict[str, Any]:
    """Return one run: what it said of itself, its attempts, checkpoints, hooks and faults.

    Args:
        run: the run in short.
        folder: its folder.
        series: what was read of its log.

    Raises:
        LogError: its log is not one, or from a newer version.
        RunFolderError: it cannot be read.
    """
    report = summarise(folder)
    marked = ("id", "name", "tags", "notes", "group", "parent")
    fields = ("ending", "reason", "duration_s", "epochs", "steps", "size_bytes", "is_archived")
    return {
        "key": key_of(run),
        "created_s": run.created_ns / 1e9,
        **{name: plain(getattr(run, name)) for name in marked},
        **{name: plain(getattr(run, name)) for name in fields},
        **{name: plain(getattr(report, name)) for name in ("path", "argv", "hparams", "config")},
        "environment": plain(report.environment),
        "versions": plain(report.versions),
        **_recorded(report),
        "checkpoints": [_checkpoint(folder, saved) for saved in series.checkpoints],
        "are_all_checkpoints": series.is_read,
    }


def _recorded(report: RunReport) -> dict[str, Any]:
    return {
        "attempts": [
            {
                "attempt": each.attempt,
                "fn": plain(each.fn),
                "started_s": None if each.started_ns is None else each.started_ns / 1e9,
                "duration_s": each.duration_s,
                "how": each.how,
                "reason": plain(each.reason),
                "epochs": plain(each.epochs),
                "steps": plain(each.steps),
                "events": plain(sum(each.events.values())),
                "ranks": each.ranks.world_size,
                "resumed_from": plain(each.fork.checkpoint) if each.fork else "",
                "damage": plain(each.damage),
            }
            for each in report.attempts
        ],
        "hooks": [
            {
                "name": plain(name),
                "count": plain(hook.count),
                "total_s": hook.total_ns / 1e9,
                "mean_s": hook.mean_ns / 1e9,
            }
            for name, hook in report.hooks.items()
        ],
        "metrics": [
            {"name": plain(name), **plain(msgspec.structs.asdict(metric))}
            for name, metric in report.metrics.items()
        ],
        "faults": [plain(msgspec.structs.asdict(fault)) for fault in report.faults],
    }


def _checkpoint(folder: RunFolder, saved: Any) -> dict[str, Any]:
    return {
        "path": plain(saved.path),
        "epoch": plain(saved.epoch),
        "step": plain(saved.step),
        "size_bytes": plain(saved.size_bytes),
        "is_there": _is_there(folder, saved.path),
    }


def _is_there(folder: RunFolder, path: str) -> bool:
    """Return whether a checkpoint exists; a path that leads out of the run is not looked at."""
    try:
        inside = (folder.path / path).resolve()
        return inside.is_relative_to(folder.path.resolve()) and inside.exists()
    except (OSError, ValueError):
        return False


def open_folder(run: RunSummary) -> RunFolder:
    """Return the folder of a run.

    Args:
        run: the run in short.

    Raises:
        RunFolderError: it cannot be read; the message says why.
    """
    if run.problem and not run.attempts:
        raise RunFolderError(run.problem)
    return RunFolder.open(run.path)


UNREADABLE = (LogError, RunFolderError, OSError)
"""What reading a run raises that is not as it should be."""
