"""``@on``: subscribes a method to messages."""

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from .errors import UsageError
from .events import EVENT_TYPES, Command, Event, Hook, Media, Put, UserEvent
from .log.codec import DecodedEvent
from .named_types import is_a

F = TypeVar("F", bound=Callable[..., Any])
Predicate = Callable[[Any], bool]
_SUBSCRIPTIONS = "__nightbus_subscriptions__"
# Beginnings of modules whose classes get no other methods while a process runs.
_LIBRARIES = (f"{__name__.partition('.')[0]}.", "torch.", "builtins")


class Subscription(NamedTuple):
    """One ``@on``.

    Attributes:
        kind: the type of event or command; Event means any event.
        name: only hooks or puts of this name.
        where: only events for which this is true.
        method: name of the handling method.
        is_async: the method is a coroutine, which runs on the bus thread.
        destination: only values for this destination; ``where`` checks it too.
    """

    kind: type[Event] | type[Command]
    name: str | None
    where: Predicate | None
    method: str
    is_async: bool
    destination: str | None = None


def on(
    what: str | type[Event] | type[Command] | None = None,
    *,
    name: str | None = None,
    where: Predicate | None = None,
    destination: str | None = None,
) -> Callable[[F], F]:
    """Subscribe a method of an actor.

    A plain method is called on the training thread, and training waits for it. A coroutine is
    called on the bus thread, and training never waits for it.

    Args:
        what: a hook's name; or a type of event or command; or nothing, for any event.
        name: with Put or Hook: only those of this name.
        where: only events for which this returns true.
        destination: with Put or Media: only values put to this destination.

    Returns:
        A decorator for the method.

    Raises:
        UsageError: the arguments are wrong or contradict each other.
    """
    kind: type[Event] | type[Command]
    if isinstance(what, str):
        if name is not None:
            raise UsageError(f"@on({what!r}, name={name!r}): a hook's name is given once")
        kind, name = Hook, what
    elif what is None:
        kind = Event
    elif isinstance(what, type) and issubclass(what, Event | Command):
        kind = what
        if issubclass(what, Event) and not _is_recorded(what):
            raise UsageError(
                f"@on({what.__name__}): nothing of this type is recorded; derive your own events "
                "from nightbus.UserEvent"
            )
    else:
        raise UsageError(
            f"@on({what!r}): expected a hook's name, an event type such as Put, or a command type"
        )
    if name is not None and kind not in (Hook, Put):
        raise UsageError(f"@on({kind.__name__}, name={name!r}): only hooks and puts have names")

    if destination is not None:
        if kind not in (Put, Media):
            raise UsageError(
                f"@on({kind.__name__}, destination={destination!r}): only values, Put and Media, "
                "have destinations"
            )
        where = _to(destination, where)

    def subscribe(method: F) -> F:
        is_async = inspect.iscoroutinefunction(method)
        entry = Subscription(kind, name, where, method.__name__, is_async, destination)
        setattr(method, _SUBSCRIPTIONS, (*getattr(method, _SUBSCRIPTIONS, ()), entry))
        return method

    return subscribe


def _is_recorded(kind: type[Event]) -> bool:
    return kind is Event or issubclass(kind, UserEvent) or kind in EVENT_TYPES.values()


def _to(destination: str, where: Predicate | None) -> Predicate:
    return lambda event: destination in event.destinations and (where is None or where(event))


def subscriptions_of(actor_class: type) -> list[Subscription]:
    """Return the subscriptions of a class, those of its bases first, overridden methods last."""
    methods: dict[str, Any] = {}
    for base in reversed(actor_class.__mro__):
        is_of_library = base.__module__.startswith(_LIBRARIES)
        marked = _marked_for_good(base) if is_of_library else _marked(base)
        own = vars(base)
        for attribute in [each for each in methods if each in own and each not in marked]:
            del methods[attribute]  # overridden without @on
        methods.update(marked)
    return [entry for method in methods.values() for entry in getattr(method, _SUBSCRIPTIONS)]


def _marked(base: type) -> dict[str, Any]:
    """Return the methods that a class itself has with ``@on``."""
    return {name: value for name, value in vars(base).items() if hasattr(value, _SUBSCRIPTIONS)}


# Most attributes of a module are in classes of libraries, and each is looked at often in a start.
_marked_for_good = lru_cache(maxsize=1000)(_marked)

Handler = Callable[[Any], Any]


class HandlerTable:
    """Finds the handlers of an event by its type and name.

    Args:
        actor: whose bound methods are called.
        subscriptions: those of its subscriptions to use.
        adapt: returns the callable for a subscription and its bound method.
    """

    def __init__(
        self,
        actor: object,
        subscriptions: Iterable[Subscription],
        adapt: Callable[[Subscription, Handler], Handler] = lambda _, handler: handler,
    ) -> None:
        self._adapt = adapt
        self._all = [entry for entry in subscriptions if issubclass(entry.kind, Event)]
        self.actor = actor
        # (type, name or "") -> handlers in order, filled on first use
        self._found: dict[tuple[type, str], tuple[Handler, ...]] = {}

    @property
    def wants_hooks(self) -> bool:
        """True if any Hook event can match."""
        return any(entry.kind in (Hook, Event) for entry in self._all)

    def hook_names(self) -> set[str] | None:
        """Return names of the hooks that can match; None for any."""
        names = {entry.name for entry in self._all if entry.kind in (Hook, Event)}
        return None if None in names else {name for name in names if name is not None}

    def handlers(self, event: DecodedEvent) -> tuple[Handler, ...]:
        """Return the handlers for an event, in the order of the class."""
        kind = type(event)
        key = (kind, event.name) if kind is Hook or kind is Put else (kind, "")  # type: ignore[union-attr]
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._find(*key)
        return found

    def _find(self, kind: type, name: str) -> tuple[Handler, ...]:
        return tuple(
            _guarded(self._adapt(entry, getattr(self.actor, entry.method)), entry.where)
            for entry in self._all
            if is_a(kind, entry.kind) and entry.name in (None, name)
        )


def _guarded(handler: Handler, where: Predicate | None) -> Handler:
    if where is None:
        return handler
    if inspect.iscoroutinefunction(handler):

        async def guarded_async(event: Any) -> None:
            if where(event):
                await handler(event)

        return guarded_async

    def guarded(event: Any) -> None:
        if where(event):
            handler(event)

    return guarded
