"""Who handles which hook, in order: worked out when someone subscribes, never in the step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .flight_recorder import FlightRecorder
from .log_writer import LogWriter
from .place import Place

HookHandler = Callable[..., Any]
ANNOUNCES = "_announces"  # attribute of a handler that tells Place.hook itself where it runs
SKIP = -1  # what a handler returns to skip the rest
# Of the notices, those whose handlers return something; actions always do.
HOOKS_WITH_RESULT = {
    "on_train_batch_start",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
}


class HookCall:
    """A hook as an actor in the step sees it: its name and the live objects it is called with.

    The objects are attributes under the names that HOOKS gives them: ``hook.batch``,
    ``hook.outputs``, ``hook.optimizer``; ``hook.trainer`` and ``hook.module`` always.
    """

    def __init__(self, name: str, objects: Mapping[str, Any]) -> None:
        self.name = name
        self._objects = objects

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_objects"][name]
        except KeyError:
            raise AttributeError(
                f"the hook {self.__dict__.get('name')} has no {name!r}; "
                f"it has {', '.join(self.__dict__['_objects'])}"
            ) from None

    def __repr__(self) -> str:
        return f"HookCall({self.name}: {', '.join(self._objects)})"


class Routes:
    """One callable for each hook, an attribute of the hook's name; None where nothing is to do.

    Loops ask ``call = routes.on_train_batch_start`` and, if it is not None, call it with the
    hook's objects. The result is -1 if a handler returned it, else the last that is not None.

    Args:
        place: where training is; told which hook is running.
        writer: records hooks; None while nothing is recorded.
    """

    def __init__(self, place: Place, writer: LogWriter | None = None) -> None:
        self._place = place
        self._writer = writer
        self._flight: FlightRecorder | None = None
        self._built: list[str] = []  # hooks whose routes are worked out
        self._handlers: dict[str, tuple[HookHandler, ...]] = {}
        self._defaults: dict[str, HookHandler] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        self.recorded: set[str] | None = set()  # names of the hooks that are recorded; None: all

    def set_writer(self, writer: LogWriter | None, recorded: set[str] | None) -> None:
        """Record hooks from now on.

        Args:
            writer: records them; None records none.
            recorded: names of the hooks to record; None for all.
        """
        self._writer, self.recorded = writer, recorded
        self._rebuild()

    def set_flight(self, flight: FlightRecorder | None) -> None:
        """Note every hook in a flight recorder from now on, recorded or not."""
        self._flight = flight
        self._rebuild()

    def set_groups(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Name hooks that loops run directly one after the other.

        A group is an attribute too: where none of its hooks has anything to do but to be recorded,
        it is one callable that records them all, at one reading of the clock; else it is None and
        the hooks are run one by one. The last hook may have a default, which is then done, with the
        objects that the group is called with. Saves 3 us a step.

        Args:
            groups: group name -> hook names in order.
        """
        self._groups = {name: tuple(hooks) for name, hooks in groups.items()}
        self._rebuild()

    def set_handlers(
        self,
        handlers: Mapping[str, Sequence[HookHandler]],
        defaults: Mapping[str, HookHandler] | None = None,
    ) -> None:
        """Replace all handlers.

        Args:
            handlers: hook name -> callables in the order in which they run.
            defaults: hook name -> what is done when there are no handlers: the library's own
                code, which need not be told which hook it runs in.
        """
        self._defaults = dict(defaults or {})
        self._handlers = {name: tuple(entries) for name, entries in handlers.items()}
        self._rebuild()

    def call(self, name: str, *objects: Any) -> Any:
        """Run a hook by name, where it does not matter how long the look-up takes."""
        route = getattr(self, name)
        return None if route is None else route(*objects)

    def _rebuild(self) -> None:
        for name in self._built:
            del self.__dict__[name]
        self._built.clear()

    def __getattr__(self, name: str) -> HookHandler | None:
        if name.startswith("_"):
            raise AttributeError(name)
        build = self._build_group if name in self._groups else self._build
        route = self.__dict__[name] = build(name)
        self._built.append(name)
        return route

    def _build_group(self, name: str) -> HookHandler | None:
        route, flight = self._build_group_unnoted(name), self._flight
        if flight is None or route is None:
            return route
        default = self._defaults.get(self._groups[name][-1])
        hooks = tuple(h for h in self._groups[name] if default is not None or h.startswith("on_"))
        return _noted_together(hooks, None if route is _nothing else route, flight)

    def _build_group_unnoted(self, name: str) -> HookHandler | None:
        hooks = self._groups[name]
        if any(hook in self._handlers for hook in hooks):
            return None
        if any(hook in self._defaults for hook in hooks[:-1]):
            return None
        writer, recorded = self._writer, self.recorded
        if (default := self._defaults.get(hooks[-1])) is not None:
            if writer is None or (recorded is not None and recorded.isdisjoint(hooks)):
                return default
            if recorded is not None:
                return None
            return _recorded_with_default(hooks, default, self._place, writer)
        notices = [hook for hook in hooks if hook.startswith("on_")]
        if writer is not None and recorded is not None:
            notices = [hook for hook in notices if hook in recorded]
        if writer is None or not notices:
            return _nothing
        return _recorded_together(notices, writer)

    def _build(self, name: str) -> HookHandler | None:
        route, flight = self._build_unnoted(name), self._flight
        if flight is None:
            return route
        if route is None:
            return _noted_together((name,), None, flight) if name.startswith("on_") else None
        if handlers := self._handlers.get(name):
            handle = route if self._records(name) else _chained(name, handlers)
            return _noted(name, handle, self._place, flight)
        return _noted_together((name,), route, flight)

    def _records(self, name: str) -> bool:
        return self._writer is not None and (self.recorded is None or name in self.recorded)

    def _build_unnoted(self, name: str) -> HookHandler | None:
        handlers = self._handlers.get(name, ())
        default = self._defaults.get(name)
        writer = self._writer
        if writer is None or not self._records(name):
            return _unrecorded(name, handlers, self._place) if handlers else default
        if default is not None and not handlers:
            handlers = (default,)
        if not handlers:
            # Actions (backward, transfer_batch_to_device) are recorded where something does them.
            return _recorded_unhandled(name, writer) if name.startswith("on_") else None
        return _recorded(name, handlers, self._place, writer)


def _chained(name: str, handlers: tuple[HookHandler, ...]) -> HookHandler:
    has_result = not name.startswith("on_") or name in HOOKS_WITH_RESULT
    if len(handlers) == 1:
        return handlers[0]

    if not has_result:

        def notify(*objects: Any) -> None:
            for handler in handlers:
                handler(*objects)

        return notify

    def chain(*objects: Any) -> Any:
        result = None
        for handler in handlers:
            value = handler(*objects)
            if value is not None and result is not SKIP:
                result = SKIP if type(value) is int and value == SKIP else value
        return result

    return chain


def _unrecorded(name: str, handlers: tuple[HookHandler, ...], place: Place) -> HookHandler:
    handle = _chained(name, handlers)

    if getattr(handle, ANNOUNCES, False):
        return handle

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        result = handle(*objects)
        place.hook = outer  # not restored when a handler raises: the fault names the hook
        return result

    return route


def _nothing(*_: Any) -> None:
    """What a group without handlers does where it is not recorded either."""


def _noted_together(
    names: tuple[str, ...], route: HookHandler | None, flight: FlightRecorder
) -> HookHandler:
    """Note hooks without handlers, then do what is done in them if it is anything."""
    note, clock_ns = flight.notes.append, flight.clock_ns

    if route is None:

        def only_note(*_: Any) -> None:
            note((names, clock_ns()))

        return only_note

    def note_and_do(*objects: Any) -> Any:
        note(names)
        return route(*objects)

    return note_and_do


def _noted(name: str, handle: HookHandler, place: Place, flight: FlightRecorder) -> HookHandler:
    """Run a hook's handlers, then note when and how long they took."""
    note, clock_ns = flight.notes.append, flight.clock_ns

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        start_ns = clock_ns()
        result = handle(*objects)
        end_ns = clock_ns()
        place.hook = outer
        note((name, end_ns, end_ns - start_ns))
        return result

    return route


def _recorded_together(names: list[str], writer: LogWriter) -> HookHandler:
    hooks, clock_ns = writer.hooks, writer.clock_ns
    totals = [writer.hook_totals.setdefault(name, [0, 0]) for name in names]

    def route(*_: Any) -> None:
        now_ns = clock_ns()
        for name in names:
            hooks.append((name, now_ns, 0))
        for total in totals:
            total[0] += 1

    return route


def _recorded_with_default(
    hooks: tuple[str, ...], default: HookHandler, place: Place, writer: LogWriter
) -> HookHandler:
    first, *others, action = hooks
    append, clock_ns = writer.hooks.append, writer.clock_ns
    total = writer.hook_totals.setdefault(action, [0, 0])
    first_total = writer.hook_totals.setdefault(first, [0, 0])
    other_totals = [writer.hook_totals.setdefault(name, [0, 0]) for name in others]

    def route(*objects: Any) -> None:
        outer, place.hook = place.hook, action
        start_ns = clock_ns()
        append((first, start_ns, 0))
        first_total[0] += 1
        if others:  # there seldom are
            for name, cell in zip(others, other_totals, strict=True):
                append((name, start_ns, 0))
                cell[0] += 1
        default(*objects)
        end_ns = clock_ns()
        place.hook = outer
        total[0] += 1
        total[1] += end_ns - start_ns
        append((action, end_ns, end_ns - start_ns))
        if end_ns > writer.due_ns:
            writer.flush()

    return route


def _recorded_unhandled(name: str, writer: LogWriter) -> HookHandler:
    append, clock_ns = writer.hooks.append, writer.clock_ns
    total = writer.hook_totals.setdefault(name, [0, 0])

    def route(*_: Any) -> None:
        total[0] += 1
        append((name, clock_ns(), 0))

    return route


def _recorded(
    name: str, handlers: tuple[HookHandler, ...], place: Place, writer: LogWriter
) -> HookHandler:
    handle = _chained(name, handlers)
    append, clock_ns = writer.hooks.append, writer.clock_ns
    total = writer.hook_totals.setdefault(name, [0, 0])

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        start_ns = clock_ns()
        result = handle(*objects)
        end_ns = clock_ns()
        place.hook = outer
        duration_ns = end_ns - start_ns
        total[0] += 1
        total[1] += duration_ns
        append((name, end_ns, duration_ns))
        if end_ns > writer.due_ns:
            writer.flush()
        return result

    return route
