"""The trainer as callbacks see it in replay: only what was recorded of it."""

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
    """A recorded metric: a number with the tensor methods that callbacks use."""

    def item(self) -> float:
        """Return the number."""
        return float(self)

    def detach(self) -> "RecordedScalar":
        """Return itself."""
        return self

    def cpu(self) -> "RecordedScalar":
        """Return itself."""
        return self


class RecordedMetrics(dict[str, RecordedScalar]):
    """The metrics at a place of the recording."""

    def __missing__(self, name: str) -> RecordedScalar:
        raise MetricNotRecorded(name, sorted(self))


class RecordedTrainer:
    """The trainer of a callback in replay, at the place of the last event.

    Args:
        on_stop: called once, with the reason, when a callback sets ``should_stop``.

    Attributes:
        callback_metrics: latest value of each metric that callbacks can monitor.
        current_epoch, global_step: the place of the recorded run.
        stop_reason: why a callback stopped it.
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
        """True if a callback would have stopped the run."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._should_stop = value

    def ask_to_stop(self, who: object, reason: str, alike: bool = False) -> None:
        """Record that a callback would stop the run.

        Args:
            who: the callback.
            reason: why.
            alike: all ranks request it at the same place.
        """
        self.stop_reason, self._should_stop = reason, True

    def agreed(self, what: str, value: Any) -> Any:
        """Return the value, because a replay has one rank.

        Args:
            what: what it is.
            value: plain data.
        """
        return value

    def withdraw_stop(self, who: object) -> None:
        """Do nothing: the first request to stop ends a replay."""

    def take(self, event: Event) -> None:
        """Update place and metrics with an event."""
        self.current_epoch, self.global_step, self._stage = event.epoch, event.step, event.stage
        if type(event) is RunStarted:
            self._fn = event.fn
            self._should_stop = False
        elif type(event) is Put and "callbacks" in event.destinations:
            value = RecordedScalar(event.value)
            self.callback_metrics[event.name] = value
            # If there are step and epoch values, the plain name can be monitored too.
            stem, _, form = event.name.rpartition("_")
            if stem and form in ("step", "epoch"):
                self.callback_metrics[stem] = value

    def argument(self, name: str, event: Hook) -> Any:
        """Return an argument of a hook, as far as it is known.

        Args:
            name: the argument's name.
            event: the hook.
        """
        if name in ("batch_idx", "dataloader_idx"):
            return getattr(event, name)
        return self._fn if name == "stage" else Missing(name, f"the hook {event.name}")

    def announce_stop(self) -> None:
        """Report that the run would have ended here."""
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
        trainer: the trainer that it sees.
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
