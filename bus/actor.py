"""Actor: the base of what users write, with private state, handling one message at a time."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import msgspec
import trio

from .copies import LeavesRunBehind
from .errors import OutsideRunError, UsageError
from .events import Command, Ending, Event, Fault, UserEvent
from .log.codec import DecodedEvent, HookSelection
from .mail.mailbox import DEFAULT_LIMIT, MailboxLimit, Told
from .mail.reply import Reply, check_deadline
from .media import (
    EncodedMedia,
    encode_figure,
    encode_histogram,
    encode_image,
    encode_table,
    encode_text,
)
from .named_types import is_a
from .own_names import keeps_own_names
from .statistics import BusStatistics
from .subscription import HandlerTable, Subscription, subscriptions_of
from .system.forks import child_process
from .system.logging_setup import get_logger
from .system.shortage import is_shortage

MAX_TURN_S = 0.02  # that an actor works on the bus thread before others have their turn

_log = get_logger("nightbus.actor")


class Supervision(msgspec.Struct, frozen=True):
    """The policy for handlers that raise.

    Attributes:
        restarts: maximum number of restarts within ``period_s``.
        period_s: the time over which restarts count, in s.
        backoff_s: wait before the first restart, in s; doubled for each further one.
        max_backoff_s: the longest wait, in s.
        then: what happens after the last restart: the actor stops, or the run ends gracefully.
    """

    restarts: int = 1
    period_s: float = 5.0
    backoff_s: float = 0.1
    max_backoff_s: float = 30.0
    then: Literal["stop_actor", "stop_run"] = "stop_actor"

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise UsageError(f"Supervision(restarts={self.restarts}): expected 0 or more")
        for name in ("period_s", "backoff_s", "max_backoff_s"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise UsageError(f"Supervision({name}={seconds}): expected seconds, 0 or more")
        if self.then not in ("stop_actor", "stop_run"):
            raise UsageError(f"Supervision(then={self.then!r}): expected stop_actor or stop_run")


class Context(Protocol):
    """The run, as an actor sees it."""

    @property
    def run_path(self) -> Path | None:
        """The run's folder; None if the run keeps none."""

    @property
    def ending(self) -> tuple[Ending, str] | None:
        """How the run ends and why, from when it begins to; None before, and in a replay."""

    def progress(self) -> object:
        """Return a value that changes as training goes on; None while it is paused."""

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        """Deliver a command, or make a dead letter of it.

        Args:
            target: the address of the actor.
            command: the command.
            sender: the name of the sender.
            reply: where to set the reply; None if none is expected.

        Returns:
            An awaitable that waits for room in the mailbox.
        """

    def statistics(self) -> BusStatistics:
        """Return counts of the run."""

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
        """

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        """Record a metric.

        Args:
            source: the name of the actor.
            name: the metric.
            value: the value, as for ``Actor.put``.
            destinations: labels of its destinations; the default ones if None.
        """

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        """Record an image, a text or another value that is more than a number.

        Args:
            source: the name of the actor.
            name: its name.
            media: the encoded value.
            destinations: labels of its destinations; the default ones if None.
        """

    def emit_user_event(self, source: str, event: UserEvent) -> None:
        """Record an event that a user defined.

        Args:
            source: the name of the actor.
            event: the event, with its own fields alone.
        """


@keeps_own_names
class Actor(LeavesRunBehind):
    """A unit with private state that handles one message at a time.

    Subscribe methods with ``@on``. Plain methods run on the training thread, coroutines on the bus
    thread.

    Attributes:
        name: its address, unique in a run; the class's name in lower case unless set.
        supervision: what happens when a handler raises. Without one, an actor with coroutines is
            restarted once in 5 s and then stopped, while a plain method's exception ends the run,
            like any exception on the training thread.
        mailbox_limit: how many commands may wait for it, and what happens to a command beyond that.
        poll_interval_s: how often it checks for new events and commands, in s.
        stop_timeout_s: how long it may take at the run's end, after the last event, in s.
        why_not_replayed: why it cannot work without live objects, for the error that a replay
            raises. Empty if it can be replayed.
    """

    name: str = ""
    supervision: Supervision | None = None
    mailbox_limit: MailboxLimit = DEFAULT_LIMIT
    poll_interval_s: float = 0.02
    stop_timeout_s: float = 5.0
    why_not_replayed: str = ""
    _of_run: ClassVar[tuple[str, ...]] = (
        "_nightbus_context",
        "_nightbus_address",
        "_nightbus_handler_table",
        "_nightbus_reported_lost",
    )
    _nightbus_context: Context | None = None
    _nightbus_address: str = ""
    _nightbus_handler_table: HandlerTable | None = None
    _nightbus_reported_lost: frozenset[str] = frozenset()  # media whose loss was reported

    @property
    def uses_network(self) -> bool:
        """True if it sends data to other machines; override it, or set it in the class.

        Replay accepts such an actor or sink only with ``allow_network=True``.
        """
        return False

    async def on_start(self) -> None:
        """Called on the bus thread before the first event, and again after each restart."""

    async def on_stop(self) -> None:
        """Called on the bus thread after the last event, and before each restart."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors for a checkpoint."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""

    def tell(self, target: str, command: Command) -> Told:
        """Send a command without waiting; one that reaches no actor becomes a dead letter.

        If the target's mailbox is full and blocks senders (``overflow="block"``), a coroutine waits
        by ``await self.tell(...)``, and a thread waits here. Training never waits: a full mailbox
        refuses its commands.

        Args:
            target: the actor's name, e.g. ``fit``.
            command: the command.

        Returns:
            An awaitable that waits for room in the mailbox.
        """
        return self._require_context("tell").post(target, command, actor_name(self), None)

    async def ask(self, target: str, command: Command, timeout_s: float = 5.0) -> Any:
        """Send a command and wait for the reply; only in coroutines.

        Args:
            target: the actor's name.
            command: the command.
            timeout_s: how long to wait, in s; never for ever.

        Returns:
            The handler's result.

        Raises:
            AskTimeoutError: no reply within ``timeout_s``.
            ActorRaisedError: the handler raised; ``__cause__`` is its exception.
            UnknownActorError, UnhandledCommandError, MailboxFullError, CommandDroppedError,
                ActorStoppedError: there will be no reply, for the reason that the name says.
        """
        check_deadline(timeout_s)
        reply = Reply()
        told = self._require_context("ask").post(target, command, actor_name(self), reply)
        return await reply.wait_async(timeout_s, told)

    def put(self, name: str, value: Any, destinations: Sequence[str] | None = None) -> None:
        """Record a metric: an event with a time, for each destination.

        Args:
            name: the metric.
            value: a float, int or bool, or a one-element tensor.
            destinations: labels of its destinations; by default progress_bar, callbacks, loggers.

        Raises:
            MetricError: name or value is not usable.
        """
        self._require_context("put").put(actor_name(self), name, value, destinations)

    def put_dict(
        self, metrics: Mapping[str, Any], destinations: Sequence[str] | None = None
    ) -> None:
        """Call ``put`` for each item of a mapping.

        Args:
            metrics: name -> value.
            destinations: labels of their destinations; the default ones of ``put`` if not given.
        """
        for name, value in metrics.items():
            self.put(name, value, destinations)

    def put_image(self, name: str, image: Any, destinations: Sequence[str] | None = None) -> None:
        """Record an image, as PNG; needs Pillow (the extra ``media``).

        An encoded value may take 256 KiB, or ``Trainer(max_media_bytes=...)``; this holds for the
        methods below too.

        Args:
            name: its name, as of a metric.
            image: a tensor or array of shape (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4;
                uint8, or floats from 0 to 1; or a Pillow image.
            destinations: labels of its destinations; loggers if not given.

        Raises:
            MetricError: it is not an image, or too large.
            MissingPackageError: Pillow is missing.
        """
        self._put_media("put_image", name, destinations, lambda: encode_image(name, image))

    def put_figure(self, name: str, figure: Any, destinations: Sequence[str] | None = None) -> None:
        """Record a matplotlib figure, as PNG.

        Args:
            name: its name, as of a metric.
            figure: the figure.
            destinations: labels of its destinations; loggers if not given.

        Raises:
            MetricError: it is not a figure, or too large.
        """
        self._put_media("put_figure", name, destinations, lambda: encode_figure(name, figure))

    def put_histogram(
        self, name: str, values: Any, bins: int = 64, destinations: Sequence[str] | None = None
    ) -> None:
        """Record the distribution of values as counts in bins of equal width.

        Args:
            name: its name, as of a metric.
            values: numbers of any shape; NaN and infinities are left out.
            bins: number of bins, up to 10,000.
            destinations: labels of its destinations; loggers if not given.

        Raises:
            MetricError: there are no finite numbers, or too many bins.
        """
        self._put_media(
            "put_histogram", name, destinations, lambda: encode_histogram(name, values, bins)
        )

    def put_text(self, name: str, text: str, destinations: Sequence[str] | None = None) -> None:
        """Record a text.

        Args:
            name: its name, as of a metric.
            text: the text.
            destinations: labels of its destinations; loggers if not given.

        Raises:
            MetricError: it is not a string, or too large.
        """
        self._put_media("put_text", name, destinations, lambda: encode_text(name, text))

    def put_table(
        self,
        name: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        destinations: Sequence[str] | None = None,
    ) -> None:
        """Record a table.

        Args:
            name: its name, as of a metric.
            columns: the columns' titles.
            rows: for each row, a value for each column: None, bool, int, float or str.
            destinations: labels of its destinations; loggers if not given.

        Raises:
            MetricError: a row has another length, a value is not plain, or it is too large.
        """
        self._put_media("put_table", name, destinations, lambda: encode_table(name, columns, rows))

    def _put_media(
        self,
        verb: str,
        name: str,
        destinations: Sequence[str] | None,
        encode: Callable[[], EncodedMedia],
    ) -> None:
        """Record the result of ``encode``.

        If the process lacks file descriptors or memory for it, a Fault records that the value is
        lost.
        """
        context = self._require_context(verb)
        try:
            media = encode()
        except Exception as error:
            if not is_shortage(error):
                raise
            message = f"{verb}({name!r}) is lost: {type(error).__name__}: {error}"
            context.emit(Fault, type(error).__name__, message, "", verb, source=actor_name(self))
            if name not in self._nightbus_reported_lost:
                object.__setattr__(
                    self, "_nightbus_reported_lost", self._nightbus_reported_lost | {name}
                )
                _log.warning(message, actor=actor_name(self))
            return
        context.put_media(actor_name(self), name, media, destinations)

    def emit(self, event: UserEvent) -> None:
        """Record an event of your own: with the time and where training is, for every observer.

        Plain methods that handle its type are called at once, on the training thread, where it is
        emitted from that; others get it out of the log.

        Args:
            event: an object of a class that derives from ``UserEvent`` and has a name.

        Raises:
            UsageError: it is none, takes more than 64 KiB, or a field does not hold what its type
                says.
        """
        self._require_context("emit").emit_user_event(actor_name(self), event)

    def _require_context(self, verb: str) -> Context:
        if self._nightbus_context is None:
            called = f"{type(self).__name__}.{verb}() was called"
            if child := child_process():
                raise OutsideRunError(
                    f"{called} in {child}, on a copy of it that is in no run; return the value to "
                    "the training process, for example with the batch, and put it in a hook there"
                )
            raise OutsideRunError(
                f"{called} outside a run; give the actor to Trainer(actors=[...]) or replay() and "
                "call it from a hook or handler"
            )
        return self._nightbus_context

    # -- called by the bus --------------------------------------------------------------------

    async def _on_poll(self) -> None:
        """Called on the bus thread each time before it checks for new events."""

    def _hook_methods(self) -> Mapping[str, tuple[Callable[..., Any], Sequence[str]]]:
        """Return methods that are hooks by name, with their arguments after trainer and module.

        Replay calls them too.
        """
        return {}

    def _async_table(self) -> HandlerTable:
        """Return the handlers that run on the bus thread."""
        return HandlerTable(self, [s for s in subscriptions_of(type(self)) if s.is_async])

    def _is_observer(self) -> bool:
        """Return whether it has work on the bus thread."""
        return any(entry.is_async for entry in subscriptions_of(type(self)))

    def _is_settled(self) -> bool:
        """Return whether the run may end as far as it is concerned, apart from unread events."""
        return True

    def _reads_log(self) -> bool:
        """Return whether it gets events; an observer that gets none is only started."""
        return True

    def _hook_selection(self) -> HookSelection:
        """Return which Hook events it needs."""
        table = self._nightbus_handler_table or self._async_table()
        return "all" if table.wants_hooks else "none"

    def _observed_hooks(self) -> set[str] | None:
        """Return the names of the hooks it observes; None for all of them."""
        return self._async_table().hook_names()

    async def _deliver(
        self, events: Sequence[DecodedEvent], delivered: Callable[[int], None]
    ) -> None:
        """Handle events in order, calling ``delivered`` with the next sequence number meanwhile."""
        table = self._nightbus_handler_table
        if table is None:
            table = self._async_table()
            # not setattr: that of a module is another
            object.__setattr__(self, "_nightbus_handler_table", table)
        handlers_of = table.handlers
        until_s = trio.current_time() + MAX_TURN_S
        for event in events:
            handlers = handlers_of(event)
            for handler in handlers:
                await handler(event)
            delivered(event.seq + 1)
            # A handler that awaits nothing would hold up all others.
            if handlers and trio.current_time() > until_s:
                await trio.lowlevel.checkpoint()
                until_s = trio.current_time() + MAX_TURN_S


def actor_name(actor: Actor) -> str:
    """Return an actor's address."""
    return actor._nightbus_address or actor.name or type(actor).__name__.lower()


def command_handler(
    actor: Actor, command: Command, is_async: bool
) -> Callable[[Any], Any | Awaitable[Any]] | None:
    """Return the method that handles a command, the one for its most specific type; or None.

    Args:
        actor: the actor.
        command: the command.
        is_async: look for a coroutine, otherwise for a plain method.
    """
    entries = [
        entry
        for entry in subscriptions_of(type(actor))
        if entry.is_async is is_async
        and issubclass(entry.kind, Command)
        and is_a(type(command), entry.kind)
    ]
    if not entries:
        return None
    # Of several for one type, the last is of the most derived class.
    best: Subscription = max(reversed(entries), key=lambda entry: len(entry.kind.__mro__))
    return getattr(actor, best.method)  # type: ignore[no-any-return]
