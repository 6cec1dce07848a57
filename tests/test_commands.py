"""Commands in a run: each ends as delivered, dropped or dead, each ask with a reply or a reason."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from models import Small, events, loader, trainer

import nightbus as nb


class Note(nb.Command, frozen=True, kw_only=True):
    number: int


class Fail(nb.Command, frozen=True, kw_only=True):
    """Raise."""


class Ask(nb.Command, frozen=True, kw_only=True):
    """Nobody handles it."""


class Hold(nb.Command, frozen=True, kw_only=True):
    """Be busy until the test is done."""


class Takes(nb.Actor):
    """Takes notes beside the step, and is held up or fails where it is told to."""

    supervision = nb.Supervision(restarts=0)

    def __init__(self, limit: nb.MailboxLimit | None = None) -> None:
        self.mailbox_limit = limit or self.mailbox_limit
        self.notes: list[int] = []
        self.is_held = threading.Event()
        self.go_on = threading.Event()

    @nb.on(Note)
    async def note(self, command: Note) -> int:
        self.notes.append(command.number)
        return command.number

    @nb.on(Fail)
    async def fail(self, command: Fail) -> None:
        raise ValueError("as told")

    @nb.on(Hold)
    async def hold(self, command: Hold) -> None:
        self.is_held.set()
        await trio.to_thread.run_sync(self.go_on.wait)


class Asks(nb.Actor):
    """Does in one handler, beside the step, what a test wants done; training goes on until then."""

    def __init__(self, errand: Any) -> None:
        self.errand = errand
        self.failure: BaseException | None = None

    @nb.on(nb.LoopStarted, where=lambda started: started.source == "fit")
    async def go(self, started: nb.LoopStarted) -> None:
        try:
            await self.errand(self)
        except BaseException as error:
            self.failure = error
        finally:
            self.tell("fit", nb.Stop())


def run_errand(folder: Path, errand: Any, *others: nb.Actor) -> tuple[nb.Trainer, Asks]:
    asks = Asks(errand)
    run = trainer(folder, actors=[*others, asks], enable_checkpointing=False, max_epochs=-1)
    run.fit(Small(), loader(8))
    return run, asks


# -- an ask ends with the reply or the reason why there is none -----------------------------------


def test_an_ask_is_answered(tmp_path: Path) -> None:
    answers = []

    async def errand(asks: nb.Actor) -> None:
        answers.append(await asks.ask("takes", Note(number=7)))

    _, asks = run_errand(tmp_path, errand, Takes())

    assert (answers, asks.failure) == ([7], None)


async def ask_nobody(asks: nb.Actor) -> None:
    await asks.ask("nobody", Note(number=1))


async def ask_what_is_not_handled(asks: nb.Actor) -> None:
    await asks.ask("takes", Ask())


async def ask_in_the_step_what_is_not_handled(asks: nb.Actor) -> None:
    await asks.ask("fit", Ask())


async def ask_what_fails(asks: nb.Actor) -> None:
    await asks.ask("takes", Fail())


async def ask_who_has_stopped(asks: nb.Actor) -> None:
    asks.tell("takes", Fail())
    await asks.ask("takes", Note(number=1))


async def ask_who_takes_too_long(asks: nb.Actor) -> None:
    try:
        await asks.ask("takes", Hold(), timeout_s=0.01)
    finally:
        TAKES[-1].go_on.set()


async def ask_without_a_deadline(asks: nb.Actor) -> None:
    await asks.ask("takes", Note(number=1), timeout_s=float("inf"))


async def hold_and_fill(asks: nb.Actor) -> None:
    """Leave room for nothing more."""
    asks.tell("takes", Hold())
    await trio.to_thread.run_sync(TAKES[-1].is_held.wait)
    asks.tell("takes", Note(number=0))


async def ask_who_has_a_full_mailbox(asks: nb.Actor) -> None:
    await hold_and_fill(asks)
    try:
        await asks.ask("takes", Note(number=1))
    finally:
        TAKES[-1].go_on.set()


TAKES: list[Takes] = []  # the one of the test that runs
FULL = nb.MailboxLimit(capacity=1)
NEWEST = nb.MailboxLimit(capacity=1, overflow="drop_newest")
BLOCK = nb.MailboxLimit(capacity=1, overflow="block", block_s=0.01)


@pytest.mark.parametrize(
    ("errand", "limit", "failure", "message"),
    [
        (ask_nobody, None, nb.UnknownActorError, "nobody: there is no actor of that name"),
        (ask_what_is_not_handled, None, nb.UnhandledCommandError, "no handler for Ask"),
        (ask_in_the_step_what_is_not_handled, None, nb.UnhandledCommandError, "fit: fit has no"),
        (ask_what_fails, None, nb.ActorRaisedError, "takes raised on Fail: ValueError: as told"),
        (ask_who_has_stopped, None, nb.ActorStoppedError, "takes: the actor "),
        (ask_who_takes_too_long, None, nb.AskTimeoutError, r"no reply within 0\.01 s"),
        (ask_without_a_deadline, None, nb.UsageError, "an ask always has a deadline"),
        (ask_who_has_a_full_mailbox, FULL, nb.MailboxFullError, "the mailbox is full: 1 commands"),
        (ask_who_has_a_full_mailbox, BLOCK, nb.MailboxFullError, "the mailbox is full: 1 commands"),
        (ask_who_has_a_full_mailbox, NEWEST, nb.CommandDroppedError, "policy drop_newest says"),
    ],
)
def test_an_ask_that_is_not_answered_fails_with_the_reason(
    errand: Any,
    limit: nb.MailboxLimit | None,
    failure: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    TAKES.append(Takes(limit))

    _, asks = run_errand(tmp_path, errand, TAKES[-1])

    with pytest.raises(failure, match=message):
        raise asks.failure or AssertionError("it was answered")


def test_training_never_waits_for_room_in_a_mailbox(tmp_path: Path) -> None:
    takes = Takes(nb.MailboxLimit(capacity=1, overflow="block", block_s=3600))

    class Tells(nb.Actor):
        @nb.on("on_train_start")
        def tell_often(self, hook: Any) -> None:
            self.tell("takes", Hold())
            takes.is_held.wait()
            for number in range(5):
                self.tell("takes", Note(number=number))
            takes.go_on.set()

    run = trainer(tmp_path, actors=[takes, Tells()])
    run.fit(Small(), loader(8))

    assert takes.notes == [0]
    assert len(events(run, nb.DeadLetter)) == 4


def test_a_coroutine_that_awaits_tell_waits_for_room(tmp_path: Path) -> None:
    TAKES.append(Takes(nb.MailboxLimit(capacity=1, overflow="block", block_s=3600)))

    async def errand(asks: nb.Actor) -> None:
        await hold_and_fill(asks)
        TAKES[-1].go_on.set()
        for number in range(1, 5):
            await asks.tell("takes", Note(number=number))

    run, asks = run_errand(tmp_path, errand, TAKES[-1])

    assert asks.failure is None
    assert TAKES[-1].notes == [0, 1, 2, 3, 4]
    assert events(run, nb.DeadLetter) == []


# -- none vanishes -------------------------------------------------------------------------------


class Trips(Takes):
    """Fails at every third note, and is restarted."""

    supervision = nb.Supervision(restarts=1_000, backoff_s=0.0)

    @nb.on(Note)
    async def note(self, command: Note) -> int:
        if command.number % 3 == 0:
            raise ValueError("tripped")
        return await super().note(command)


class InStep(nb.Actor):
    """Takes notes in the step."""

    mailbox_limit = nb.MailboxLimit(capacity=3, overflow="drop_oldest")

    def __init__(self) -> None:
        self.notes: list[int] = []

    @nb.on(Note)
    def note(self, command: Note) -> None:
        self.notes.append(command.number)


TARGETS = ("takes", "trips", "mortal", "instep", "leaves", "nobody")


@pytest.mark.parametrize("policy", ["fail", "drop_oldest", "drop_newest", "coalesce"])
def test_what_is_sent_is_delivered_dropped_or_dead_and_the_log_counts_the_same(
    policy: Any, tmp_path: Path
) -> None:
    limit = nb.MailboxLimit(capacity=4, overflow=policy)
    takes, trips, mortal, leaves = Takes(limit), Trips(limit), Takes(limit), Takes(limit)
    mortal.name, leaves.name = "mortal", "leaves"

    class Sends(nb.Actor):
        sent = 0

        @nb.on("on_train_batch_end")
        def send(self, hook: Any) -> None:
            for target in TARGETS * 10:
                self.tell(target, Note(number=self.sent))
                self.sent += 1
            if hook.batch_idx == 1:
                self.tell("mortal", Fail())
                self.sent += 1
            if hook.batch_idx == 2:
                hook.trainer.detach(leaves)

    sends = Sends()
    run = trainer(tmp_path, actors=[takes, trips, mortal, leaves, InStep(), sends])
    run.fit(Small(), loader())

    totals = events(run, nb.ActorTotals)
    drops, letters = events(run, nb.CommandsDropped), events(run, nb.DeadLetter)
    unknown = [letter for letter in letters if letter.reason.startswith("there is no actor")]
    for each in totals:
        dropped = sum(drop.count for drop in drops if drop.target == each.source)
        taken = [one for one in events(run, nb.CommandTaken) if one.target == each.source]
        dead = [one for one in letters if one.target == each.source and one not in unknown]
        assert each.sent == each.delivered + each.dropped + each.dead, each
        assert (each.delivered, each.dropped, each.dead) == (len(taken), dropped, len(dead))
    assert {letter.target for letter in unknown} == {"nobody", "leaves"}  # which has left
    assert sum(each.sent for each in totals) + len(unknown) == sends.sent
    assert {each.source for each in totals} == set(TARGETS) - {"nobody"}


def test_commands_of_one_sender_are_acted_on_in_their_order_and_so_recorded(
    tmp_path: Path,
) -> None:
    takes, in_step = Takes(), InStep()
    in_step.mailbox_limit = nb.MailboxLimit()

    class Sends(nb.Actor):
        def __init__(self, name: str, first: int) -> None:
            self.name = name
            self.next = first

        @nb.on(nb.Hook)
        async def send(self, hook: nb.Hook) -> None:
            for target in ("takes", "instep"):
                self.tell(target, Note(number=self.next))
            self.next += 10

    class Enough(nb.Callback):
        """Trains until all senders were heard; training does not wait for them."""

        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            heard = Counter(note % 10 for notes in (takes.notes, in_step.notes) for note in notes)
            trainer.should_stop = all(heard[digit] > 40 for digit in range(3))

    senders = [Sends(f"sender{digit}", digit) for digit in range(3)]
    actors = [takes, in_step, *senders]
    run = trainer(tmp_path, max_epochs=-1, actors=actors, callbacks=[Enough()])
    run.fit(Small(), loader())

    for target, notes in (("takes", takes.notes), ("instep", in_step.notes)):
        recorded = [one for one in events(run, nb.CommandTaken) if one.target == target]
        assert [one.arguments for one in recorded] == [f'{{"number":{note}}}' for note in notes]
        for digit in range(3):
            of_sender = [note for note in notes if note % 10 == digit]
            assert of_sender == sorted(of_sender)
            assert len(of_sender) > 10


def test_dropped_commands_of_a_step_are_one_event_with_their_number(tmp_path: Path) -> None:
    in_step = InStep()

    class Sends(nb.Actor):
        @nb.on("on_train_batch_start")
        def send(self, hook: Any) -> None:
            if hook.batch_idx == 0:
                for number in range(100):
                    self.tell("instep", Note(number=number))

    run = trainer(tmp_path, actors=[in_step, Sends()])
    run.fit(Small(), loader())

    (dropped,) = events(run, nb.CommandsDropped)
    assert (dropped.target, dropped.command, dropped.source) == ("instep", "Note", "sends")
    assert (dropped.policy, dropped.count) == ("drop_oldest", 97)
    assert in_step.notes == [97, 98, 99]


def test_giving_up_can_end_the_run_and_is_recorded_as_the_reason(tmp_path: Path) -> None:
    class Vital(Takes):
        supervision = nb.Supervision(restarts=2, backoff_s=0.0, then="stop_run")

        @nb.on(nb.Put)
        async def watch(self, put: nb.Put) -> None:
            raise ValueError("cannot go on")

    run = trainer(tmp_path, max_epochs=-1, actors=[Vital()])
    run.fit(Small(), loader())

    reason = "gave up after 2 restarts: ValueError: cannot go on"
    assert len(events(run, nb.ActorRestarted)) == 2
    assert [event.reason for event in events(run, nb.ActorStopped)] == [reason]
    (ended,) = events(run, nb.RunEnded)
    assert (ended.how, ended.reason) == ("stopped", f"vital {reason}")
