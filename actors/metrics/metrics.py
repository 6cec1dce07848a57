"""Metrics: records what is put, and aggregates what is logged."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from ...bus.bus import Bus
from ...bus.errors import CheckpointError, MetricError
from ...bus.events import Scalar
from ...bus.system.logging_setup import get_logger
from ..checkpoints.weight_names import plain_name, plain_names, wrapped_by
from ..data.batch_size import sizes_of
from ..logging_mixin import ReduceFx
from ..ranks.group import AloneGroup, Group
from ..ranks.replicas import Replicas
from .log_entry import (
    ALL_LOADERS,
    EVALUATION_STEP,
    LOG_RULES,
    OF_EPOCH,
    LogEntry,
    LogOptions,
    clash,
    differ,
)
from .monitors import Monitors
from .puts import NO_STEP, Puts
from .reduction import Reduction
from .results import Logged, Result
from .synced import EARLY, NO_RESULT, Synced, SyncedMetrics
from .values import MAX_NAME_CHARS, Value, as_tensors, is_name, resolved, to_scalar

if TYPE_CHECKING:
    from torchmetrics import MetricCollection

_BATCH_END = ("on_train_batch_end", "on_batch_end")
_EARLY = ("on_batch_start", "on_train_batch_start", "training_step")  # before backward
_NO_BATCH = object()
_log = get_logger("nightbus.metrics")


class _Collection(NamedTuple):
    """One call site of ``log_dict`` with a MetricCollection."""

    collection: "MetricCollection"
    stage: str
    options: dict[str, Any]
    entries: list[LogEntry]


class Metrics(Puts):
    """The metrics of a trainer: what is put, and what is logged, which is reduced over epochs.

    Args:
        bus: the bus of the run.
        log_every_n_steps: steps between two step values for sinks.
        max_media_bytes: maximum size of an encoded image, text or the like.
    """

    def __init__(self, bus: Bus, log_every_n_steps: int, max_media_bytes: int) -> None:
        super().__init__(bus, log_every_n_steps, max_media_bytes)
        self.num_dataloaders = 1
        self._module = nn.Module()  # the module of the run
        self.batch: Any = None  # of the current step
        self._batch_size = 1  # of the batch in _sized
        self._sized: Any = _NO_BATCH
        self._warned_sizes = False
        self._entries: dict[tuple[str, str, int], LogEntry] = {}
        # Reductions from a checkpoint whose function is not known yet.
        self._to_be_taken_up: dict[tuple[str, str, int], Reduction] = {}
        self._collections: dict[tuple[str, int, int], _Collection] = {}
        self._monitors = Monitors()
        self.group: Group = AloneGroup()
        self._synced: SyncedMetrics | None = None

    # -- what is known of them ---------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Latest value of each metric for callbacks, as float64 tensors of shape ().

        In a hook at the start or end of an epoch, that includes what was logged in it so far, which
        is recorded when the hook has ended.
        """
        so_far = {
            name: value
            for entry, value in self._logged_in_this_hook()
            for name in (entry.name, entry.epoch_name)
        }
        return as_tensors({**self._callback, **so_far})

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """Latest value of each metric for sinks, as float64 tensors of shape ().

        That includes those of steps that sinks did not get, because of ``log_every_n_steps``, and
        what ``callback_metrics`` includes.
        """
        thinned = {
            entry.step_name: self._callback[entry.step_name]
            for entry in list(self._entries.values())
            if entry.on_step and "loggers" in entry.to_step and entry.step_name in self._callback
        }
        so_far = {
            entry.epoch_name: value
            for entry, value in self._logged_in_this_hook()
            if "loggers" in entry.to_epoch
        }
        return as_tensors({**self._logged, **thinned, **so_far})

    def _logged_in_this_hook(self) -> Iterator[tuple[LogEntry, Value]]:
        """Yield what was logged in a hook of an epoch that goes on, and its values so far.

        Those of all ranks are not known before the hook has ended on each, and are left out.
        """
        place = self.bus.place
        if LOG_RULES.get(place.hook) is not OF_EPOCH or not self.bus.admission.is_training_thread:
            return
        for entry in list(self._entries.values()):
            if entry.hook != place.hook or entry.stage != place.stage or entry.syncs_epoch:
                continue
            if entry.metric is not None and entry.metric._update_count:
                yield entry, to_scalar(entry.name, entry.metric.compute())
            elif (reduction := entry.reduction) is not None:
                yield entry, reduction.compute()

    @property
    def shown_within_epochs(self) -> set[str]:
        """Names in the progress bar that get values within epochs, or will once ranks reduce."""
        entries = list(self._entries.values())
        of_epochs = {entry.epoch_name for entry in entries if not entry.on_step}
        soon = {e.step_name for e in entries if e.on_step and "progress_bar" in e.to_step}
        return (set(self._progress_bar) - of_epochs) | soon

    def is_of_validation(self, name: str) -> bool:
        """Return whether a metric was logged in validation."""
        return any(
            entry.stage == "validate" and (name == entry.name or name in entry.recorded_names)
            for entry in list(self._entries.values())
        )

    # -- log ---------------------------------------------------------------------------------

    def log(
        self,
        source: str,
        name: str,
        value: Any,
        prog_bar: bool,
        logger: bool,
        on_step: bool | None,
        on_epoch: bool | None,
        reduce_fx: ReduceFx,
        add_dataloader_idx: bool,
        batch_size: int | None,
        sync_dist: bool | None = None,
    ) -> None:
        """Aggregate and record a metric; see ``LoggingMixin.log``.

        Args:
            source: the name of the module or callback.
            name: the metric.
            value: a number, a one-element tensor or a torchmetrics Metric.
            prog_bar: show it in the progress bar.
            logger: pass it to sinks.
            on_step: record each value.
            on_epoch: record the epoch's reduction.
            reduce_fx: how an epoch's values are reduced.
            add_dataloader_idx: append the number of the dataloader, if there are several.
            batch_size: weight for the mean; that of the batch if None.
            sync_dist: reduce over ranks; None does that for the epoch's value only.
        """
        place = self.bus.place
        options = (prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx)
        entry = self._entries.get((place.hook, name, place.dataloader_idx))
        if entry is None or entry.stage != place.stage or entry.is_restored:
            entry = self._register(source, name, value, options, entry)
            self._choose_syncing(entry, sync_dist)
        if entry.source != source or (entry.options != options and differ(entry.options, options)):
            raise clash(entry, source, options)
        if entry.metric is not None:
            self._log_metric(source, entry, value)
            return
        scalar = to_scalar(name, value)
        if entry.on_step:
            if entry.syncs_step:
                self._keep_for_ranks(entry, scalar, batch_size, is_early=entry.hook in _EARLY)
            else:
                self._record_step(source, entry, scalar)
        if entry.on_epoch:
            reduction = entry.reduction or entry.begin()
            if not entry.weighted or place.batch_idx < 0:
                reduction.add(scalar, 1)
            elif batch_size is not None:
                reduction.add(scalar, batch_size)
            elif self._sized is self.batch:
                reduction.add(scalar, self._batch_size)
            else:
                reduction.add(scalar, self._size_of_batch())

    def _choose_syncing(self, entry: LogEntry, sync_dist: bool | None) -> None:
        """Determine which values of a call site are those of all ranks."""
        if self._synced is not None:
            entry.syncs_epoch = sync_dist is not False
            # Evaluations may have another number of batches on each rank; and what is logged at
            # the end of a batch comes after all ranks have reduced their values.
            is_in_time = entry.stage == "train" and entry.hook not in _BATCH_END
            entry.syncs_step = bool(sync_dist) and is_in_time and entry.metric is None
            entry.step_key = f"{entry.hook} {entry.dataloader_idx} {entry.name}"
            entry.early_key = EARLY + entry.step_key

    def _keep_for_ranks(
        self, entry: LogEntry, scalar: Value, batch_size: int | None, is_early: bool = False
    ) -> None:
        """Keep a step's value until all ranks reduce theirs; early ones are there for backward."""
        assert self._synced is not None
        is_due = self.is_due if self.step == NO_STEP else self._is_due
        labels = entry.to_step if is_due else entry.to_step_thinned
        size = batch_size
        if size is None:
            size = self._batch_size if self._sized is self.batch else self._size_of_batch()
        key = entry.early_key if is_early else entry.step_key
        self._synced.of_this_step[key] = entry, scalar, float(size), labels

    def ride_with(self, replicas: Replicas) -> None:
        """Have the ranks exchange values of steps with the gradients, where that can be.

        Args:
            replicas: what averages the gradients.
        """
        if self._synced is not None and replicas.carries:
            self._synced.ride_with(replicas)

    def sync_step(self) -> None:
        """Record the step's values of all ranks; called on all of them at the end of a batch."""
        if self._synced is not None:
            is_recorded = self.muted or self.group.world.is_global_zero
            for synced in self._synced.of_step():
                self._record_synced(synced, is_recorded)

    @property
    def has_steps_of_ranks(self) -> bool:
        """Whether the ranks reduce some value of each step; the same on all."""
        return self._synced is not None and self._synced.has_steps

    def _record_synced(self, synced: Synced, is_recorded: bool) -> None:
        """Record a value of all ranks: in the log of rank 0; others record what was their own."""
        (source, name, recorded, labels, _, _), value, own = synced
        if is_recorded:
            self._record(source, recorded, value, labels)
        else:
            if own is not None:
                self._record(source, recorded, own, ("rank",))
            self._keep_latest(recorded, value, labels)
        if recorded != name and (self._set_aside is not None or not self.muted):
            self._callback[name] = value

    def _record_step(self, source: str, entry: LogEntry, scalar: Value) -> None:
        is_due = self.is_due if self.step == NO_STEP else self._is_due
        labels = entry.to_step if is_due else entry.to_step_thinned
        self._record(source, entry.step_name, scalar, labels)
        if entry.step_name is not entry.name and entry.stage == "train" and not self.muted:
            self._callback[entry.name] = scalar

    @property
    def thinned(self) -> list[str]:
        """Return names of step values that sinks get only every ``log_every_n_steps`` steps.

        Only those are included of whose epochs sinks get nothing.
        """
        return [
            entry.name
            for entry in list(self._entries.values())
            if entry.on_step and not entry.on_epoch and entry.to_step != entry.to_step_thinned
        ]

    def log_known_collection(
        self, collection: "MetricCollection", options: Mapping[str, Any]
    ) -> bool:
        """Log a MetricCollection, if this call site logged it before.

        Iterating over a collection costs more than updating it, so that is done once.

        Args:
            collection: the collection.
            options: of ``log``.

        Returns:
            Whether it was logged.
        """
        place = self.bus.place
        known = self._collections.get((place.hook, id(collection), place.dataloader_idx))
        if known is None or known.stage != place.stage or known.options != options:
            return False
        for entry in known.entries:
            if entry.on_step:
                self._log_metric(entry.source, entry, entry.metric)
        return True

    def remember_collection(
        self, collection: "MetricCollection", options: Mapping[str, Any], names: Iterable[str]
    ) -> None:
        """Recognise a collection next time, after its metrics were logged.

        Args:
            collection: the collection.
            options: of ``log``.
            names: names under which its metrics were logged.
        """
        place = self.bus.place
        entries = [self._entries[place.hook, name, place.dataloader_idx] for name in names]
        known = _Collection(collection, place.stage, dict(options), entries)
        self._collections[place.hook, id(collection), place.dataloader_idx] = known

    def _log_metric(self, source: str, entry: LogEntry, metric: Any) -> None:
        if metric is not entry.metric and wrapped_by(metric) is not entry.metric:
            raise MetricError(
                f"{entry.name!r} was logged as a Metric before, and now as another "
                f"{type(metric).__name__}; make the Metric once, in the module's __init__, and log "
                "that"
            )
        if entry.on_step and metric._forward_cache is not None:
            self._record_step(source, entry, to_scalar(entry.name, metric._forward_cache))

    def _register(
        self, source: str, name: str, value: Any, options: LogOptions, before: LogEntry | None
    ) -> LogEntry:
        """Add a call site.

        Args:
            source: the name of the module or callback.
            name: the metric.
            value: the logged value.
            options: the options of the call.
            before: what was known of the call site.
        """
        place = self.bus.place
        key = (place.hook, name, place.dataloader_idx)
        if not is_name(name):
            raise MetricError(
                f"log({str(name)[:80]!r}): a metric's name is a string of 1 to {MAX_NAME_CHARS} "
                "characters"
            )
        rule = LOG_RULES.get(place.hook)
        if rule is None:
            self.bus.check_is_here(f"log({name!r}) was called")
            if not self.bus.is_open:
                raise self.bus.admission.why_refused(f"log({name!r}) was called")
            where = f"in {place.hook}" if place.hook else "outside a hook"
            raise MetricError(
                f"log({name!r}) was called {where}, where there is no step or epoch to log for; "
                "use put(), which works everywhere in a run"
            )
        if rule[0] is None and options[2]:
            raise MetricError(
                f"log({name!r}, on_step=True) was called in {place.hook}, where there is no step; "
                "leave on_step out, or use put()"
            )
        suffix = ""
        if self.num_dataloaders > 1 and options[5] and rule is EVALUATION_STEP:
            suffix = f"/dataloader_idx_{place.dataloader_idx}"
        entry = LogEntry(name, options, place.stage, place.hook, source, suffix)
        if not entry.on_step and not entry.on_epoch:
            raise MetricError(
                f"log({name!r}, on_step=False, on_epoch=False) in {place.hook} would record nothing"
            )
        entry.dataloader_idx = place.dataloader_idx
        value = wrapped_by(value)
        if _is_torchmetrics_metric(value):
            self._check_is_attribute(source, name, value)
            self._check_exchanges(name, value)
            entry.metric = value
        self._take_up(key, entry)
        if (reduction := self._to_be_taken_up.get(key)) is not None:
            reduction.reduce_with(entry.how)
            entry.reduction = reduction
        self._check_recorded_names(name, entry)
        entries = self._entries
        # A signal handler that logs the same meanwhile comes first; none can run within the
        # assignment, which has no call.
        entries[key] = entries[key] if key in entries and entries[key] is not before else entry
        self._to_be_taken_up.pop(key, None)
        return entries[key]

    def _check_is_attribute(self, source: str, name: str, metric: Any) -> None:
        if source == "module" and all(metric is not part for part in self._module.modules()):
            raise MetricError(
                f"log({name!r}) got a {type(metric).__name__} that is not an attribute of the "
                "module, so it would not be moved to the device with it; assign it to self in "
                "the module's __init__"
            )

    def _check_exchanges(self, name: str, metric: Any) -> None:
        evaluates = LOG_RULES[self.bus.place.hook] is EVALUATION_STEP
        if self._synced is not None and evaluates and metric.dist_sync_on_step:
            raise MetricError(
                f"log({name!r}) got a {type(metric).__name__} with dist_sync_on_step=True, so "
                "that ranks wait for each other in each batch, of which they may have different "
                "numbers in evaluation; leave it out: the epoch's value is that of all ranks"
            )

    def _check_recorded_names(self, name: str, entry: LogEntry) -> None:
        for other in list(self._entries.values()):
            both = other.recorded_names & entry.recorded_names
            if both and other.name != entry.name and other.stage == entry.stage:
                raise MetricError(
                    f"{name!r} would be recorded as {', '.join(sorted(both))}, and so would "
                    f"{other.name!r} from {other.hook}; choose another name"
                )

    def _take_up(self, key: tuple[str, str, int], entry: LogEntry) -> None:
        """Continue with what a checkpoint had for this call site."""
        restored = self._entries.get(key)
        if restored is not None and restored.is_restored and restored.stage == entry.stage:
            entry.reduction = restored.reduction

    # -- results -----------------------------------------------------------------------------

    def log_result(self, result: Result, hook: str, keeps: bool) -> None:
        """Log the metrics of a step's result.

        Args:
            result: of one batch.
            hook: the step it was returned from.
            keeps: results are kept until the epoch ends, so that ``log_collected`` logs the epoch's
                values.
        """
        size = self._batch_size if self._sized is self.batch else self._size_of_batch()
        result.set_size(size)
        for name, value, options in result.logged():
            entry = self._result_entry(hook, name, options)
            scalar = to_scalar(name, value)
            if entry.on_step and entry.syncs_step:
                self._keep_for_ranks(entry, scalar, size)
            elif entry.on_step:
                self._record_step(entry.source, entry, scalar)
            if entry.on_epoch and not keeps:
                reduction = entry.reduction or entry.begin()
                reduction.add(scalar, size if entry.weighted else 1)
        self._monitors.add(self.bus.place.stage, result, size)

    def _result_entry(self, hook: str, name: str, options: Logged) -> LogEntry:
        place = self.bus.place
        key = (hook, name, place.dataloader_idx)
        entry = self._entries.get(key)
        if entry is None or entry.stage != place.stage or entry.is_restored:
            self._check_name(name)
            by_option = (
                options.prog_bar,
                options.logger,
                options.on_step,
                options.on_epoch,
                options.reduce_fx,
                True,
            )
            shown = name
            if self.num_dataloaders > 1 and LOG_RULES[hook] is EVALUATION_STEP:
                shown = f"{name}/dataloader_idx_{place.dataloader_idx}"
            entry = LogEntry(shown, by_option, place.stage, hook, "module")
            if entry.on_step and entry.on_epoch:
                entry.step_name, entry.epoch_name = f"step_{shown}", f"epoch_{shown}"
            entry.dataloader_idx = place.dataloader_idx
            self._choose_syncing(entry, options.sync_dist or None)
            self._take_up(key, entry)
            self._entries[key] = entry
        return entry

    def log_collected(self, result: Result, hook: str) -> dict[str, Scalar]:
        """Log an epoch's results after ``*_epoch_end``.

        Args:
            result: the epoch's, or one that ``*_epoch_end`` made.
            hook: the step that the results were returned from.

        Returns:
            Name -> value.
        """
        published: dict[str, Scalar] = {}
        for name, value, options in result.reduced():
            entry = self._result_entry(hook, name, options)
            scalar = resolved(to_scalar(name, value))
            if entry.syncs_epoch:  # with the next values of the epoch that are recorded
                (entry.reduction or entry.begin()).add(scalar, 1)
                continue
            self._record(entry.source, entry.epoch_name, scalar, entry.to_epoch)
            published[entry.epoch_name] = scalar
        self._monitors.add(self.bus.place.stage, result, 1)
        return published

    def log_dicts(self, output: Mapping[str, Any], is_epoch_end: bool) -> None:
        """Log the ``log`` and ``progress_bar`` entries of a returned dict, the form before results.

        Args:
            output: the dict.
            is_epoch_end: the values are the epoch's; otherwise the step's.
        """
        for key, labels in (("log", ("callbacks", "loggers")), ("progress_bar", ("progress_bar",))):
            values = output.get(key)
            if isinstance(values, Mapping):
                for name, value in values.items():
                    self.put("module", name, value, labels)
        if is_epoch_end:
            for name, value in output.items():
                is_number = isinstance(value, int | float)
                if is_number or (isinstance(value, Tensor) and value.numel() == 1):
                    self.put("module", name, value, ("callbacks",))

    def log_epoch_end(self, returned: Any, outputs: Any, step: str) -> dict[int, dict[str, Scalar]]:
        """Log an epoch's results.

        Args:
            returned: returned by ``*_epoch_end``: a result, several, or a dict in the older style.
            outputs: the argument of ``*_epoch_end``, which is logged if it returned nothing.
            step: the step whose outputs they are.

        Returns:
            Values by dataloader index and metric name; those of all loaders by ``ALL_LOADERS``.
        """
        if isinstance(returned, Mapping):
            self.log_dicts(returned, is_epoch_end=True)
        results = outputs if returned is None else returned
        published: dict[int, dict[str, Scalar]] = {}
        for idx, result in enumerate(results if isinstance(results, list) else [results]):
            if isinstance(result, Result):
                self.bus.place.move(dataloader_idx=idx if step != "training_step" else None)
                of_loader = idx if isinstance(results, list) else ALL_LOADERS
                published[of_loader] = self.log_collected(result, step)
        self.bus.place.move(dataloader_idx=0)
        return published

    def _size_of_batch(self) -> int:
        """Return the number of the batch's samples, computed once a batch."""
        sizes = sizes_of(self.batch)
        self._batch_size = sizes[0] if sizes else 1
        self._sized = self.batch  # last, for a signal handler that logs
        if self._warned_sizes:
            return self._batch_size
        if len(set(sizes)) > 1:
            self._warned_sizes = True
            _log.warning(
                "the parts of a batch differ in size; epoch means are weighted with the first "
                "one's: use log(batch_size=...) to choose",
                sizes=sorted(set(sizes)),
                taken=sizes[0],
            )
        elif not sizes and not isinstance(self.batch, Tensor | int | float | NoneType):
            self._warned_sizes = True
            _log.warning(
                "the size of a batch cannot be found, so epoch means count each batch alike: use "
                "log(batch_size=...)",
                batch=type(self.batch).__name__,
            )
        return self._batch_size

    # -- the end of an epoch -----------------------------------------------------------------

    def publish_epoch(self) -> dict[int, dict[str, Scalar]]:
        """Put the epoch's reductions of the current stage, and start over.

        Torchmetrics are reset by ``end_epoch``.

        Returns:
            Values by dataloader index and metric name; those of all loaders by ``ALL_LOADERS``.
        """
        stage = self.bus.place.stage
        monitored = self._monitors.end(stage, is_choice=not self.muted)
        published: dict[int, dict[str, Scalar]] = {}
        for known in list(self._collections.values()):
            if known.stage == stage:  # copies a shared state to each of its metrics
                list(known.collection.values(copy_state=False))
        entries = [e for e in self._entries.values() if e.stage == stage and e.on_epoch]
        if self._synced is not None:
            of_ranks = [entry for entry in entries if entry.syncs_epoch]
            is_recorded = self.muted or self.group.world.is_global_zero
            for synced in self._synced.of_epoch(stage, of_ranks, monitored):
                self._record_synced(synced, is_recorded)
                about, value, _ = synced
                if about.of_loader != NO_RESULT:
                    published.setdefault(about.of_loader, {})[about.recorded] = value
            entries = [entry for entry in entries if not entry.syncs_epoch]
            monitored = {}
        for name, of_epoch in monitored.items():
            self._record("module", name, of_epoch.compute(), ("callbacks",))
        for entry in entries:
            if entry.metric is not None:
                updates = entry.metric._update_count
                if not updates or updates == entry.published_updates:
                    continue
                value = resolved(to_scalar(entry.name, entry.metric.compute()))
                entry.published_updates = updates
            elif (reduction := entry.end()) is not None:
                value = reduction.compute()
            else:
                continue
            self._record(entry.source, entry.epoch_name, value, entry.to_epoch)
            if entry.epoch_name is not entry.name and (
                self._set_aside is not None or not self.muted
            ):
                self._callback[entry.name] = value
            published.setdefault(entry.of_loader, {})[entry.epoch_name] = value
        return published

    def end_epoch(self) -> None:
        """Reset the Metrics that were logged in the current stage.

        Called after the hooks at the end of its epoch, which may compute them.
        """
        stage = self.bus.place.stage
        logged = {}
        for entry in list(self._entries.values()):
            if entry.stage == stage and entry.metric is not None:
                logged[id(entry.metric)] = entry.metric
                entry.published_updates = 0
        of_others = [] if self._synced is None else self._synced.take_computed_for_others()
        for metric in (*logged.values(), *of_others):
            metric.reset()

    @property
    def over(self) -> set[int]:
        """Return the ids of Metrics whose epoch is over, though they are not reset yet."""
        return {
            id(entry.metric)
            for entry in list(self._entries.values())
            if entry.metric is not None
            and 0 < entry.metric._update_count == entry.published_updates
        }

    # -- checkpoints -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the training epoch's values so far, the order of logging, and latest values."""
        names = {id(part): plain_name(name) for name, part in self._module.named_modules()}
        return {
            "entries": [
                {
                    "hook": hook,
                    "name": name,
                    "stage": entry.stage,
                    "dataloader_idx": dataloader_idx,
                    "source": entry.source,
                    "shown": entry.name,
                    "step_name": entry.step_name,
                    "epoch_name": entry.epoch_name,
                    "options": [*entry.options[:4], entry.options[5]],
                    "reduce_fx": entry.how if isinstance(entry.how, str) else None,
                    "metric": names.get(id(entry.metric), ""),
                    "reduction": reduction and reduction.state_dict(),
                }
                for (hook, name, dataloader_idx), entry in self._entries.copy().items()
                for reduction in [
                    entry.reduction or self._to_be_taken_up.get((hook, name, dataloader_idx))
                ]
            ],
            **self._monitors.state_dict(),
            "steps": [self.step, self._stepped, self._step_before],
            "latest": [
                {
                    name: resolved(value)
                    for name, value in values.copy().items()
                    if value is not self.running_loss
                }
                for values in self._latest
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, before the first value is logged."""
        submodules = plain_names(dict(self._module.named_modules()))
        for saved in state_dict["entries"]:
            key = (saved["hook"], saved["name"], saved["dataloader_idx"])
            reduction = None
            if saved["reduction"] is not None:
                reduction = Reduction(saved["reduce_fx"])
                reduction.load_state_dict(saved["reduction"])
            if saved["reduce_fx"] is None:  # the function is known once it is logged again
                if reduction is not None:
                    self._to_be_taken_up[key] = reduction
                reduction = None
            *first, add_dataloader_idx = saved["options"]
            options: Any = (*first, saved["reduce_fx"], add_dataloader_idx)
            entry = LogEntry(
                saved["shown"], options, saved["stage"], saved["hook"], saved["source"]
            )
            entry.dataloader_idx, entry.reduction = saved["dataloader_idx"], reduction
            entry.step_name, entry.epoch_name = saved["step_name"], saved["epoch_name"]
            entry.is_restored = True
            entry.syncs_epoch = self._synced is not None
            if saved["metric"]:
                try:
                    entry.metric = wrapped_by(submodules[saved["metric"]])
                except KeyError:
                    raise CheckpointError(
                        f"the checkpoint logs the Metric {saved['metric']}, which the module does "
                        "not have"
                    ) from None
            self._entries[key] = entry
        self._monitors.load_state_dict(state_dict)
        if "steps" in state_dict:
            self.step, self._stepped, self._step_before = state_dict["steps"]
            self._is_due = self.is_due
        for values, saved in zip(self._latest, state_dict["latest"], strict=True):
            values.update(saved)

    def begin(self, bus: Bus, module: nn.Module) -> None:
        """Drop all values and options, because a new run begins.

        Args:
            bus: the bus of the run.
            module: the module of the run.
        """
        self.begin_puts(bus)
        self._module = module
        self._entries.clear()
        self._to_be_taken_up.clear()
        self._collections.clear()
        self._monitors = Monitors()
        is_alone = self.group.world.is_alone
        self._synced = None if is_alone else SyncedMetrics(self.group, module)

    def drop_stage(self) -> None:
        """Drop the call sites of the current stage, with their values."""
        stage = self.bus.place.stage
        self._entries = {k: e for k, e in self._entries.copy().items() if e.stage != stage}
        self._collections = {k: c for k, c in self._collections.items() if c.stage != stage}
        self._monitors.drop()


def _is_torchmetrics_metric(value: Any) -> bool:
    torchmetrics = sys.modules.get("torchmetrics")  # not imported for this
    return torchmetrics is not None and isinstance(value, torchmetrics.Metric)
