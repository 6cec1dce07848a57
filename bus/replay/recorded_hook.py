"""Recorded hooks, passed to methods that run on the training thread when live."""

from typing import Any, NoReturn

from ..actor import Actor
from ..errors import NotRecorded
from ..events import Hook
from ..subscription import Handler, HandlerTable, Subscription, subscriptions_of


class RecordedHook:
    """A recorded hook as a plain method sees it in replay.

    The event's fields are attributes; live objects raise NotRecorded.
    """

    def __init__(self, event: Hook) -> None:
        self.event = event

    def __getattr__(self, name: str) -> Any:
        event = self.__dict__["event"]
        if name.startswith("__") or name in event.__struct_fields__:
            return getattr(event, name)
        raise NotRecorded(name, f"the hook {event.name}")


class Missing:
    """Stands for a live object; any use of it raises NotRecorded.

    Args:
        name: name of the object.
        owner: what it belonged to.
    """

    __slots__ = ("_name", "_owner")

    def __init__(self, name: str, owner: str) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_owner", owner)

    def __repr__(self) -> str:
        return f"<{self._name!r} of {self._owner}: not recorded>"

    def __getattr__(self, name: str) -> Any:
        # Python and libraries look up special methods to find out what an object can do.
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotRecorded(self._name, self._owner)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> NoReturn:
        """Refuse calls of torch's functions."""
        given = [*arguments, *(options or {}).values()]
        given += [part for value in given if isinstance(value, list | tuple) for part in value]
        next(value for value in given if isinstance(value, cls))._refuse()

    __setattr__ = __delattr__ = _refuse
    __call__ = __enter__ = __exit__ = __await__ = _refuse
    __bool__ = __int__ = __float__ = __index__ = __complex__ = __bytes__ = __array__ = _refuse
    __len__ = __iter__ = __next__ = __reversed__ = __contains__ = _refuse
    __getitem__ = __setitem__ = __delitem__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = object.__hash__
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _refuse
    __add__ = __sub__ = __mul__ = __matmul__ = __truediv__ = __floordiv__ = __mod__ = _refuse
    __radd__ = __rsub__ = __rmul__ = __rmatmul__ = __rtruediv__ = __rfloordiv__ = _refuse
    __pow__ = __rpow__ = __rmod__ = __and__ = __or__ = __xor__ = __rand__ = __ror__ = _refuse


def replay_table(actor: Actor) -> HandlerTable:
    """Return all handlers of an actor as coroutines, plain methods too."""

    def adapt(entry: Subscription, handler: Handler) -> Handler:
        if entry.is_async:
            return handler

        async def in_step(event: Any) -> None:
            handler(RecordedHook(event) if type(event) is Hook else event)

        return in_step

    return HandlerTable(actor, subscriptions_of(type(actor)), adapt)
