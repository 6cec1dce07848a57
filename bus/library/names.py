"""What the names in conditions, in columns and in the order of a table mean for a run."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..log.summary import MetricTotal
from ..runs.run_summary import RunSummary

FIELDS: dict[str, Callable[[RunSummary], Any]] = {
    "id": lambda run: run.id,
    "name": lambda run: run.name,
    "path": lambda run: run.path,
    "created": lambda run: run.created_ns / 1e9,
    "duration": lambda run: run.duration_s,
    "ending": lambda run: run.ending,
    "reason": lambda run: run.reason,
    "running": lambda run: run.is_running,
    "attempts": lambda run: run.attempts,
    "fn": lambda run: run.fn,
    "epochs": lambda run: run.epochs,
    "steps": lambda run: run.steps,
    "size": lambda run: run.size_bytes,
    "faults": lambda run: run.faults,
    "tags": lambda run: run.tags,
    "notes": lambda run: run.notes,
    "group": lambda run: run.group,
    "parent": lambda run: run.parent,
    "archived": lambda run: run.is_archived,
}
"""Names of what every run has: times in seconds, ``created`` since 1970, sizes in bytes."""

_MAPPINGS = ("hparams", "config", "environment", "versions")
_METRICS = "metrics"
_ASPECTS: dict[str, Callable[[MetricTotal], Any]] = {
    "last": lambda total: total.last,
    "min": lambda total: total.low if math.isfinite(total.low) else None,
    "max": lambda total: total.high if math.isfinite(total.high) else None,
    "count": lambda total: total.count,
}


def value_of(run: RunSummary, name: str) -> Any:
    """Return what a name means for a run; None if it has nothing of that name.

    A name is looked up among the fields of every run, then the hyperparameters, the metrics, the
    Trainer's changed arguments, the environment and the versions. ``hparams.name`` and the like
    mean one of them only. A metric's name means its last value, ``val_loss.min`` its smallest;
    ``.max`` and ``.count`` likewise.

    Args:
        run: the run.
        name: the name.
    """
    if (field := FIELDS.get(name)) is not None:
        return field(run)
    head, _, rest = name.partition(".")
    if rest and head in _MAPPINGS:
        return getattr(run, head).get(rest)
    if rest and head == _METRICS:
        return metric_value(run.metrics, rest)
    if name in run.hparams:
        return run.hparams[name]
    if (value := metric_value(run.metrics, name)) is not None:
        return value
    if not run.may_say(name):
        return None
    said = run.said
    for mapping in (said.config, said.environment):
        if name in mapping:
            return mapping[name]
    return said.versions.get(name)


def metric_value(metrics: Mapping[str, MetricTotal], name: str) -> Any:
    """Return what a name means for metrics: the last value of one, or its smallest with ``.min``.

    Args:
        metrics: by name.
        name: of a metric; ``.last``, ``.max`` and ``.count`` may follow, too.

    Returns:
        None if there is no such metric, or nothing finite of it.
    """
    if (total := metrics.get(name)) is not None:
        return total.last
    name, _, aspect = name.rpartition(".")
    total = metrics.get(name)
    return None if total is None or aspect not in _ASPECTS else _ASPECTS[aspect](total)


def hparam_columns(names: Iterable[str]) -> list[str]:
    """Return the names by which ``value_of`` knows hyperparameters.

    Args:
        names: of hyperparameters. One that is called like a field is ``hparams.group``.
    """
    return [f"hparams.{name}" if name in FIELDS else name for name in names]


def metric_columns(runs: Iterable[RunSummary], names: Iterable[str]) -> list[str]:
    """Return the names by which ``value_of`` knows metrics.

    Args:
        runs: the runs.
        names: of metrics. One that is called like a field, or a hyperparameter of one of the runs,
            is ``metrics.lr``.
    """
    taken = FIELDS.keys() | {name for run in runs for name in run.hparams}
    return [f"{_METRICS}.{name}" if name in taken else name for name in names]


def known_names(runs: Iterable[RunSummary]) -> list[str]:
    """Return the names that some of the runs have a value of.

    Args:
        runs: the runs.
    """
    names: dict[str, None] = dict.fromkeys(FIELDS)
    for run in runs:
        for mapping in (run.hparams, run.config, run.metrics, run.environment, run.versions):
            names |= dict.fromkeys(mapping)
    return list(names)


def sort_key(value: Any) -> tuple[int, Any]:
    """Return a key by which values of any types have an order; what is missing comes last.

    Args:
        value: of a run.
    """
    if value is None or value != value:
        return 2, 0
    if isinstance(value, int | float):
        return 0, value
    return 1, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
