"""FunctionSink: a function as a sink."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..bus.errors import UsageError
from ..bus.events import Event, Put
from .sink import Sink


class FunctionSink(Sink):
    """Calls a function with each put, on the bus thread and in replay.

    ``Trainer(sinks=[print])`` means ``FunctionSink(print)``. The function may take its time, and
    it may be a coroutine function. When it raises, it is called with the same event once more.

    Args:
        function: takes an event.
        destination: takes puts with this label.
        events: the types of events it is called with.

    Raises:
        UsageError: it cannot be called.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        destination: str | None = "loggers",
        events: Sequence[type[Event]] = (Put,),
    ) -> None:
        if not callable(function):
            raise UsageError(
                f"FunctionSink expects a function of one event, not {type(function).__name__}"
            )
        self.function = function
        self.destination = destination
        self.events = tuple(events)
        self._called: tuple[str, int, int] = ("", 0, -1)  # run, attempt and seq of the last event
        if inspect.iscoroutinefunction(function):
            self.write = self._write_async  # type: ignore[method-assign]

    def write(self, batch: list[Any]) -> Any:
        for event in batch:
            if self._is_new(event):
                self.function(event)
                self._called = (self.run_id, self.attempt, event.seq)

    async def _write_async(self, batch: list[Any]) -> None:
        for event in batch:
            if self._is_new(event):
                await self.function(event)
                self._called = (self.run_id, self.attempt, event.seq)

    def _is_new(self, event: Event) -> bool:
        """Return whether the event was not delivered before an earlier call failed."""
        run, attempt, seq = self._called
        return (run, attempt) != (self.run_id, self.attempt) or event.seq > seq

    def open(self, resumed: bool) -> None:
        if not resumed:
            self._called = ("", 0, -1)
