"""Names of types of events, and filters by type."""

from collections.abc import Iterable
from typing import Any

from .errors import LogFormatError, UsageError
from .events import EVENT_TYPES, Event, Hook, PlainUserEvent, Unknown, UserEvent
from .named_types import is_a, label_of, named_class


def kind_of(event: Event | Unknown) -> str:
    """Return the name of an event's type; for a user's event, the name it is recorded under.

    Args:
        event: the event.
    """
    if isinstance(event, PlainUserEvent):
        return event.name
    return label_of(type(event))


def own_fields(event: UserEvent) -> dict[str, Any]:
    """Return the fields of a user's event, without those of its place.

    Args:
        event: an object of its class, which has a name.
    """
    named = named_class(type(event))
    return {} if named is None else {field: getattr(event, field) for field, _ in named.fields}


def fields_as_text(event: PlainUserEvent) -> str:
    """Return the fields of a user's event for people, or why they cannot be read.

    Args:
        event: the event.
    """
    try:
        fields = event.fields.items()
    except LogFormatError as error:
        return str(error)
    return ", ".join(f"{name} {_value(value)}" for name, value in fields)


def _value(value: object) -> str:
    return f"of {len(value):,} bytes" if isinstance(value, bytes) else str(value)


class EventKinds:
    """Some types of events, as users name them.

    Args:
        given: types, or their names: Put, myteam.SampleSeen, or UserEvent for all that users
            define.
        refusal: begins an error, with ``{}`` for the name of a type that there is not.

    Raises:
        UsageError: there is no such type.
    """

    def __init__(self, given: Iterable[str | type[Event]], refusal: str) -> None:
        self._types: set[type] = set()
        self._names: set[str] = set()
        for each in given:
            self._add(each, refusal)

    def _add(self, given: str | type[Event], refusal: str) -> None:
        named = named_class(given) if isinstance(given, type) else None
        name = given if isinstance(given, str) else given.__name__
        if named is not None or "." in name:
            self._names.add(named.name if named is not None else name)
        elif name in _KINDS:
            self._types.add(_KINDS[name])
        else:
            raise UsageError(
                f"{refusal.format(name)}; expected some of "
                f"{', '.join(sorted(_KINDS))}, or the name of one of your own: myteam.SampleSeen"
            )

    def __bool__(self) -> bool:
        return bool(self._types or self._names)

    def __contains__(self, event: object) -> bool:
        kind = type(event)
        if kind in self._types:
            return True
        if not isinstance(event, UserEvent):
            return False
        return UserEvent in self._types or kind_of(event) in self._names

    @property
    def names(self) -> list[str]:
        """Their names, in order."""
        return sorted([*self._names, *(kind.__name__ for kind in self._types)])

    @property
    def has_hooks(self) -> bool:
        """True if Hook is one of them."""
        return Hook in self._types


_KINDS: dict[str, type[Event]] = {
    UserEvent.__name__: UserEvent,
    **{kind.__name__: kind for kind in EVENT_TYPES.values() if kind is not PlainUserEvent},
}


def is_of_types(event: Event | Unknown, wanted: tuple[type[Event], ...]) -> bool:
    """Return whether an event has one of these types, or one that was since defined again.

    Args:
        event: the event.
        wanted: the types.
    """
    if isinstance(event, wanted):
        return True
    return isinstance(event, UserEvent) and any(is_a(type(event), each) for each in wanted)
