"""Recorder: the bus, as what records beside training uses it."""

from typing import Any, Protocol

from .events import Event
from .log.writer import LogWriter


class Recorder(Protocol):
    """Records events at any time, from the bus thread.

    Attributes:
        writer: the log's writer; None before it is opened, and once it is closed.
    """

    writer: LogWriter | None

    def emit_in_time(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """Record an event, unless the run's end is recorded already.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.

        Returns:
            Whether it was recorded.
        """
