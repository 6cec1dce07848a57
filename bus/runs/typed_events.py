"""Converts recorded events of users to objects of their classes when they are delivered.

Readers of a log return events as recorded. Code that delivers events to actors and sinks converts
them to objects of the users' classes, if this process has defined those.
"""

from typing import Any

import msgspec

from ..errors import MALFORMED
from ..events import PlainUserEvent, UserEvent
from ..log.codec import DecodedEvent
from ..named_types import NamedClass, find_named, has_names_below
from ..system.logging_setup import get_logger

_HEAD = UserEvent.__struct_fields__

_log = get_logger("nightbus.bus")
_said_misfits: set[str] = set()


def typed(event: DecodedEvent) -> DecodedEvent:
    """Return a recorded event as an object of its class, if this process has defined it.

    Args:
        event: any event.

    Returns:
        The event as it is, if it is not a user's, its class is not defined, or its fields do not
        fit; a warning reports the last, once for each name.
    """
    if type(event) is not PlainUserEvent:
        return event
    named = find_named(event.name, UserEvent)
    if named is None:
        return event
    try:
        made = named.decoder.decode(event.data)
    except MALFORMED as error:
        _report_misfit(named, error)
        return event
    where: dict[str, Any] = {field: getattr(event, field) for field in _HEAD}
    found: UserEvent = msgspec.structs.replace(made, **where)
    return found


def all_typed(events: list[DecodedEvent]) -> list[DecodedEvent]:
    """Return events as ``typed`` does.

    Args:
        events: as they are recorded.
    """
    if not has_names_below(UserEvent):
        return events
    return [typed(event) if type(event) is PlainUserEvent else event for event in events]


def _report_misfit(named: NamedClass, error: Exception) -> None:
    if named.name not in _said_misfits:
        _said_misfits.add(named.name)
        _log.warning(
            "events in the log do not fit the class of their name, and are given as plain data",
            name=named.name,
            defined_as=f"{named.kind.__module__}.{named.kind.__qualname__}",
            error=str(error),
        )
