"""SyncedMetrics: values that the ranks log, reduced over all of them."""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from ...bus.copies import StaysInRun
from ...bus.errors import MetricError
from ...bus.events import Scalar
from ..checkpoints.weight_names import plain_name
from ..ranks.fused_reduce import FusedReduce, Share, Slot, Whole
from ..ranks.group import Group
from ..ranks.replicas import Replicas
from .log_entry import LogEntry
from .reduction import Reduction
from .values import Value, resolved, to_scalar

NO_RESULT = -2  # instead of a dataloader: for callbacks alone
EARLY = "before backward: "  # begins names of step values that are there then
_COLUMNS = 3  # of a value that rides: total, weight, ranks that have it
_NOTHING = [0.0] * _COLUMNS

Kept = tuple[LogEntry, Value, float, tuple[str, ...]]
"""A value of this rank's step: its call site, its weight in a mean, labels of destinations."""


class About(NamedTuple):
    """What a rank that has not logged a metric has to know of it.

    Attributes:
        source: name of the module or callback that logged it.
        name: as it was logged.
        recorded: the name under which it is recorded.
        labels: of its destinations.
        of_loader: the dataloader of its values; NO_RESULT if it is no result of an evaluation.
        metric: path in the module of a torchmetrics Metric; empty for other values.
    """

    source: str
    name: str
    recorded: str
    labels: tuple[str, ...]
    of_loader: int
    metric: str = ""


Synced = tuple[About, Scalar, Scalar | None]
"""A metric of all ranks: what it is, its value, and that of this rank, if it has one of its own."""


class SyncedMetrics(StaysInRun):
    """Reduces the values that ranks log, of an epoch or of a step.

    Args:
        group: the ranks.
        module: of the run, whose torchmetrics synchronise themselves.

    Attributes:
        of_this_step: values of this rank, by the names of a LogEntry's step values.
    """

    def __init__(self, group: Group, module: nn.Module) -> None:
        self._group, self._module = group, module
        self._of_epochs: dict[str, FusedReduce] = {}  # by stage
        self._of_steps = FusedReduce(group, _name_of)
        self.of_this_step: dict[str, Kept] = {}
        self._replicas: Replicas | None = None
        self._riders: list[_Rider] = []  # values that ranks tell with the gradients
        self._rest: list[str] = []  # names of step values that do not ride
        self._agrees = True  # on names of step values, after the next batch
        self._computed_for_others: list[Any] = []  # Metrics that this rank has not logged

    # -- epochs ------------------------------------------------------------------------------

    def of_epoch(
        self, stage: str, entries: Iterable[LogEntry], others: dict[str, Reduction]
    ) -> Iterator[Synced]:
        """Yield the epoch's values of all ranks, and start over.

        Args:
            stage: whose epoch ends.
            entries: call sites that are synchronised.
            others: further reductions by name, for callbacks alone.
        """
        shares: dict[str, Share] = {}
        slots: dict[str, Slot] = {}
        by_key: dict[str, LogEntry] = {}
        for entry in entries:
            key = f"{entry.hook} {entry.dataloader_idx} {entry.name}"
            share = self._share_of(entry)
            if share is not None:
                shares[key], slots[key] = share, self._slot_of(entry)
            by_key[key] = entry
        for name, reduction in others.items():
            shares[name] = reduction.share()
            slots[name] = Slot("mean", About("module", name, name, ("callbacks",), NO_RESULT))
        if stage not in self._of_epochs:
            self._of_epochs[stage] = FusedReduce(self._group, _name_of)
        for key, whole in self._of_epochs[stage].reduce(shares, slots).items():
            yield from self._synced(whole, by_key.get(key), shares.get(key))
        self._agrees = True

    def _share_of(self, entry: LogEntry) -> Share | None:
        if entry.metric is not None:
            updates = entry.metric._update_count
            return Share() if updates and updates != entry.published_updates else None
        reduction = entry.end()
        return None if reduction is None else reduction.share()

    def _slot_of(self, entry: LogEntry) -> Slot:
        path = ""
        if entry.metric is not None:
            parts = self._module.named_modules()
            path = next((plain_name(name) for name, part in parts if part is entry.metric), "")
        about = About(
            entry.source, entry.name, entry.epoch_name, entry.to_epoch, entry.of_loader, path
        )
        if entry.metric is not None:
            return Slot("flag", about)
        return Slot(entry.how if isinstance(entry.how, str) else "values", about)  # type: ignore[arg-type]

    def _synced(self, whole: Whole, entry: LogEntry | None, mine: Share | None) -> Iterator[Synced]:
        slot, share, ranks = whole
        source, name, recorded, labels, of_loader, metric = slot.about
        about = About(source, name, recorded, tuple(labels), of_loader, metric)
        if slot.how == "flag":
            yield about, self._computed(about, entry, ranks), None
        elif slot.how == "values":
            yield about, self._by_function(about, entry, share, ranks), None
        else:
            own = None if mine is None else mine.result(slot.how)
            yield about, share.result(slot.how), own

    def _by_function(
        self, about: About, entry: LogEntry | None, share: Share, ranks: int
    ) -> Scalar:
        """Return what a function makes of all values; only ranks that logged any know it."""
        value = None
        if entry is not None and callable(entry.how):
            reduction = Reduction(entry.how)
            for each in share.values:
                reduction.add(each, 1)
            value = reduction.compute()
        if ranks == self._group.world.size and value is not None:
            return value
        of_ranks = self._group.gather(f"the value of {about.name}", value)
        found: Scalar = next(each for each in of_ranks if each is not None)
        return found

    def _computed(self, about: About, entry: LogEntry | None, ranks: int) -> Scalar:
        """Return what a Metric computes, which exchanges its states with those of other ranks.

        Raises:
            MetricError: not all ranks know it.
        """
        metric: Any = entry.metric if entry is not None else None
        if metric is None and about.metric:
            named = {plain_name(name): part for name, part in self._module.named_modules()}
            metric = named[about.metric]
            self._computed_for_others.append(metric)
        elif not about.metric and ranks < self._group.world.size:
            raise MetricError(
                f"{about.source} logs the Metric {about.name!r}, which is no attribute of the "
                f"module and was updated on {ranks} of {self._group.world.size} ranks; all ranks "
                "compute it together, so assign it to an attribute of the module, where all find it"
            )
        with warnings.catch_warnings():
            if not metric._update_count:  # torchmetrics warns of it; other ranks have updates
                warnings.simplefilter("ignore", UserWarning)
            value = resolved(to_scalar(about.name, metric.compute()))
        if entry is not None:
            entry.published_updates = metric._update_count
        return value

    def take_computed_for_others(self) -> list[Any]:
        """Return the Metrics that were computed since the last call and not logged here."""
        taken, self._computed_for_others = self._computed_for_others, []
        return taken

    # -- steps -------------------------------------------------------------------------------

    @property
    def has_steps(self) -> bool:
        """Whether there are names of step values that the ranks have agreed on."""
        return bool(self._of_steps.slots)

    def ride_with(self, replicas: Replicas) -> None:
        """Exchange values with the gradients, from the step on after their names are agreed on.

        That is for means and sums that are logged before the backward, and in float32, if the
        module is. All others take an exchange of their own.

        Args:
            replicas: what averages the gradients.
        """
        self._replicas = replicas
        replicas.numbers = self._numbers

    def _numbers(self) -> list[float]:
        """Return what is told of the present step with its gradients."""
        steps = self.of_this_step
        row: list[float] = []
        for rider in self._riders:
            kept = steps.get(rider.key)
            if kept is None:
                row += _NOTHING
                continue
            _, value, weight, _ = kept
            number = value if type(value) is float else float(resolved(value))
            row += number * weight if rider.is_mean else number, weight, 1.0
        return row

    def of_step(self) -> list[Synced]:
        """Return the step's values of all ranks, and those of names that are not agreed on yet."""
        kept, self.of_this_step = self.of_this_step, {}
        agrees, self._agrees = self._agrees, False
        if agrees:
            self._of_steps.agree({key: _slot_of_step(*each) for key, each in kept.items()})
            self._find_rest()
        heard = None
        if self._replicas is not None and self._riders:
            heard = self._replicas.heard()
        if heard is None:
            found, names = [], list(self._of_steps.slots)
        else:
            found, names = self._told(heard, kept), self._rest
        if kept or names:
            found += self._exchanged(kept, names)
        if agrees and self._replicas is not None:
            self._board(self._replicas)
        return found

    def _told(self, heard: list[float], kept: dict[str, Kept]) -> list[Synced]:
        """Return values that were told with the gradients, and take them out of those kept.

        Args:
            heard: the sums of all ranks' numbers.
            kept: this rank's values.
        """
        found = []
        columns = (heard[column::_COLUMNS] for column in range(_COLUMNS))
        for rider, value, weights, ranks in zip(self._riders, *columns, strict=True):
            if not ranks:
                continue
            own, about, is_mean = None, rider.about, rider.is_mean
            if is_mean:
                value = value / weights if weights else math.nan
            mine = kept.pop(rider.key, None)
            if mine is not None:
                entry, number, weight, labels = mine
                if entry.weighted is not is_mean:
                    self._check(rider.key, mine)
                if is_mean and not weight:
                    own = math.nan
                else:
                    own = number if type(number) is float else float(resolved(number))
                # Whether sinks get this step is the same on all ranks, and not in what was agreed.
                if labels is not about.labels:
                    about = rider.about = about._replace(labels=labels)
            found.append((about, value, own))
        return found

    def _exchanged(self, kept: Mapping[str, Kept], names: Sequence[str]) -> list[Synced]:
        """Return values that take an exchange of their own, and those that are not agreed on.

        Args:
            kept: this rank's values.
            names: what is to be exchanged.
        """
        for key, each in kept.items():
            self._check(key, each)
        shares = {key: _share_of_step(*each) for key, each in kept.items()}
        agreed = self._of_steps.reduce_agreed(shares, names)
        found = []
        for key, (slot, share, _) in agreed.items():
            about = About(*slot.about)
            labels = kept[key][3] if key in kept else tuple(about.labels)
            own = shares[key].result(slot.how) if key in kept else None
            found.append((about._replace(labels=labels), share.result(slot.how), own))
        for key, each in kept.items():
            if key not in agreed:
                slot = _slot_of_step(*each)
                found.append((slot.about, shares[key].result(slot.how), None))
        return found

    def _check(self, key: str, kept: Kept) -> None:
        self._of_steps.check(key, _slot_of_step(*kept), self._group.world.rank)

    def _board(self, replicas: Replicas) -> None:
        """Let the values ride, from the next step on, of whose names that can be said."""
        riders = [
            _Rider(name, slot)
            for name, slot in self._of_steps.slots.items()
            if name.startswith(EARLY) and slot.how in ("mean", "sum")
        ]
        if [rider.key for rider in riders] != [rider.key for rider in self._riders]:
            self._riders = riders
            self._find_rest()
            replicas.carry(len(riders) * _COLUMNS)

    def _find_rest(self) -> None:
        riding = {rider.key for rider in self._riders}
        self._rest = [name for name in self._of_steps.slots if name not in riding]


class _Rider:
    """A value that ranks tell with the gradients.

    Args:
        key: the name that was agreed on.
        slot: what was.

    Attributes:
        is_mean: it is weighted; otherwise a sum.
        about: what it is, with the labels that it had here last.
    """

    __slots__ = ("about", "is_mean", "key")

    def __init__(self, key: str, slot: Slot) -> None:
        self.key, self.is_mean = key, slot.how == "mean"
        about = About(*slot.about)
        self.about = about._replace(labels=tuple(about.labels))


def _name_of(about: Sequence[Any]) -> str:
    return About(*about).name


def _share_of_step(entry: LogEntry, value: Value, weight: float, labels: tuple[str, ...]) -> Share:
    number, how = float(resolved(value)), entry.how
    total = number if how in ("sum", "min", "max") else number * weight
    return Share(total, weight, [number] if how in ("min", "max") else ())


def _slot_of_step(entry: LogEntry, value: Value, weight: float, labels: tuple[str, ...]) -> Slot:
    how = entry.how if isinstance(entry.how, str) else "mean"
    about = About(entry.source, entry.name, entry.step_name, labels, entry.of_loader)
    return Slot(how, about)  # type: ignore[arg-type]
