"""A seeded simulation of ranks that agree on points, in virtual time, with faults.

A seed is a world: some ranks, each with a training thread and a side thread, a store and a chair.
They have the product's own Member, Chair and RollCall; all else is played. The seed decides how
long everything takes, who gets its turn at each moment that matters, what is asked by whom, and
whether a rank raises, dies, stops or hangs. Afterwards what is promised is checked; a violation
names its seed, and the same seed does the same again::

    python tests/faults/ranks_simulation.py --seeds 100000 --seed 1
    python tests/faults/ranks_simulation.py --seeds 1 --seed 4711 --trace

A member's methods run one at a time, under a lock, but for ``come`` and the readings of ``point``,
and there the other thread may get its turn: when the side thread reads the point, the training
thread may come to further points before the reading and after it; while the training thread counts
a point, before and after, and before it looks, the side thread may take messages.
"""

import argparse
import random
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

from nightbus.bus.errors import RankLostError
from nightbus.bus.ranks.agreement import Chair, Member
from nightbus.bus.ranks.asks import PAUSE, RESUME, STOP
from nightbus.bus.ranks.messages import (
    Activity,
    Answer,
    Arrived,
    Ask,
    Decision,
    Failure,
    Met,
    Proposal,
    Whereabouts,
    decode,
    encode,
    failure,
)
from nightbus.bus.ranks.roll_call import RollCall

BEAT_S, ROLL_S, SILENCE_S, HANG_S, GRACE_S = 1.0, 0.5, 3.0, 6.0, 0.3
MAX_EVENTS_OF_RANK = 100_000
END = "end"  # of a run by a signal: at once, also in an evaluation
# What an ask is overruled by: acting on it is as good as acting on the ask.
AS_GOOD = {PAUSE: {PAUSE, RESUME, STOP}, RESUME: {RESUME, PAUSE, STOP}}
CAUSES = {"raises": "raised", "dies": "dead", "stops": "silent", "hangs": "stuck"}
FAULTS = tuple(CAUSES)


class Violated(Exception):
    """A promise was not kept."""


class World(NamedTuple):
    """What came of a seed.

    Attributes:
        trace: all that happened, a line each; empty if not asked for.
        counts: how much of what.
        violation: what promise was not kept; empty if all were.
    """

    trace: list[str]
    counts: Counter[str]
    violation: str


class Watched(Member):
    """A member at whose readings of its point the other thread may get its turn.

    Args:
        rank: its rank.
        player: plays its threads.

    Attributes:
        count: the point, for those who are neither of its threads.
    """

    __slots__ = ("count", "player")

    def __init__(self, rank: int, player: "Rank") -> None:
        self.count, self.player = 0, player
        super().__init__(rank)

    @property
    def point(self) -> int:
        if not self.player.is_side_threads_turn:
            self.player.let_side_thread_go_on()
            return self.count
        self.player.let_training_go_on()
        count = self.count
        self.player.let_training_go_on()
        return count

    @point.setter
    def point(self, count: int) -> None:
        self.count = count
        self.player.let_side_thread_go_on()


class Rank:
    """Plays the training thread and the side thread of a rank.

    Args:
        world: where it is.
        number: its number.
        member_type: what answers proposals.
        steps: how many it does, if nothing stops it.
        step_s: how long one takes, about.

    Attributes:
        phase: what its training thread is doing: it ``steps``, stands at a ``barrier``, is
            ``released`` from it, ``attends``, ``waits`` for a decision, ``meets`` the others after
            an evaluation, ``rests``, ``leaves``, has ``left``, ``hangs``, is ``lost`` because of
            another, or ``gone``.
        acted: the points at which it acted, and on what.
        passed: the last point that it has done with.
    """

    def __init__(
        self,
        world: "Simulation",
        number: int,
        member_type: type[Member],
        steps: int,
        step_s: float,
    ) -> None:
        self.world, self.number = world, number
        self.is_side_threads_turn = self._is_nested = self._is_counting = False
        self.is_side_thread_there = True
        watched = type("Watched", (Watched, member_type), {"__slots__": ()})
        self.member: Watched = watched(number, self)
        self.phase = "steps"
        self.inbox: deque[Proposal | Decision | Met] = deque()
        self.acted: list[tuple[int, tuple[str, ...]]] = []
        self.passed = 0
        self.will_hang = False
        self._steps, self._step_s = steps, step_s
        self._is_paused = False
        self._steps_done = self._meetings = 0
        self._batches: int | None = None  # left of an evaluation; None outside of one
        self._put_off: list[str] = []  # until training goes on
        self._turn = 0  # what was planned for an earlier one is void
        self._beats = 0
        self._is_at_meeting = False

    # -- the training thread -----------------------------------------------------------------

    def take_steps(self, steps: int) -> None:
        """Do so many steps, if nothing stops it."""
        self._steps = steps

    def soon(self, phase: str, do: Callable[[], None], delay_s: float) -> None:
        """Be in a phase, and then do something, unless something else comes before."""
        self.phase = phase
        self._turn += 1
        turn = self._turn
        self.world.after(delay_s, lambda: do() if turn == self._turn else None)

    def go_on(self) -> None:
        """Begin the next step or batch of an evaluation, meet the others, rest, or leave."""
        if self.phase == "left":
            return
        if self._batches == 0:
            self.look_at_meeting()
        elif self._is_paused:
            if self.member.attention:
                self.soon("released", self.come, self.world.little_s())
            else:
                self.phase = "rests"
        elif not self._steps:
            self.soon("leaves", self.leave, self.world.little_s())
        elif self.will_hang:
            self.world.has_failed(self, "hangs")
            self.phase = "hangs"
        else:
            self._begin_step()
            self.soon("steps", self.finish_step, self._step_s * self.world.chance.uniform(0.5, 1.5))

    def _begin_step(self) -> None:
        if self._batches is not None:
            self._batches -= 1
            return
        self._steps -= 1
        self._steps_done += 1

    def look_at_meeting(self) -> None:
        """Arrive after an evaluation, with the lock, and wait there until all have."""
        member, world = self.member, self.world
        if self.phase != "meets" and not self._is_at_meeting:
            self._is_at_meeting = True
            self._meetings += 1
            arrived = member.arrive(1, self._meetings)
            world.after(world.delay_s(), lambda: world.meet(self.number, arrived))
        self.phase = "meets"
        if member.failure is not None:
            self.phase = "lost"
        elif member.has_met:
            self._batches, self._is_at_meeting = None, False
            world.counts["meetings"] += 1
            self.go_on()
        elif member.is_behind:
            world.counts["points without a batch"] += 1
            self.soon("released", self.come, world.little_s())

    def finish_step(self) -> None:
        """Come to the next point, together with the others where they are kept together."""
        if self.world.is_lockstep and self._batches is None:
            self.phase = "barrier"
            self.world.arrive()
        else:
            self.come()

    def come(self) -> None:
        """Come to the next point, and look if that is needed; nothing here needs the lock."""
        self._is_counting = True
        attention = self.member.come()
        self._is_counting = False
        if attention:
            self.soon("attends", self.attend, self.world.little_s())
        else:
            self.pass_point()

    def attend(self) -> None:
        """Look, with the lock: wait, act or end."""
        if self.member.must_wait:
            self.world.counts["waits"] += self.phase != "waits"
            self.phase = "waits"
            return
        try:
            asks = self.member.take()
        except RankLostError as error:
            if error.rank != self.world.culprit:
                raise Violated(f"rank {self.number} takes rank {error.rank} for lost") from error
            self.phase = "lost"
            return
        if asks:
            self.act(asks)
        self.pass_point()

    def act(self, asks: tuple[Ask, ...]) -> None:
        """Act on asks."""
        point, kinds = self.member.point, tuple(ask.kind for ask in asks)
        self.world.tell(lambda: f"rank {self.number} acts at {point} on {' '.join(kinds)}")
        if self.world.decided.get(point) != kinds:
            raise Violated(f"rank {self.number} acts at {point} on {kinds}, which is not decided")
        self.acted.append((point, kinds))
        self._put_off += kinds
        if END in kinds:
            self.passed = point
            self.leave()

    def _do_what_was_put_off(self) -> None:
        for kind in self._put_off:
            if kind == PAUSE:
                self._is_paused = True
                self.world.was_paused(self.member.count)
            elif kind == RESUME:
                self._is_paused = False
            elif kind == STOP:
                self._is_paused, self._steps = False, 0
        self._put_off = []

    def pass_point(self) -> None:
        """Have done with a point; training goes on, unless it was in an evaluation."""
        self.passed = self.member.count
        if self._batches is None:
            self._do_what_was_put_off()
            if not self._is_paused and self._steps:
                self._batches = self.world.batches(self.number, self._steps_done)
        self.go_on()

    def leave(self) -> None:
        """Come to no further point."""
        self.world.tell(lambda: f"rank {self.number} leaves after {self.passed}")
        self.phase = "left"
        self.world.has_left()

    # -- the side thread ---------------------------------------------------------------------

    def get(self, message: Proposal | Decision | Met) -> None:
        """Find a message in the store, after a while."""
        self.inbox.append(message)
        self.world.after(self.world.delay_s(), self.take_message)

    def take_message(self) -> None:
        """Give the next message to the member, and send its answer."""
        if self.inbox and self.is_side_thread_there:
            self.hand_over(self.inbox.popleft())

    def hand_over(self, message: Proposal | Decision | Met | Failure) -> None:
        """Give a message to the member, send its answer, and wake the training thread."""
        self.is_side_threads_turn = True
        answer = self.member.receive(message)
        self.is_side_threads_turn = False
        if answer is not None:
            self.world.tell(lambda: f"rank {self.number} is {answer.readiness} {answer.number}")
            self.world.after(self.world.delay_s(), lambda: self.world.answer(answer))
        if self.phase == "waits":
            self.soon("waits", self.attend, self.world.little_s())
        elif self.phase == "meets":
            self.soon("meets", self.look_at_meeting, self.world.little_s())
        elif self.phase == "rests" and self.member.attention:
            self.soon("released", self.come, self.world.little_s())

    def hear_of_loss(self, word: Failure) -> None:
        """Hear that a rank is lost; whoever cannot end by itself is ended after a grace."""
        if self.is_side_thread_there:
            self.hand_over(word)
            self.world.after(GRACE_S, self.end_by_force)

    def end_by_force(self) -> None:
        """Be ended by the side thread, whatever the training thread is doing."""
        if self.phase in ("waits", "attends", "meets"):
            raise Violated(f"rank {self.number} waits though a rank is lost")
        if self.phase not in ("left", "gone"):
            self._turn += 1
            self.phase = "lost"

    def beat(self) -> None:
        """Send where it is, every now and then, as long as the world lasts."""
        if self.is_side_thread_there and not self.world.is_over:
            self._beats += 1
            progress = 1 if self.phase == "barrier" else 0
            activities: dict[str, Activity] = {"rests": "rests", "left": "left"}
            activity = activities.get(self.phase, "waits" if self._is_at_meeting else "trains")
            where = Whereabouts(
                self.number,
                self._beats,
                self.member.count,
                progress,
                self.phase,
                self._steps,
                activity,
            )
            self.world.after(self.world.delay_s(), lambda: self.world.hear_beat(where))
            self.world.after(BEAT_S, self.beat)

    # -- where the other thread gets its turn --------------------------------------------------

    def let_training_go_on(self) -> None:
        """Let the training thread go on as far as it can without the lock."""
        while self.phase in ("steps", "released") and self.world.chance.random() < 0.3:
            self._turn += 1
            self._is_nested, self.is_side_threads_turn = True, False
            (self.come if self.phase == "released" else self.finish_step)()
            self._is_nested, self.is_side_threads_turn = False, True

    def let_side_thread_go_on(self) -> None:
        """Let the side thread take a message, while the training thread counts a point."""
        if (
            self._is_counting
            and self.inbox
            and not self._is_nested
            and self.world.chance.random() < 0.3
        ):
            self._is_nested = True
            phase, self.phase = self.phase, "counts"
            self.take_message()
            self.phase = phase
            self._is_nested = False


class Simulation:
    """The world of a seed: the store, the chair, the roll call, time and chance.

    Args:
        seed: decides all.
        ranks: how many; by chance if None.
        member_type: what answers proposals on each rank.
        chair_type: what makes them.
        is_traced: keep all that happens.
    """

    def __init__(
        self,
        seed: int,
        ranks: int | None,
        member_type: type[Member],
        chair_type: type[Chair],
        is_traced: bool,
    ) -> None:
        self.chance = chance = random.Random(seed)
        self.counts, self.trace = Counter[str](), list[str]()
        self.now_s = 0.0
        self._is_traced = is_traced
        self._events: list[tuple[float, float, int, Callable[[], None]]] = []
        self._planned = 0
        ranks = ranks or chance.choice([2, 2, 3, 4])
        self.is_lockstep = chance.random() < 0.5
        self._delay_s = chance.choice([0.0001, 0.003, 0.03])
        steps = chance.randrange(5, 40)
        self.ranks = [
            Rank(
                self,
                number,
                member_type,
                steps if self.is_lockstep else chance.randrange(1, 2 * steps),
                0.01 * (1 if self.is_lockstep else chance.choice([0.1, 1, 1, 8])),
            )
            for number in range(ranks)
        ]
        self._evaluations: dict[int, list[int]] = {}  # after a step: batches of each rank
        if chance.random() < 0.5:
            for _ in range(chance.choice([1, 2, 5])):
                longest = chance.choice([1, 3, 20])
                self._evaluations[chance.randrange(1, 40)] = [
                    chance.randrange(longest + 1) for _ in range(ranks)
                ]
            if not self.is_lockstep:  # all come to all of them
                for rank in self.ranks:
                    rank.take_steps(steps)
        self.chair = chair_type(ranks)
        self.roll = RollCall(ranks, SILENCE_S, HANG_S, 0.0)
        self.decided: dict[int, tuple[str, ...]] = {}
        self.asked: list[Ask] = []
        self.culprit = -1
        self.is_over = False
        self._cause = ""
        self._arrived = self._left = 0
        self._answers: dict[int, Counter[str]] = {}
        self._read = Counter[str]()
        self._is_chair_planned = False
        self._paused_at = 0

    # -- time and chance ---------------------------------------------------------------------

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        """Plan something; what comes at the same time comes in an order of chance."""
        self._planned += 1
        heappush(self._events, (self.now_s + delay_s, self.chance.random(), self._planned, do))

    def delay_s(self) -> float:
        """How long something takes on its way: mostly little, sometimes much."""
        return self._delay_s * self.chance.choice([0.0, 0.5, 1.0, 1.0, 10.0])

    def little_s(self) -> float:
        """How long a thread takes to do the next thing: mostly nothing."""
        return self.chance.choice([0.0, 0.0, 0.00001, 0.002])

    def tell(self, line: Callable[[], str]) -> None:
        """Keep what happened, if that is asked for."""
        if self._is_traced:
            self.trace.append(f"{self.now_s:.6f} {line()}")

    # -- the store and the chair -------------------------------------------------------------

    def answer(self, answer: Answer) -> None:
        """Count an answer."""
        self._answers.setdefault(answer.number, Counter())[answer.readiness] += 1
        self.chair_soon()

    def ask(self, rank: Rank, kind: str) -> None:
        """Have a rank ask for something."""
        if not rank.is_side_thread_there:
            return
        message = decode(encode(rank.member.ask(kind)))
        assert isinstance(message, Ask)
        self.asked.append(message)
        self.tell(lambda: f"rank {rank.number} asks for {kind} after {message.point}")
        self.after(self.delay_s(), lambda: self.hear_ask(message))

    def hear_ask(self, ask: Ask) -> None:
        """Have the chair find an ask in the queue."""
        self.chair.hear(ask)
        self.chair_soon()

    def chair_soon(self) -> None:
        """Have the chair look into the store, once."""
        if not self._is_chair_planned:
            self._is_chair_planned = True
            self.after(self.delay_s(), self.chair_looks)

    def chair_looks(self) -> None:
        """Read the counters, each at a moment of its own, and decide; propose what waits."""
        self._is_chair_planned = False
        if not self.ranks[0].is_side_thread_there:
            return
        if self.chair.proposal is not None:
            answers = self._answers.setdefault(self.chair.proposal.number, Counter())
            for readiness in ("ready", "late"):
                if self.chance.random() < 0.7:
                    self._read[readiness] = answers[readiness]
            if self._read != answers:
                self.chair_soon()
            self.decide(self.chair.proposal)
        proposal = self.chair.propose(self.ranks[0].member.point)
        if proposal is not None:
            self._read = Counter()
            self.counts["proposals"] += 1
            kinds = " ".join(ask.kind for ask in proposal.asks)
            self.tell(lambda: f"proposal {proposal.number} of {proposal.point}: {kinds}")
            self.publish(proposal)
            self.chair_soon()
        met = self.chair.meet()
        if met is not None:
            self.tell(lambda: f"meeting {met.number} goes on at {met.point}")
            self.publish(met)

    def decide(self, proposal: Proposal) -> None:
        """Have the chair decide, by the numbers that it has read."""
        read = self._read
        decision = self.chair.count(read["ready"], read["late"])
        if decision is None:
            return
        self.tell(lambda: f"decision {decision.number} {decision.holds}")
        if decision.holds:
            self.counts["agreed"] += 1
            if proposal.point <= max(self.decided, default=0):
                raise Violated(f"point {proposal.point} is agreed on after {max(self.decided)}")
            self.decided[proposal.point] = tuple(ask.kind for ask in proposal.asks)
        self.publish(decision)
        self.chair_soon()

    def meet(self, rank: int, arrived: Arrived) -> None:
        """Have the chair hear that a rank has arrived at a meeting."""
        if not self.ranks[0].is_side_thread_there:
            return
        self.chair.arrive(rank, arrived)
        self.chair_soon()

    def publish(self, message: Proposal | Decision | Met) -> None:
        """Put a message where all ranks find it."""
        message = decode(encode(message))  # type: ignore[assignment]
        for rank in self.ranks:
            rank.get(message)

    # -- what all ranks share ----------------------------------------------------------------

    def batches(self, rank: int, steps_done: int) -> int | None:
        """How many batches a rank evaluates after a step; None for no evaluation."""
        of_ranks = self._evaluations.get(steps_done)
        return None if of_ranks is None else of_ranks[rank]

    def has_left(self) -> None:
        """Come to the end, when all have come to their last points."""
        self._left += 1
        self.is_over |= self._left == len(self.ranks)

    def arrive(self) -> None:
        """Come to the collective of a step, which ends when all are there."""
        self._arrived += 1
        if self._arrived == len(self.ranks):
            self._arrived = 0
            for rank in self.ranks:
                if rank.phase == "barrier":  # and was not lost in it
                    rank.soon("released", rank.come, self.little_s())

    def was_paused(self, point: int) -> None:
        """Have somebody resume the run, after a while."""
        if point != self._paused_at:
            self._paused_at = point
            self.counts["pauses"] += 1
            rank = self.chance.choice(self.ranks)
            self.after(self.chance.uniform(0, 2), lambda: self.ask(rank, RESUME))

    def hear_beat(self, where: Whereabouts) -> None:
        """Hear a sign of life."""
        self.roll.heard(where, self.now_s)

    def call_roll(self) -> None:
        """Look who is lost, and tell everybody."""
        if self.is_over:
            return
        word = self.roll.call(self.now_s)
        if word is None:
            self.after(ROLL_S, self.call_roll)
            return
        self.tell(lambda: f"lost: {word}")
        if (word.rank, word.cause) != (self.culprit, CAUSES.get(self._cause)):
            raise Violated(f"{word} is found, and rank {self.culprit} {self._cause or 'is well'}")
        self.counts[f"found {word.cause}"] += 1
        self.is_over = True
        for rank in self.ranks:
            self.after(self.delay_s(), lambda rank=rank: rank.hear_of_loss(word))  # type: ignore[misc]

    # -- faults ------------------------------------------------------------------------------

    def strike(self, rank: Rank, fault: str) -> None:
        """Let a rank fail, unless it is through."""
        if rank.phase in ("leaves", "left"):
            return
        if fault == "hangs":
            rank.will_hang = True
            return
        self.has_failed(rank, fault)
        rank.soon("gone", lambda: None, 0.0)
        rank.is_side_thread_there = False
        if fault == "raises":
            word = failure(rank.number, "raised", "ValueError")
            self.after(self.delay_s(), lambda: self.roll.word(word))
        elif fault == "dies" or rank.number == 0:
            # Rank 0 has the store, and calls the roll: of its end all others know.
            self.after(self.delay_s(), lambda: self.roll.ended(rank.number))

    def has_failed(self, rank: Rank, fault: str) -> None:
        """Keep in mind who is guilty of what."""
        self.tell(lambda: f"rank {rank.number} {fault}")
        self.counts[fault] += 1
        self.culprit, self._cause = rank.number, fault
        if fault == "stops" and rank.number == 0:
            self._cause = "dies"

    # -- the course of it --------------------------------------------------------------------

    def run(self) -> None:
        """Let the world take its course, and check what is promised.

        Raises:
            Violated: a promise was not kept.
        """
        chance = self.chance
        kinds = (STOP, PAUSE, PAUSE, RESUME, "save", "save", "validate", "attach 1", END)
        for _ in range(chance.choice([1, 2, 3, 8])):
            rank, kind = chance.choice(self.ranks), chance.choice(kinds)
            self.after(chance.uniform(0, 0.5), lambda r=rank, k=kind: self.ask(r, k))  # type: ignore[misc]
        if chance.random() < 0.3:
            rank, fault = chance.choice(self.ranks), chance.choice(FAULTS)
            self.after(chance.uniform(0, 0.5), lambda: self.strike(rank, fault))
        for rank in self.ranks:
            rank.go_on()
            self.after(chance.uniform(0, BEAT_S), rank.beat)
        self.after(ROLL_S, self.call_roll)
        limit = MAX_EVENTS_OF_RANK * len(self.ranks)
        while self._events:
            self.now_s, _, _, do = heappop(self._events)
            do()
            limit -= 1
            if not limit:
                raise Violated(f"it does not end; {self.phases()}")
        self.check()

    def phases(self) -> str:
        """What all ranks are doing."""
        return ", ".join(f"rank {rank.number} {rank.phase}" for rank in self.ranks)

    def check(self) -> None:
        """Check what is promised, at the end."""
        ends = ("left",) if self.culprit < 0 else ("left", "lost", "gone", "hangs")
        if not all(rank.phase in ends for rank in self.ranks):
            raise Violated(f"somebody waits for ever: {self.phases()}")
        for rank in self.ranks:
            if self.culprit >= 0 and rank.is_side_thread_there and rank.member.failure is None:
                raise Violated(f"rank {rank.number} does not hear that {self.culprit} is lost")
            due = [(p, kinds) for p, kinds in self.decided.items() if p <= rank.passed]
            if rank.acted != due:
                raise Violated(f"rank {rank.number} acted on {rank.acted}, and was to on {due}")
        if self.culprit < 0:
            for ask in self.asked:
                self.check_ask(ask)
        self.counts["ranks"] += len(self.ranks)
        self.counts["points"] += sum(rank.passed for rank in self.ranks)
        self.counts["asks"] += len(self.asked)

    def check_ask(self, ask: Ask) -> None:
        """Check that an ask got a point that its rank had not done with, if there was time."""
        as_good = AS_GOOD.get(ask.kind, {ask.kind})
        agreed = any(p > ask.point and as_good & {*kinds} for p, kinds in self.decided.items())
        if not agreed and not as_good & {each.kind for each in self.chair.asks}:
            raise Violated(f"an ask is lost: {ask}")
        self.counts["asks without a point"] += not agreed


def simulate(
    seed: int,
    ranks: int | None = None,
    member_type: type[Member] = Member,
    chair_type: type[Chair] = Chair,
    is_traced: bool = False,
) -> World:
    """Let a seed's world take its course.

    Args:
        seed: decides all.
        ranks: how many; 2 to 4, by chance, if None.
        member_type: what answers proposals on each rank.
        chair_type: what makes them.
        is_traced: keep all that happens.
    """
    simulation = Simulation(seed, ranks, member_type, chair_type, is_traced)
    violation = ""
    try:
        simulation.run()
    except Exception as error:
        where = "" if isinstance(error, Violated) else traceback.format_exc()
        violation = f"{type(error).__name__}: {error}\n{where}".rstrip()
    return World(simulation.trace, simulation.counts, violation)


def search(first: int, number: int, ranks: int | None = None) -> tuple[Counter[str], int]:
    """Simulate many seeds; returns what they had, and how many violated a promise."""
    counts, violations = Counter[str](), 0
    for seed in range(first, first + number):
        world = simulate(seed, ranks)
        counts += world.counts
        if world.violation:
            violations += 1
            print(f"seed {seed}: {world.violation}", flush=True)
    return counts, violations


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Simulate ranks that agree, a world for each seed."
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--ranks", type=int, help="how many; by default 2 to 4")
    parser.add_argument("--trace", action="store_true", help="show all that happens")
    arguments = parser.parse_args()
    if arguments.trace:
        world = simulate(arguments.seed, arguments.ranks, is_traced=True)
        print("\n".join([*world.trace, world.violation]))
        return bool(world.violation)
    begin_s = time.monotonic()
    counts, violations = search(arguments.seed, arguments.seeds, arguments.ranks)
    print(", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    took_s = time.monotonic() - begin_s
    print(f"{arguments.seeds} seeds from {arguments.seed}, {violations} violations, {took_s:.1f} s")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
