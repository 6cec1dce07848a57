"""Who waited for whom: the training steps of all ranks, compared step by step.

All ranks end ``backward`` together, when their gradients are summed. Who came to it last waited
least, and was waited for. Where ranks recorded when their own gradients were there, that tells what
is left of ``backward`` for waiting; otherwise who has the shortest ``backward`` waited least, which
does not show a rank whose ``backward`` itself is slow.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

import msgspec

from ..errors import UsageError
from ..log.segments import FolderStore
from ..runs.run_folder import RunFolder
from .merged_log import MAX_OPEN_LOGS
from .rank_facts import LostRank, facts_of, lost_ranks
from .rank_steps import RankSteps, StepTimes

WINDOW = 100  # steps; fewer say nothing
TOLD_SHARE = 0.6
TOLD_PART = 0.01  # of a step that has to be lost, or it does not matter
PHASES = ("optimizer", "data", "forward", "backward")


class RankReport(msgspec.Struct, frozen=True):
    """One rank's training steps.

    Attributes:
        rank: which one.
        host, pid, device: where it ran; empty, 0 and empty if its log does not say.
        steps: how many it recorded.
        data_ms, forward_ms, backward_ms, optimizer_ms: a step's phases, on average.
        waits_ms: what it waited for others in a step, on average; None if it did not record when
            its gradients were there.
        waited_for: share of the steps compared in which the others waited for it.
    """

    rank: int
    host: str
    pid: int
    device: str
    steps: int
    data_ms: float
    forward_ms: float
    backward_ms: float
    optimizer_ms: float
    waits_ms: float | None
    waited_for: float


class Straggler(msgspec.Struct, frozen=True):
    """A rank that the others waited for in most steps of a stretch.

    Attributes:
        rank: which one.
        first_step, last_step: the stretch, both included.
        share: of its steps in which it was waited for.
        by_ms: how long the others waited in these, on average.
        phase: in which it took longer than the others: data, forward, backward, optimizer; empty if
            no phase accounts for half of it.
    """

    rank: int
    first_step: int
    last_step: int
    share: float
    by_ms: float
    phase: str


class WaitReport(msgspec.Struct, frozen=True):
    """Who waited for whom in an attempt.

    Attributes:
        id, path: of the run.
        attempt: the attempt.
        world_size: number of ranks.
        steps: number of steps that all ranks recorded, which are compared.
        knows_backward: whether all ranks recorded when their own gradients were there.
        ranks: those with a log.
        stragglers: ranks that were waited for in more than TOLD_SHARE of WINDOW steps or more.
        lost: ranks that were lost.
        problems: what could not be read, a line each.
    """

    id: str
    path: str
    attempt: int
    world_size: int
    steps: int
    knows_backward: bool
    ranks: list[RankReport]
    stragglers: list[Straggler]
    lost: list[LostRank]
    problems: list[str]


def compare_ranks(run: RunFolder, attempt: int | None = None) -> WaitReport:
    """Compare the training steps of an attempt's ranks.

    In memory are the steps of one window, a hundred, of each rank.

    Args:
        run: the run.
        attempt: the attempt; the last that trained if not given.

    Returns:
        Who was waited for, in which phase, by how much.

    Raises:
        UsageError: there is no such attempt, or it has recorded no training steps.
        NewerFormatError: a log was written by a newer major version.
    """
    attempts = run.attempts()
    if not attempts:
        raise UsageError(f"{run.path} has recorded nothing")
    if attempt is not None and attempt not in attempts:
        known = ", ".join(map(str, attempts))
        raise UsageError(f"{run.path} has no attempt {attempt}; its attempts are: {known}")
    for chosen in reversed(attempts) if attempt is None else [attempt]:
        stores = {rank: run.store(chosen, rank) for rank in run.ranks(chosen)}
        compared = _Compared(stores)
        try:
            compared.read()
        finally:
            compared.close()
        if any(total.steps for total in compared.totals):
            return _report(run, chosen, stores, compared)
    which = str(run.path) if attempt is None else f"attempt {attempt} of {run.path}"
    raise UsageError(
        f"{which} recorded no training steps; they are read from hooks, which "
        "Trainer(recording='all') records"
    )


def _report(
    run: RunFolder, attempt: int, stores: dict[int, FolderStore], compared: "_Compared"
) -> WaitReport:
    facts = [facts_of(store) for store in stores.values()]
    lines = zip(stores, facts, compared.totals, strict=True)
    return WaitReport(
        id=run.info.id,
        path=str(run.path),
        attempt=attempt,
        world_size=max([len(stores), *(each.world_size for each in facts)]),
        steps=compared.steps,
        knows_backward=compared.knows_backward,
        ranks=[
            RankReport(
                rank, each.host, each.pid, each.device, *total.means(compared.waited_for, rank)
            )
            for rank, each, total in lines
        ],
        stragglers=compared.stragglers,
        lost=lost_ranks(stores),
        problems=compared.problems(),
    )


class _Totals:
    """The sums of a rank's steps."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums = [0] * len(PHASES)
        self._waits: int | None = 0

    def add(self, times: StepTimes) -> None:
        """Add a step."""
        self.steps += 1
        for at, took in enumerate(times[1:5]):
            self._sums[at] += took
        if times.waits is None or self._waits is None:
            self._waits = None
        else:
            self._waits += times.waits

    def means(
        self, waited_for: "Counter[int]", rank: int
    ) -> tuple[int, float, float, float, float, float | None, float]:
        """Return a RankReport's fields from ``steps`` on."""
        number = max(self.steps, 1)
        optimizer, data, forward, backward = (took / number / 1e6 for took in self._sums)
        waits = None if self._waits is None else self._waits / number / 1e6
        share = waited_for[rank] / max(waited_for.total(), 1)
        return self.steps, data, forward, backward, optimizer, waits, share


class _Compared:
    """The steps of all ranks, read one window after the other.

    Attributes:
        totals: of each rank, in the order of ranks.
        steps: number that all ranks have.
        waited_for: by rank, in how many of these.
        knows_backward: all of these say how long the rank waited.
        stragglers: those found so far.
    """

    def __init__(self, stores: dict[int, FolderStore]) -> None:
        lets_go = len(stores) > MAX_OPEN_LOGS
        self.totals = [_Totals() for _ in stores]
        self.steps = 0
        self.waited_for: Counter[int] = Counter()
        self.knows_backward = True
        self.stragglers: list[Straggler] = []
        self._ranks = list(stores)
        self._readers = [RankSteps(store, lets_go) for store in stores.values()]

    def read(self) -> None:
        """Read all steps."""
        while True:
            coming = [reader.next_step for reader in self._readers]
            begins = [step for step in coming if step is not None]
            if not begins:
                return
            self._read_window(min(begins))

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers:
            reader.close()

    def problems(self) -> list[str]:
        """Return what could not be read, a line each."""
        readers = zip(self._ranks, self._readers, strict=True)
        return [f"rank {rank}: {reader.problem}" for rank, reader in readers if reader.problem]

    def _read_window(self, first: int) -> None:
        steps: list[dict[int, StepTimes]] = []
        for total, reader in zip(self.totals, self._readers, strict=True):
            mine = {times.step: times for times in reader.before(first + WINDOW)}
            for times in mine.values():
                total.add(times)
            steps.append(mine)
        common = sorted(set(steps[0]).intersection(*steps[1:])) if len(steps) > 1 else []
        self.steps += len(common)
        window = _Window([[mine[step] for mine in steps] for step in common], self._ranks)
        self.waited_for.update(window.waited_for)
        self.knows_backward &= window.knows_backward
        if len(common) == WINDOW and (found := window.straggler()) is not None:
            self._tell(found)

    def _tell(self, found: Straggler) -> None:
        """Add a straggler; one that goes on is told once."""
        before = self.stragglers[-1] if self.stragglers else None
        if before is not None and _goes_on(before, found):
            self.stragglers[-1] = _joined(before, found)
        else:
            self.stragglers.append(found)


def _goes_on(before: Straggler, found: Straggler) -> bool:
    is_same = (before.rank, before.phase) == (found.rank, found.phase)
    return is_same and before.last_step + 1 == found.first_step


def _joined(before: Straggler, after: Straggler) -> Straggler:
    old, new = before.last_step - before.first_step + 1, after.last_step - after.first_step + 1
    held, more = before.share * old, after.share * new
    by_ms = (before.by_ms * held + after.by_ms * more) / (held + more)
    share = (held + more) / (old + new)
    return msgspec.structs.replace(before, last_step=after.last_step, share=share, by_ms=by_ms)


class _Window:
    """Some steps that all ranks have.

    Args:
        rows: of each step, the times of each rank.
        ranks: the ranks.

    Attributes:
        waited_for: by rank, in how many of the steps.
        knows_backward: all say how long the rank waited.
    """

    def __init__(self, rows: list[list[StepTimes]], ranks: Sequence[int]) -> None:
        self.knows_backward = all(times.waits is not None for row in rows for times in row)
        self._rows = rows
        self._ranks = ranks
        waits = [self._waits(row) for row in rows]
        self._last = [row.index(min(row)) for row in waits]  # position of who came last
        self._by = [
            median(_others(row, last)) - row[last]
            for row, last in zip(waits, self._last, strict=True)
        ]
        self.waited_for = Counter(ranks[last] for last in self._last)

    def _waits(self, row: Iterable[StepTimes]) -> list[int]:
        if self.knows_backward:
            return [times.waits or 0 for times in row]
        return [times.backward + (times.waits or 0) for times in row]

    def straggler(self) -> Straggler | None:
        """Return the rank that was waited for in most steps, if that is worth telling."""
        position, count = Counter(self._last).most_common(1)[0]
        share = count / len(self._rows)
        its = [at for at, last in enumerate(self._last) if last == position]
        by_ns = sum(self._by[at] for at in its) / count
        step_ns = median(row[position].total for row in self._rows)
        if share <= TOLD_SHARE or by_ns < TOLD_PART * step_ns:
            return None
        first, last = self._rows[0][0].step, self._rows[-1][0].step
        phase = self._phase(position, [self._rows[at] for at in its], by_ns)
        return Straggler(self._ranks[position], first, last, share, by_ns / 1e6, phase)

    def _phase(self, position: int, rows: list[list[StepTimes]], by_ns: float) -> str:
        """Return the phase in which a rank took longer than the others."""
        phases = PHASES if self.knows_backward else PHASES[:-1]
        excess = {
            phase: median(
                took[position] - median(_others(took, position))
                for took in ([times[at] or 0 for times in row] for row in rows)
            )
            for at, phase in enumerate(phases, start=1)
        }
        worst = max(excess, key=lambda phase: excess[phase])
        return worst if excess[worst] * 2 >= by_ns else ""


def _others(values: Sequence[int], position: int) -> list[int]:
    return [*values[:position], *values[position + 1 :]]
