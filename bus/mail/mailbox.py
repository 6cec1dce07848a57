"""Mailboxes: commands waiting for an actor, bounded and counted, none lost silently."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Literal, NamedTuple

import msgspec
import trio

from ..errors import ActorStoppedError, DeliveryError, UsageError
from ..events import Command
from ..statistics import MailboxStatistics
from .reply import Reply

Overflow = Literal["fail", "block", "drop_oldest", "drop_newest", "coalesce"]
OVERFLOWS: tuple[Overflow, ...] = ("fail", "block", "drop_oldest", "drop_newest", "coalesce")


class MailboxLimit(msgspec.Struct, frozen=True):
    """How many commands may wait for an actor, and what happens to a command beyond that.

    Attributes:
        capacity: maximum number of waiting commands.
        overflow: ``fail`` refuses the command, which makes it a dead letter. ``block`` has its
            sender wait for room, then fails. ``drop_oldest`` drops the command that has waited
            longest, ``drop_newest`` the new one. ``coalesce`` always keeps only the newest waiting
            command of each type and sender, and fails if the mailbox is full all the same.
        block_s: how long ``block`` has a sender wait, in s.
    """

    capacity: int = 1000
    overflow: Overflow = "fail"
    block_s: float = 1.0

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise UsageError(f"MailboxLimit(capacity={self.capacity}): expected 1 or more")
        if self.overflow not in OVERFLOWS:
            raise UsageError(
                f"MailboxLimit(overflow={self.overflow!r}): expected {', '.join(OVERFLOWS)}"
            )
        if not 0 <= self.block_s < float("inf"):
            raise UsageError(f"MailboxLimit(block_s={self.block_s}): expected seconds, 0 or more")


DEFAULT_LIMIT = MailboxLimit()


class Envelope(NamedTuple):
    """A command with its sender and reply."""

    command: Command
    sender: str
    reply: Reply | None


class Undelivered(NamedTuple):
    """A command that was not taken, which makes it a dead letter.

    Attributes:
        target: the address that it was sent to.
        envelope: the command.
        reason: why it was not taken, for people.
        error: what its sender gets instead of a reply, if it waits for one.
    """

    target: str
    envelope: Envelope
    reason: str
    error: type[DeliveryError] = ActorStoppedError

    def fail_reply(self) -> None:
        """Tell the sender, if it waits for a reply, that there will be none."""
        if self.envelope.reply is not None:
            self.envelope.reply.fail(self.error(f"{self.target}: {self.reason}"))


class Mailbox:
    """Commands for one actor, in order; any thread may post, only the actor's thread takes.

    Every command that is posted is delivered, dropped by the policy, or becomes a dead letter, and
    each is counted once.

    Args:
        limit: how many commands may wait, and what happens to a command beyond that.
        arrived: called when one more command waits, on the sender's thread; must not block.
        dropped: called with each command that the policy drops, on the sender's thread.
    """

    def __init__(
        self,
        limit: MailboxLimit = DEFAULT_LIMIT,
        arrived: Callable[[], None] | None = None,
        dropped: Callable[[Envelope], None] | None = None,
    ) -> None:
        self.limit = limit
        self.arrived = arrived
        self.is_open = True
        self._dropped = dropped
        self._waiting: deque[Envelope] = deque()
        # Guards all fields; notified when there is room, or never will be.
        self._room = threading.Condition()
        self._room_listeners: list[Callable[[], None]] = []  # for senders that must not block
        self._sent = self._delivered = self._drops = self._dead = self._most_waiting = 0

    # -- senders -----------------------------------------------------------------------------

    def post(self, envelope: Envelope, may_block: bool = True) -> str:
        """Add a command.

        Args:
            envelope: the command.
            may_block: ``overflow="block"`` may block this thread.

        Returns:
            Why the command was refused; an empty string if it was not.
        """
        with self._room:
            if may_block and self.limit.overflow == "block":
                self._room.wait_for(lambda: not self.must_wait, self.limit.block_s)
            self._sent += 1
            reason, dropped = self._admit(envelope)
            if reason:
                self._dead += 1
            self._drops += len(dropped)
            self._most_waiting = max(self._most_waiting, len(self._waiting))
        if self._dropped is not None:
            for each in dropped:
                self._dropped(each)
        # A command that replaces a dropped one is not announced, so that there are never more
        # announcements than commands, however many are dropped.
        if not reason and not dropped and self.arrived is not None:
            self.arrived()
        return reason

    async def wait_for_room(self) -> None:
        """Wait, in a trio task, until a post need not wait, for ``block_s`` at most."""
        token = trio.lowlevel.current_trio_token()
        with trio.move_on_after(self.limit.block_s):
            while True:
                freed = trio.Event()
                with self._room:
                    if not self.must_wait:
                        return
                    self._room_listeners.append(lambda freed=freed: token.run_sync_soon(freed.set))  # type: ignore[misc]
                await freed.wait()

    @property
    def must_wait(self) -> bool:
        """Return whether the policy has a sender wait now."""
        return (
            self.limit.overflow == "block"
            and self.is_open
            and len(self._waiting) >= self.limit.capacity
        )

    def _admit(self, envelope: Envelope) -> tuple[str, list[Envelope]]:
        """Return why it is refused, or an empty string; and what is dropped for it."""
        if not self.is_open:
            return "the actor has stopped", []
        waiting, overflow = self._waiting, self.limit.overflow
        dropped: list[Envelope] = []
        if overflow == "coalesce":
            kind = type(envelope.command)
            for older in waiting:
                if type(older.command) is kind and older.sender == envelope.sender:
                    dropped.append(older)
                    break
            for older in dropped:
                waiting.remove(older)
        if len(waiting) >= self.limit.capacity:
            if overflow == "drop_newest":
                return "", [envelope]
            if overflow != "drop_oldest":
                return f"the mailbox is full: {self.limit.capacity} commands are waiting", dropped
            dropped.append(waiting.popleft())
        waiting.append(envelope)
        return "", dropped

    # -- the actor ---------------------------------------------------------------------------

    def take(self) -> Envelope | None:
        """Return the next command, or None; it counts as delivered unless ``refuse`` is called."""
        if not self._waiting:
            return None
        with self._room:
            if not self._waiting:
                return None
            envelope = self._waiting.popleft()
            self._delivered += 1
            self._notify_room()
        return envelope

    def refuse(self) -> None:
        """Count the command that was taken last as a dead letter, because nothing handles it."""
        with self._room:
            self._delivered -= 1
            self._dead += 1

    def close(self) -> list[Envelope]:
        """Refuse further commands; return those still waiting, which are dead letters now."""
        with self._room:
            self.is_open = False
            left = list(self._waiting)
            self._waiting.clear()
            self._dead += len(left)
            self._notify_room()
        return left

    def _notify_room(self) -> None:
        self._room.notify_all()
        tell, self._room_listeners = self._room_listeners, []
        for each in tell:
            with contextlib.suppress(trio.RunFinishedError):  # the waiting run is gone
                each()

    def statistics(self) -> MailboxStatistics:
        """Return how many commands came, and what happened to them."""
        with self._room:
            return MailboxStatistics(
                capacity=self.limit.capacity,
                overflow=self.limit.overflow,
                waiting=len(self._waiting),
                most_waiting=self._most_waiting,
                sent=self._sent,
                delivered=self._delivered,
                dropped=self._drops,
                dead=self._dead,
            )

    @property
    def waiting(self) -> int:
        """Number of commands that wait."""
        return len(self._waiting)

    @property
    def sent(self) -> int:
        """Number of commands that were sent."""
        return self._sent

    @property
    def settled(self) -> int:
        """Number of commands that wait no more: delivered, dropped, or dead letters."""
        with self._room:
            return self._sent - len(self._waiting)


class Told:
    """The awaitable result of ``tell``; usually there is nothing to wait for.

    When a coroutine tells an actor whose full mailbox blocks senders, awaiting this waits for room.
    If the coroutine does not await it, the command is refused.

    Args:
        deliver: delivers, with or without waiting, what could not be delivered at once.
    """

    def __init__(self, deliver: "Deferred | None" = None) -> None:
        self._deferred = deliver

    def __await__(self) -> Generator[Any, Any, None]:
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            yield from deferred.deliver_when_room().__await__()

    def __del__(self) -> None:
        if self._deferred is not None:
            self._deferred.deliver_now()


class Deferred(NamedTuple):
    """A command whose sender may wait for room, but not by blocking its thread."""

    mailbox: Mailbox
    deliver_now: Callable[[], None]

    async def deliver_when_room(self) -> None:
        """Wait for room, then deliver, even if the wait is cancelled, so that none is lost."""
        try:
            await self.mailbox.wait_for_room()
        finally:
            self.deliver_now()
