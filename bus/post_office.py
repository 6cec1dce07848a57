"""PostOffice: delivers commands to mailboxes, plain handlers, or the dead letters."""

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from .actor import Actor, command_handler
from .errors import (
    ActorRaisedError,
    ActorStoppedError,
    CommandDroppedError,
    MailboxFullError,
    UnhandledCommandError,
    UnknownActorError,
)
from .events import Command, CommandsDropped, CommandTaken, DeadLetter, Event
from .log.writer import LogWriter
from .mail.mailbox import Deferred, Envelope, Mailbox, Told, Undelivered
from .named_types import label_of, names_below
from .observer import to_json
from .subscription import subscriptions_of
from .system.logging_setup import get_logger
from .threads import Threads

_log = get_logger("nightbus.bus")


class Recorder(Protocol):
    """The bus as a post office uses it: knows actors, and records what happens to commands."""

    writer: LogWriter | None

    def call_attention(self) -> None:
        """Have the training thread look at what waits, at the next safe point."""

    def actor_at(self, address: str) -> Actor:
        """Return the actor at an address."""

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
        """

    def emit_later(
        self, kind: type[Event], make: Callable[[LogWriter], Event], summary: tuple[Any, ...]
    ) -> None:
        """Record an event that is created when the log takes it.

        Args:
            kind: the event's type.
            make: creates it.
            summary: source and first fields, for a warning if it is too late for the log.
        """


class PostOffice:
    """Delivers commands to the actors of a bus; created by the training thread.

    Args:
        bus: records what happens to them.
        threads: tells which thread a command comes from.

    Attributes:
        mailboxes: address -> mailbox of the present actors.
        dead_letters: number of commands that reached no actor.
        unknown: number of those sent to an unknown name.
        bus_thread: ident of the bus thread, once it runs.
        share: takes a command that all ranks have to handle at the same safe point, and returns
            whether it did; None if this process trains alone.
    """

    def __init__(self, bus: Recorder, threads: Threads) -> None:
        self._bus, self._threads = bus, threads
        self.mailboxes: dict[str, Mailbox] = {}
        self._aliases: dict[str, str] = {}  # alias -> address
        self.dead_letters = 0
        self.unknown = 0
        self._reported_unknown: set[str] = set()  # unknown addresses
        self.bus_thread: int | None = None
        self.share: Callable[[str, Envelope], bool] | None = None
        self._training_thread = threads.current()
        self._drops: dict[
            tuple[str, str, str], int
        ] = {}  # (target, command, sender) -> drops not recorded yet
        self._agenda: deque[str] = (
            deque()
        )  # addresses of plain handlers, one entry for each command
        self._agenda_filled = threading.Event()
        self._count_lock = threading.Lock()  # dead letters and drops

    # -- mailboxes ---------------------------------------------------------------------------

    def open_mailbox(self, address: str, actor: Actor) -> None:
        """Take commands for an actor from now on.

        Args:
            address: the actor's address.
            actor: the actor.
        """
        mailbox = Mailbox(
            actor.mailbox_limit,
            arrived=lambda: self._put_on_agenda(address),
            dropped=lambda envelope: self._drop(address, mailbox.limit.overflow, envelope),
        )
        self.mailboxes[address] = mailbox

    def close_mailbox(self, address: str, reason: str) -> Mailbox:
        """Refuse commands for an actor from now on; those waiting become dead letters.

        Args:
            address: the actor's address.
            reason: why, for the dead letters.

        Returns:
            The closed mailbox.
        """
        mailbox = self.mailboxes.pop(address)
        for envelope in mailbox.close():
            self.make_dead_letter(Undelivered(address, envelope, reason))
        return mailbox

    def close_all_but(self, addresses: Collection[str]) -> None:
        """Make dead letters of what other actors did not take, because the run ends."""
        for address, mailbox in list(self.mailboxes.items()):
            if address not in addresses:
                for envelope in mailbox.close():
                    reason = "the run ended before it was taken"
                    self.make_dead_letter(Undelivered(address, envelope, reason))

    def add_alias(self, alias: str, address: str) -> None:
        """Let commands to an alias reach an actor.

        Args:
            alias: the other name.
            address: the actor's address.
        """
        self.mailboxes[alias] = self.mailboxes[address]
        self._aliases[alias] = address

    # -- what can be sent --------------------------------------------------------------------

    def addresses(self) -> list[str]:
        """Return where commands can be sent to, in order; any thread may call it."""
        return sorted(self.mailboxes)

    def commands_of(self, address: str) -> list[str]:
        """Return the names of the commands that an actor handles and that have one, in order.

        Args:
            address: the actor's address.
        """
        actor = self._bus.actor_at(self._aliases.get(address, address))
        is_async = not self.waits_for_safe_point(address)
        kinds = [
            entry.kind
            for entry in subscriptions_of(type(actor))
            if entry.is_async is is_async and issubclass(entry.kind, Command)
        ]
        return sorted({name for kind in kinds for name in names_below(kind)})

    def waits_for_safe_point(self, address: str) -> bool:
        """Return whether an actor takes commands on the training thread, at safe points.

        Args:
            address: the actor's address.
        """
        return self.mailboxes[address].arrived is not None

    # -- delivery ----------------------------------------------------------------------------

    def post(self, target: str, envelope: Envelope) -> Told:
        """Deliver a command, or make a dead letter of it; see ``Bus.post``.

        Args:
            target: the address of the actor.
            envelope: the command.

        Returns:
            An awaitable that waits for room in the mailbox, if the policy demands it.
        """
        mailbox = self.mailboxes.get(target)
        if mailbox is None:
            near = ", ".join(sorted(self.mailboxes)) or "nobody"
            reason = f"there is no actor of that name in this run; there are: {near}"
            if (
                envelope.reply is None and target not in self._reported_unknown
            ):  # a waiting sender gets an error
                self._reported_unknown.add(target)
                kind = label_of(type(envelope.command))
                _log.warning(f"{kind} of {envelope.sender} to {target!r}: {reason}")
            self.make_dead_letter(Undelivered(target, envelope, reason, UnknownActorError))
            return Told()
        thread = self._threads.current()
        # The training thread never waits, and the bus thread must not be blocked.
        is_beside = thread == self.bus_thread
        if is_beside and mailbox.must_wait:
            return Told(Deferred(mailbox, lambda: self._deliver(target, mailbox, envelope, False)))
        may_block = not is_beside and thread != self._training_thread
        self._deliver(target, mailbox, envelope, may_block)
        return Told()

    def _deliver(self, target: str, mailbox: Mailbox, envelope: Envelope, may_block: bool) -> None:
        reason = mailbox.post(envelope, may_block)
        if reason:
            error = MailboxFullError if mailbox.is_open else ActorStoppedError
            self.make_dead_letter(Undelivered(target, envelope, reason, error))

    def make_dead_letter(self, undelivered: Undelivered) -> None:
        """Record a command that was not taken, and tell its sender."""
        undelivered.fail_reply()
        target, envelope, reason, error = undelivered
        with self._count_lock:
            self.dead_letters += 1
            self.unknown += error is UnknownActorError
        kind = label_of(type(envelope.command))
        _log.info("dead letter", target=target, command=kind, reason=reason)
        self._bus.emit(DeadLetter, target, kind, reason, source=envelope.sender)

    def _drop(self, target: str, policy: str, envelope: Envelope) -> None:
        """Record that a mailbox dropped a command; several of a kind share one event."""
        kind, sender = label_of(type(envelope.command)), envelope.sender
        if envelope.reply is not None:
            reason = f"{target}'s mailbox dropped {kind}, as its policy {policy} says"
            envelope.reply.fail(CommandDroppedError(reason))
        if self._bus.writer is None:  # there is no log
            return
        key = target, kind, sender
        with self._count_lock:
            is_told = key in self._drops
            self._drops[key] = self._drops.get(key, 0) + 1
        if is_told:
            return

        self._bus.emit_later(
            CommandsDropped,
            lambda writer: self._make_dropped(writer, key, policy),
            (sender, target, kind),
        )

    def _make_dropped(
        self, writer: LogWriter, key: tuple[str, str, str], policy: str
    ) -> CommandsDropped:
        target, kind, sender = key
        with self._count_lock:
            count = self._drops.pop(key)
        return writer.event(CommandsDropped, target, kind, policy, count, source=sender)

    # -- on the training thread --------------------------------------------------------------

    def _put_on_agenda(self, address: str) -> None:
        self._agenda.append(address)
        self._bus.call_attention()
        self._agenda_filled.set()

    def wait_for_command(self, timeout_s: float) -> None:
        """Block until a command waits for a plain handler, or the time is over."""
        self._threads.wait(self._agenda_filled, timeout_s)

    def take_commands(self) -> None:
        """Have plain handlers take the commands that wait for them; called at safe points.

        Commands that they send to one another wait for the next safe point; otherwise a cycle of
        them would never end.
        """
        self._agenda_filled.clear()
        for _ in range(len(self._agenda)):
            address = self._agenda.popleft()
            mailbox = self.mailboxes.get(address)
            # None if it was removed; with ``arrived`` unset if it runs on the bus thread by now.
            envelope = mailbox.take() if mailbox is not None and mailbox.arrived else None
            if mailbox is None or envelope is None:
                continue
            if self.share is None or not self.share(address, envelope):
                self.have_handled(address, envelope)

    def have_handled(self, address: str, envelope: Envelope) -> Any:
        """Have a plain handler take a command now; on the training thread.

        Args:
            address: the actor's address.
            envelope: the command.

        Returns:
            What the handler returned; None if there is none.
        """
        mailbox = self.mailboxes.get(address)
        if mailbox is None:
            reason = f"there is no {address} on this rank any more"
            self.make_dead_letter(Undelivered(address, envelope, reason))
            return None
        command, reply = envelope.command, envelope.reply
        kind = label_of(type(command))
        handler = command_handler(self._bus.actor_at(address), command, is_async=False)
        if handler is None:
            mailbox.refuse()
            reason = f"{address} has no handler for {kind}"
            self.make_dead_letter(Undelivered(address, envelope, reason, UnhandledCommandError))
            return None
        self._bus.emit(CommandTaken, address, kind, to_json(command), source=envelope.sender)
        try:
            value = handler(command)
        except Exception as error:
            if reply:
                reply.fail(ActorRaisedError(address, kind, error))
            raise
        except BaseException:
            if reply:
                what = f"{address} was interrupted while it handled {kind}"
                reply.fail(ActorStoppedError(what))
            raise
        if reply:
            reply.set(value)
        return value
