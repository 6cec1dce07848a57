"""The trainer as callbacks see it in replay: what was recorded of it, and nothing else."""

from collections.abc import Callable
from typing import Any

from ..actor import Actor
from ..errors import MetricNotRecorded, NotRecorded
from ..events import Event, Hook, Put, RunStarted, Stage
from ..log.codec import DecodedEvent
from ..subscription import Handler, HandlerTable
from .recorded_hook import Missing, replay_table

_STAGE_OF_FLAG: dict[str, Stage] = {
    "training": "train",
    "validating": "validate",
    "testing": "test",
    "predicting": "predict",
    "sanity_checking": "sanity_check",
}


class RecordedScalar(float):
    """A recorded metric, as a number and as what callbacks expect of a tensor."""

    def item(self) -> float:
        """The number."""
        return float(self)

    def detach(self) -> "RecordedScalar":
        """Itself."""
        return self

    def cpu(self) -> "RecordedScalar":
        """Itself."""
        return self


class RecordedMetrics(dict[str, RecordedScalar]):
    """Metrics as they were at a place of the recording."""

    def __missing__(self, name: str) -> RecordedScalar:
        raise MetricNotRecorded(name, sorted(self))


class RecordedTrainer:
    """Follows a log, for callbacks in replay.

    Args:
        on_stop: called once, with the reason, when a callback sets ``should_stop``.

    Attributes:
        callback_metrics: latest value of each metric that callbacks can monitor.
        current_epoch, global_step: where the recorded run was.
        stop_reason: why a callback stops.
    """

    is_global_zero = True
    fast_dev_run = False

    def __init__(self, on_stop: Callable[[str], None]) -> None:
        self.callback_metrics = RecordedMetrics()
        self.current_epoch = 0
        self.global_step = 0
        self.stop_reason = ""
        self._fn = ""
        self._stage: Stage = ""
        self._should_stop = False
        self._on_stop = on_stop

    @property
    def should_stop(self) -> bool:
        """Whether a callback would have stopped the run."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._should_stop = value

    def ask_to_stop(self, who: object, reason: str) -> None:
        """A callback would have the run stop."""
        self.stop_reason, self._should_stop = reason, True

    def withdraw_stop(self, who: object) -> None:
        """It would take that back; the first stop that is asked for ends a replay."""

    def take(self, event: Event) -> None:
        """Be where an event was recorded, and know its value."""
        self.current_epoch, self.global_step, self._stage = event.epoch, event.step, event.stage
        if type(event) is RunStarted:
            self._fn = event.fn
            self._should_stop = False
        elif type(event) is Put and "callbacks" in event.destinations:
            value = RecordedScalar(event.value)
            self.callback_metrics[event.name] = value
            # With step and epoch values, the plain name can be monitored too.
            stem, _, form = event.name.rpartition("_")
            if stem and form in ("step", "epoch"):
                self.callback_metrics[stem] = value

    def argument(self, name: str, event: Hook) -> Any:
        """A hook's argument: what is known of it."""
        if name in ("batch_idx", "dataloader_idx"):
            return getattr(event, name)
        return self._fn if name == "stage" else Missing(name, f"the hook {event.name}")

    def announce_stop(self) -> None:
        """Say that the run would have ended here."""
        self._on_stop(self.stop_reason)

    def __getattr__(self, name: str) -> Any:
        if name in _STAGE_OF_FLAG:
            return self.__dict__["_stage"] == _STAGE_OF_FLAG[name]
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotRecorded(name, "the trainer")


class CallbackTable(HandlerTable):
    """Handlers of a callback in replay: its subscriptions and its hook methods.

    Args:
        actor: the callback.
        trainer: follows the log for it.
    """

    def __init__(self, actor: Actor, trainer: RecordedTrainer) -> None:
        self._subscribed = replay_table(actor)
        self._trainer = trainer
        self._methods = actor._hook_methods()
        super().__init__(actor, [])

    @property
    def wants_hooks(self) -> bool:
        return True

    def handlers(self, event: DecodedEvent) -> tuple[Handler, ...]:
        if isinstance(event, Event):
            self._trainer.take(event)
        found = self._subscribed.handlers(event)
        if type(event) is Hook and event.name in self._methods and not self._trainer.should_stop:
            return (*found, self._call)
        return found

    async def _call(self, event: Hook) -> None:
        method, arguments = self._methods[event.name]
        trainer = self._trainer
        values = [trainer.argument(name, event) for name in arguments]
        method(trainer, Missing("module", f"the hook {event.name}"), *values)
        if trainer.should_stop:
            trainer.announce_stop()
