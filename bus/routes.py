"""Routes: the handlers of each hook in order, determined when an actor subscribes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .copies import StaysInRun
from .log.codes import BEGIN, END, RAN, code_of
from .log.place import Place

HookHandler = Callable[..., Any]
ANNOUNCES = "_announces"  # attribute of a handler that sets Place.hook itself
SKIP = -1  # returned by a handler to skip the rest
# Of the notices, those whose handlers return something; actions always do.
HOOKS_WITH_RESULT = {
    "on_train_batch_start",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
}


class HookCall:
    """A hook as a plain handler sees it: its name and live objects.

    The objects are attributes under the names in HOOKS: ``hook.batch``, ``hook.outputs``,
    ``hook.optimizer``; ``hook.trainer`` and ``hook.module`` always exist.

    Args:
        name: the hook.
        objects: its objects by name.
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


class Routes(StaysInRun):
    """Has a callable for each hook, as an attribute; None if there is nothing to do.

    Loops ask ``call = routes.on_train_batch_start`` and, if it is not None, call it with the
    hook's objects. The result is -1 if a handler returned it, otherwise the last that is not None.

    Args:
        place: where training is; told which hook is running. Its recorder records what hooks do.

    Attributes:
        version: changes whenever handlers of hooks change, for code that depends on them.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._built: list[str] = []  # hooks with known routes
        self._handlers: dict[str, tuple[HookHandler, ...]] = {}
        self._defaults: dict[str, HookHandler] = {}
        self.version = 0
        self._refusal: Callable[[], Exception] | None = None

    def refuse(self, refusal: Callable[[], Exception]) -> None:
        """Make every hook raise from now on.

        Args:
            refusal: returns the exception to raise.
        """
        self._refusal = refusal
        self.refresh()

    def set_handlers(
        self,
        handlers: Mapping[str, Sequence[HookHandler]],
        defaults: Mapping[str, HookHandler] | None = None,
    ) -> None:
        """Replace all handlers.

        Args:
            handlers: hook name -> callables in their order.
            defaults: hook name -> what is done without handlers: the library's own code, which
                does not need to know its hook.
        """
        self._defaults = dict(defaults or {})
        self._handlers = {name: tuple(entries) for name, entries in handlers.items()}
        self.refresh()

    def call(self, name: str, *objects: Any) -> Any:
        """Run a hook by name, if the cost of the look-up does not matter.

        Args:
            name: the hook.
            objects: its arguments.

        Returns:
            The hook's result.
        """
        route = getattr(self, name)
        return None if route is None else route(*objects)

    def are_handled(self, *names: str) -> bool:
        """Return whether one of these hooks has, or may have, handlers other than defaults."""
        return self._refusal is not None or any(name in self._handlers for name in names)

    def do_something(self, *names: str) -> bool:
        """Return whether one of these hooks does something, by handlers or by default."""
        return self.are_handled(*names) or any(name in self._defaults for name in names)

    def handler(self, name: str) -> HookHandler | None:
        """Return what a hook does, without recording it; None for nothing."""
        if self._refusal is not None:
            return self._refuse
        if handlers := self._handlers.get(name):
            return chained(name, handlers)
        return self._defaults.get(name)

    def refresh(self) -> None:
        """Determine all routes again, because the recorded hooks changed."""
        self.version += 1
        for name in self._built:
            del self.__dict__[name]
        self._built.clear()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._refusal is not None:
            route: Any = self._refuse
        else:
            route = self._build(name)
        self.__dict__[name] = route
        self._built.append(name)
        return route

    def _refuse(self, *_: object) -> None:
        assert self._refusal is not None
        raise self._refusal()

    def _build(self, name: str) -> HookHandler | None:
        handlers = self._handlers.get(name, ())
        default = self._defaults.get(name)
        if not self._place.recorder.is_on:
            return _unrecorded(name, handlers, self._place) if handlers else default
        if default is not None and not handlers:
            handlers = (default,)
        if not handlers:
            # Actions (backward, transfer_batch_to_device) are recorded where something does them.
            return _only_recorded(name, self._place) if name.startswith("on_") else None
        return _recorded(name, handlers, self._place)


def chained(name: str, handlers: Sequence[HookHandler]) -> HookHandler:
    """Return one callable for all handlers of a hook.

    Args:
        name: the hook.
        handlers: in their order; at least one.
    """
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
    handle = chained(name, handlers)

    if getattr(handle, ANNOUNCES, False):
        return handle

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        result = handle(*objects)
        place.hook = outer  # not restored when a handler raises: the fault names the hook
        return result

    return route


def _only_recorded(name: str, place: Place) -> HookHandler:
    recorder = place.recorder
    clock_ns, record_at = recorder.clock_ns, recorder.trace.appender(RAN, name)

    def route(*_: Any) -> None:
        record_at(clock_ns())

    return route


def _recorded(name: str, handlers: tuple[HookHandler, ...], place: Place) -> HookHandler:
    handle, recorder = chained(name, handlers), place.recorder
    record, clock_ns = recorder.record, recorder.clock_ns
    begins, ends = code_of(BEGIN, name), code_of(END, name)
    if begins is None or ends is None:
        return _recorded_by_name(name, handle, place)

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        record(clock_ns() + begins)
        result = handle(*objects)
        end_ns = clock_ns()
        record(end_ns + ends)
        place.hook = outer
        if end_ns > recorder.flush_latest_ns:
            recorder.flush_within_step()
        return result

    return route


def _recorded_by_name(name: str, handle: HookHandler, place: Place) -> HookHandler:
    recorder = place.recorder
    clock_ns, trace = recorder.clock_ns, recorder.trace
    begin_at, end_at = trace.appender(BEGIN, name), trace.appender(END, name)

    def route(*objects: Any) -> Any:
        outer, place.hook = place.hook, name
        begin_at(clock_ns())
        result = handle(*objects)
        end_ns = clock_ns()
        end_at(end_ns)
        place.hook = outer
        if end_ns > recorder.flush_latest_ns:
            recorder.flush_within_step()
        return result

    return route
