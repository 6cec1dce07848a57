"""Members: the actors of a run, by their addresses."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from .actor import Actor, Context, actor_name
from .copies import StaysInRun
from .errors import UsageError
from .event_recorder import EventRecorder
from .events import Event, Hook
from .mail.mailbox import Mailbox
from .own_names import refuse_taken_names
from .post_office import PostOffice
from .subscription import subscriptions_of


class Member(NamedTuple):
    """An actor of the run, or one that was removed."""

    name: str
    actor: Actor
    mailbox: Mailbox


class Members(StaysInRun):
    """Gives actors their addresses, their mailboxes and the events for their plain methods.

    Args:
        context: the run, as actors see it.
        recorder: passes events to plain methods.
        post_office: has the mailboxes.

    Attributes:
        removed: those that were removed.
    """

    def __init__(self, context: Context, recorder: EventRecorder, post_office: PostOffice) -> None:
        self._context = context
        self._recorder = recorder
        self._post_office = post_office
        self._actors: dict[str, Actor] = {}  # address -> actor
        self.removed: list[Member] = []

    @property
    def addresses(self) -> Collection[str]:
        """The addresses in use."""
        return self._actors.keys()

    def at(self, address: str) -> Actor:
        """Return the actor with an address."""
        return self._actors[address]

    def present(self) -> Iterable[Member]:
        """Return the actors that have a mailbox; any thread may call this."""
        mailboxes = self._post_office.mailboxes
        for name, actor in list(self._actors.items()):
            if name in mailboxes:
                yield Member(name, actor, mailboxes[name])

    def register(self, actor: Actor, address: str | None = None) -> str:
        """Give an actor an address and a mailbox.

        Args:
            actor: the actor.
            address: its address; its name, or its class's, if not given.

        Returns:
            The address.

        Raises:
            UsageError: another actor has the address, or it replaces a private method of a base.
        """
        refuse_taken_names(actor)
        name = self._free_address(actor, address)
        object.__setattr__(actor, "_nightbus_address", name)
        object.__setattr__(actor, "_nightbus_context", self._context)
        object.__setattr__(actor, "_nightbus_handler_table", None)
        self._actors[name] = actor
        self._post_office.open_mailbox(name, actor)
        of_plain_methods = [
            entry
            for entry in subscriptions_of(type(actor))
            if issubclass(entry.kind, Event) and entry.kind is not Hook and not entry.is_async
        ]
        if of_plain_methods:
            self._recorder.add_handlers(actor, of_plain_methods)
        return name

    def _free_address(self, actor: Actor, address: str | None) -> str:
        wanted = address or actor.name or type(actor).__name__.lower()
        name, number = wanted, 1
        while name in self._actors:
            if actor.name or address:
                raise UsageError(f"two actors are called {wanted!r}; give one another name")
            number += 1
            name = f"{wanted}-{number}"
        return name

    def hand_over(self, former: Actor, actor: Actor) -> None:
        """Replace an actor of the training thread: its address and mailbox pass to another one.

        Args:
            former: the actor that is replaced.
            actor: the new one.
        """
        name = actor_name(former)
        self._recorder.remove_handlers(former)
        mailbox = self._post_office.mailboxes[name]
        del self._actors[name]
        self.register(actor, name)
        mailbox.limit = actor.mailbox_limit
        self._post_office.mailboxes[name] = mailbox

    def add_alias(self, alias: str, address: str) -> None:
        """Deliver commands to ``alias`` to the actor at ``address``.

        Args:
            alias: the other name.
            address: the actor's address.
        """
        self._post_office.add_alias(alias, address)

    def remove(self, actor: Actor, reason: str) -> None:
        """Remove an actor: its mailbox refuses commands, its name is free.

        Args:
            actor: the actor.
            reason: why, for the log.
        """
        name = actor_name(actor)
        mailbox = self._post_office.close_mailbox(name, reason)
        self.removed.append(Member(name, actor, mailbox))
        del self._actors[name]
        self._recorder.remove_handlers(actor)
