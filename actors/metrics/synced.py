"""SyncedMetrics: values that the ranks log, reduced over all of them."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from torch import nn

from ...bus.copies import StaysInRun
from ...bus.errors import MetricError
from ...bus.events import Scalar
from ..checkpoints.weight_names import plain_name
from ..ranks.fused_reduce import COLUMNS, FusedReduce, Share, Slot, Whole
from ..ranks.group import Group
from ..ranks.replicas import Replicas
from .log_entry import LogEntry
from .reduction import Reduction
from .values import Value, resolved, to_scalar

NO_RESULT = -2  # instead of a dataloader: for callbacks alone
_EARLY = "before backward: "  # in names of step values


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


class Synced(NamedTuple):
    """A metric of all ranks.

    Attributes:
        about: what it is.
        value: of all ranks.
        own: of this rank; None if it has logged none, or has none of its own.
    """

    about: About
    value: Scalar
    own: Scalar | None


class SyncedMetrics(StaysInRun):
    """Reduces the values that ranks log, of an epoch or of a step.

    Args:
        group: the ranks.
        module: of the run, whose torchmetrics synchronise themselves.
    """

    def __init__(self, group: Group, module: nn.Module) -> None:
        self._group, self._module = group, module
        self._of_epochs: dict[str, FusedReduce] = {}  # by stage
        self._of_steps = FusedReduce(group)
        self._steps: dict[str, tuple[LogEntry, Value, float, tuple[str, ...]]] = {}
        self._replicas: Replicas | None = None
        self._riding: dict[str, None] = {}  # names of values that ranks tell with the gradients
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
            self._of_epochs[stage] = FusedReduce(self._group)
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
            yield Synced(about, self._computed(about, entry, ranks), None)
        elif slot.how == "values":
            yield Synced(about, self._by_function(about, entry, share, ranks), None)
        else:
            own = None if mine is None else mine.result(slot.how)
            yield Synced(about, share.result(slot.how), own)

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
        return self._of_steps.row(self._shares(), self._riding) if self._riding else []

    def add_step(
        self, entry: LogEntry, value: Value, weight: float, labels: tuple[str, ...], is_early: bool
    ) -> None:
        """Keep a step's value until the step ends.

        Args:
            entry: the call site.
            value: of this rank.
            weight: its weight in a mean.
            labels: of its destinations.
            is_early: it is there before the step's backward.
        """
        key = f"{entry.hook} {entry.dataloader_idx} {entry.name}"
        self._steps[_EARLY + key if is_early else key] = entry, value, weight, labels

    def of_step(self) -> Iterator[Synced]:
        """Yield the step's values of all ranks, and those of names that are not agreed on yet."""
        shares = self._shares()
        kept, self._steps = self._steps, {}
        agrees, self._agrees = self._agrees, False
        if agrees:
            self._of_steps.agree({key: _slot_of_step(*each) for key, each in kept.items()})
        agreed = self._reduced(shares)
        if agrees and self._replicas is not None:
            self._board(self._replicas)
        for key, whole in agreed.items():
            labels = kept[key][3] if key in kept else None
            yield self._synced_step(whole, shares.get(key), labels)
        for key, each in kept.items():
            if key not in agreed:
                slot = _slot_of_step(*each)
                yield Synced(slot.about, shares[key].result(slot.how), None)

    def _shares(self) -> dict[str, Share]:
        found = {}
        for key, (entry, value, weight, _) in self._steps.items():
            number, how = float(resolved(value)), entry.how
            total = number if how in ("sum", "min", "max") else number * weight
            found[key] = Share(total, weight, [number] if how in ("min", "max") else ())
        return found

    def _reduced(self, shares: dict[str, Share]) -> dict[str, Whole]:
        """Return the values of all ranks: those that were told with the gradients, and the rest."""
        heard = None
        if self._replicas is not None and self._riding:
            heard = self._replicas.heard()
        if heard is None:
            return self._of_steps.reduce_agreed(shares, list(self._of_steps.slots))
        rest = [name for name in self._of_steps.slots if name not in self._riding]
        told = self._of_steps.wholes(shares, self._riding, heard)
        return told | self._of_steps.reduce_agreed(shares, rest)

    def _board(self, replicas: Replicas) -> None:
        """Let the values ride, from the next step on, of whose names that can be said."""
        riding = {
            name: None
            for name, slot in self._of_steps.slots.items()
            if name.startswith(_EARLY) and slot.how in ("mean", "sum")
        }
        if riding != self._riding:
            self._riding = riding
            replicas.carry(len(riding) * COLUMNS)

    def _synced_step(
        self, whole: Whole, mine: Share | None, labels: tuple[str, ...] | None
    ) -> Synced:
        how, (source, name, recorded, agreed_labels, of_loader, _) = whole.slot
        # Whether sinks get this step is the same on all ranks, and not in what was agreed on.
        labels = tuple(agreed_labels) if labels is None else labels
        own = None if mine is None else mine.result(how)
        about = About(source, name, recorded, labels, of_loader)
        return Synced(about, whole.share.result(how), own)


def _slot_of_step(entry: LogEntry, value: Value, weight: float, labels: tuple[str, ...]) -> Slot:
    how = entry.how if isinstance(entry.how, str) else "mean"
    about = About(entry.source, entry.name, entry.step_name, labels, entry.of_loader)
    return Slot(how, about)  # type: ignore[arg-type]
