"""Participants of a trainer's runs: callbacks, actors and sinks."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..actors.arguments import parse_max_time
from ..actors.callback import Callback
from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.callbacks.device_stats_monitor import DeviceStatsMonitor
from ..actors.callbacks.gradient_accumulation_scheduler import GradientAccumulationScheduler
from ..actors.callbacks.gradient_norms import GradientNorms
from ..actors.callbacks.model_checkpoint import ModelCheckpoint
from ..actors.callbacks.model_summary import ModelSummary, RichModelSummary
from ..actors.callbacks.progress_bar import ProgressBarBase, RichProgressBar, TQDMProgressBar
from ..actors.callbacks.run_checkpoint import RunCheckpoint
from ..actors.callbacks.stochastic_weight_averaging import StochasticWeightAveraging
from ..actors.callbacks.terminate_on_nan import TerminateOnNaN
from ..actors.callbacks.timer import Timer
from ..actors.overrides import is_own
from ..bus.actor import Actor
from ..bus.errors import ArgumentTypeError, StateKeyError, UsageError
from ..bus.system.logging_setup import get_logger
from ..sinks.progress_bar import ProgressBar
from ..sinks.sink import Sink

_log = get_logger("nightbus.trainer", of_all_ranks=True)
_STATES = ("state_dict", "on_save_checkpoint")


def _saves_checkpoints(callback: Callback) -> bool:
    return isinstance(callback, Checkpoint)


def _check_keys(callbacks: Sequence[Callback]) -> None:
    """Refuse callbacks whose states would overwrite each other's in checkpoints.

    Args:
        callbacks: the callbacks; keys that are not their own are addresses, which differ.

    Raises:
        StateKeyError: two with a state have the same key.
    """
    seen: dict[str, Callback] = {}
    for callback in callbacks:
        if not is_own(callback, "state_key") or not any(is_own(callback, hook) for hook in _STATES):
            continue
        other = seen.setdefault(callback.saved_as, callback)
        if other is not callback:
            raise StateKeyError(
                f"{type(other).__name__} and {type(callback).__name__} have the same state_key "
                f"{callback.saved_as!r}, and one state would be lost; have state_key tell them "
                "apart: return self._generate_state_key(argument=...)"
            )


def bar_of(
    callbacks: Sequence[Callback], is_enabled: bool, is_shown_here: bool
) -> ProgressBar | None:
    """Return the bar that a trainer shows; None for none, or for one of the user's own.

    Args:
        callbacks: callbacks of the trainer, of which one may set the bar.
        is_enabled: the trainer's ``enable_progress_bar``.
        is_shown_here: this process shows what all have done.

    Raises:
        UsageError: several set it, or one does though there is to be none.
    """
    bars = [callback for callback in callbacks if isinstance(callback, ProgressBarBase)]
    if bars and (len(bars) > 1 or not is_enabled):
        kinds = ", ".join(type(bar).__name__ for bar in bars)
        what = "enable_progress_bar=False and " if not is_enabled else ""
        raise UsageError(f"{what}{kinds} among callbacks were given; leave all out but one")
    if not is_enabled or not is_shown_here or (bars and bars[0].is_disabled):
        return None
    if not bars:
        return ProgressBar()
    options = getattr(bars[0], "bar_options", None)
    return None if options is None else ProgressBar(**options())


class Participants:
    """Callbacks, actors and sinks, in the order in which they act.

    Args:
        callbacks: callbacks that were given to the Trainer.
        actors: actors that were given to the Trainer.

    Attributes:
        module_callbacks: callbacks that the module's ``configure_callbacks`` returned, for one
            run; they replace those of the same type among ``callbacks``.
        sinks: the sinks, without the progress bar.
        progress_bar: None if there is none.
    """

    def __init__(self, callbacks: Sequence[Callback], actors: Sequence[Actor]) -> None:
        self.callbacks = list(callbacks)
        self.module_callbacks: list[Callback] = []
        self.actors = list(actors)
        self.sinks: list[Sink] = []
        self.progress_bar: ProgressBar | None = None

    def __contains__(self, actor: Actor) -> bool:
        """Return whether an actor or sink is attached, so that it can be detached."""
        return actor in (*self.actors, *self.sinks)

    def add(self, actor: Actor) -> None:
        """Add an actor or a sink."""
        if isinstance(actor, Sink):
            self.sinks.append(actor)
        else:
            self.actors.append(actor)

    def remove(self, actor: Actor) -> None:
        """Remove an actor or a sink."""
        self.actors = [entry for entry in self.actors if entry is not actor]
        self.sinks = [entry for entry in self.sinks if entry is not actor]

    def add_module_callbacks(self, added: Sequence[Callback]) -> None:
        """Add callbacks of the module, in place of callbacks of the same types."""
        kinds = {type(callback) for callback in added}
        if any(isinstance(callback, Checkpoint) for callback in added):
            kinds.add(RunCheckpoint)
        self.callbacks = [entry for entry in self.callbacks if type(entry) not in kinds]
        self.module_callbacks = list(added)

    def check_accumulation(self, wanted: int | Mapping[int, int]) -> None:
        """Refuse an argument beside a callback that does the same.

        Args:
            wanted: the Trainer's ``accumulate_grad_batches``.

        Raises:
            UsageError: both ask for gradients to be accumulated.
        """
        has_own = any(isinstance(entry, GradientAccumulationScheduler) for entry in self.callbacks)
        if has_own and wanted not in (None, 1):
            shown = dict(wanted) if isinstance(wanted, Mapping) else wanted
            raise UsageError(
                f"accumulate_grad_batches={shown} and a GradientAccumulationScheduler were given; "
                "leave the Trainer's argument out"
            )

    def accumulate(self, scheduling: Mapping[int, int]) -> GradientAccumulationScheduler:
        """Add a callback that accumulates the gradients of a number of batches, by epoch.

        Args:
            scheduling: epoch -> batches for each step.

        Returns:
            The callback.
        """
        added = GradientAccumulationScheduler(scheduling)
        self.callbacks.append(added)
        return added

    def limit_time(self, max_time: Any) -> None:
        """Add a Timer that ends training, unless there is one.

        Args:
            max_time: the Trainer's argument; None for no limit.

        Raises:
            UsageError: it is no duration.
        """
        if parse_max_time(max_time) is None:
            return
        if self.limits_time:
            _log.warning(
                f"max_time={max_time!r} has no effect: a Timer with a duration is among the "
                "callbacks; leave one of them out"
            )
            return
        self.callbacks.append(Timer(max_time))

    @property
    def limits_time(self) -> bool:
        """True if a Timer ends training."""
        timers = (entry for entry in self.callbacks_in_order if isinstance(entry, Timer))
        return any(timer.time_remaining() is not None for timer in timers)

    def add_former(self, former: Mapping[str, Any]) -> None:
        """Add callbacks that do what arguments of Lightning 1.x ask for.

        Args:
            former: the arguments that were given, by name.

        Raises:
            UsageError: a value is wrong.
        """
        if (norm_type := former.get("track_grad_norm")) not in (None, -1, "-1"):
            self.callbacks.append(GradientNorms(norm_type))
        if former.get("log_gpu_memory"):
            self.callbacks.append(DeviceStatsMonitor())
        if former.get("weights_summary") == "full":
            self.callbacks.append(ModelSummary(max_depth=-1))
        if not isinstance(of_nan := former.get("terminate_on_nan"), bool | None):
            raise ArgumentTypeError(f"terminate_on_nan={of_nan!r}: expected True or False")
        if of_nan:
            self.callbacks.append(TerminateOnNaN())
        has_own = any(isinstance(each, StochasticWeightAveraging) for each in self.callbacks)
        if former.get("stochastic_weight_avg") and not has_own:
            self.callbacks.append(StochasticWeightAveraging(swa_lrs=None))

    def complete(self, shows_bar: bool, saves: bool, shows_summary: bool) -> None:
        """Add what a Trainer does by callbacks, unless such callbacks were given.

        Those that save checkpoints become the last.

        Args:
            shows_bar: add a TQDMProgressBar, which knows what the Trainer's own bar shows.
            saves: add a RunCheckpoint.
            shows_summary: add a ModelSummary; beside a RichProgressBar a RichModelSummary.

        Raises:
            UsageError: there is a ModelCheckpoint, and none is wanted.
            StateKeyError: two callbacks with a state have one key.
        """
        if not saves and any(isinstance(entry, ModelCheckpoint) for entry in self.callbacks):
            raise UsageError(
                "a ModelCheckpoint and enable_checkpointing=False were given; leave one out"
            )
        draws_tables = any(isinstance(entry, RichProgressBar) for entry in self.callbacks)
        summary = RichModelSummary if draws_tables else ModelSummary
        for wanted, kind, made in (
            (shows_bar, ProgressBarBase, TQDMProgressBar),
            (shows_summary, ModelSummary, summary),
            (saves, Checkpoint, RunCheckpoint),
        ):
            if wanted and not any(isinstance(entry, kind) for entry in self.callbacks):
                self.callbacks.append(made())
        self.callbacks.sort(key=_saves_checkpoints)
        _check_keys(self.callbacks)

    @property
    def callbacks_in_order(self) -> list[Callback]:
        """All callbacks; those that save checkpoints are last."""
        callbacks = [*self.callbacks, *self.module_callbacks]
        return sorted(callbacks, key=_saves_checkpoints)

    @property
    def saved(self) -> list[Actor]:
        """Participants whose state a checkpoint contains."""
        return [*self.callbacks, *self.module_callbacks, *self.actors]

    @property
    def beside_module(self) -> list[Actor]:
        """All participants, in the order in which they are registered when a run begins."""
        bar = [self.progress_bar] if self.progress_bar else []
        return [*self.callbacks, *self.module_callbacks, *self.actors, *self.sinks, *bar]
