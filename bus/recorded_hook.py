"""Hooks out of a log, handed to methods that ran in the step when they were live."""

from typing import Any

from .actor import Actor
from .errors import NotRecorded
from .events import Hook
from .subscription import Handler, HandlerTable, Subscription, subscriptions_of


class RecordedHook:
    """A recorded hook as a plain method sees it in replay.

    The event's fields are attributes; live objects were not recorded and say so.
    """

    def __init__(self, event: Hook) -> None:
        self.event = event

    def __getattr__(self, name: str) -> Any:
        event = self.__dict__["event"]
        if name.startswith("__") or name in event.__struct_fields__:
            return getattr(event, name)
        raise NotRecorded(name, f"the hook {event.name}")


def replay_table(actor: Actor) -> HandlerTable:
    """All handlers of an actor, those in the step too, as coroutines."""

    def adapt(entry: Subscription, handler: Handler) -> Handler:
        if entry.is_async:
            return handler

        async def in_step(event: Any) -> None:
            handler(RecordedHook(event) if type(event) is Hook else event)

        return in_step

    return HandlerTable(actor, subscriptions_of(type(actor)), adapt)
