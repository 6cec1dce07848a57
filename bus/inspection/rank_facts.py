"""Where an attempt's ranks ran, and which were lost, as their logs say."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ..errors import LogFormatError
from ..events import RankLost, RankStarted
from ..log.reader import LogReader
from ..log.segments import FolderStore, Stretch, read_footer
from ..runs.flight_file import FlightFile
from ..runs.run_folder import RunFolder
from .tail import read_header

MAX_RANKS = 100_000  # what a damaged or made-up header says beyond that is not believed


class LostRank(msgspec.Struct, frozen=True):
    """A rank that was lost.

    Attributes:
        rank: which one.
        cause: raised, dead, silent or stuck.
        what: what happened, for people.
        point: the safe points that it had come to, as far as is known.
        hook: the hook that it was in; empty if that is not known.
    """

    rank: int
    cause: str
    what: str
    point: int
    hook: str


class RanksReport(msgspec.Struct, frozen=True):
    """The ranks of an attempt.

    Attributes:
        world_size: how many there are.
        without_log: those that left no log.
        hosts: where they ran, in the order of ranks.
        lost: those that were lost.
    """

    world_size: int = 1
    without_log: list[int] = []
    hosts: list[str] = []
    lost: list[LostRank] = []


class RankFacts(NamedTuple):
    """Where a rank ran; 0 and empty where its log does not say.

    Attributes:
        world_size: how many ranks there are.
        host, pid, device: of this one.
    """

    world_size: int = 0
    host: str = ""
    pid: int = 0
    device: str = ""


def ranks_report(run: RunFolder, attempt: int) -> RanksReport:
    """Return what is known of an attempt's ranks, from the begin and the end of their logs.

    Args:
        run: the run.
        attempt: the attempt.
    """
    if isinstance(run, FlightFile):  # of one rank, whichever
        return RanksReport()
    stores = {rank: run.store(attempt, rank) for rank in run.ranks(attempt)}
    facts = [facts_of(store) for store in stores.values()]
    world_size = max([len(stores), *(each.world_size for each in facts)])
    if world_size <= 1:
        return RanksReport()
    hosts = list(dict.fromkeys(each.host for each in facts if each.host))
    without_log = [rank for rank in range(world_size) if rank not in stores]
    return RanksReport(world_size, without_log, hosts, lost_ranks(stores))


def facts_of(store: FolderStore) -> RankFacts:
    """Return where a rank ran, from the begin of its log.

    Args:
        store: the rank's segments.
    """
    header = next(
        (found for index in store.indices() if (found := read_header(store, index))), None
    )
    world_size = 0 if header is None else min(header.world_size, MAX_RANKS)
    if world_size <= 1:
        return RankFacts(world_size)
    reader = LogReader(store)
    try:
        for event in reader.read("none"):
            if isinstance(event, RankStarted):
                return RankFacts(world_size, event.host, event.pid, event.device)
    except LogFormatError:
        pass  # reported by who reads all of it
    finally:
        reader.close()
    return RankFacts(world_size)


def lost_ranks(stores: Mapping[int, FolderStore]) -> list[LostRank]:
    """Return the ranks that were lost, as the first rank says whose log has it.

    Args:
        stores: the segments of each rank.
    """
    for store in stores.values():
        if found := _lost_in(store):
            return found
    return []


def _lost_in(store: FolderStore) -> list[LostRank]:
    indices = store.indices()
    if not indices:
        return []
    last = indices[-1]
    try:
        footer = read_footer(store, last)
    except LogFormatError:  # its events may still be sound
        footer = None
    if footer is not None and RankLost.__name__ not in footer.summary.events:
        return []
    found: list[LostRank] = []
    reader = LogReader(Stretch(store, last, last))
    try:
        for _, parts in reader.parts(hooks=False):
            found += [
                LostRank(each.lost_rank, each.cause, each.what, each.point, each.hook)
                for each in parts.records
                if isinstance(each, RankLost)
            ]
    except LogFormatError:
        pass  # reported by who reads all of it
    finally:
        reader.close()
    return found
