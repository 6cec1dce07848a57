"""Where an attempt's ranks ran, and which were lost, as their logs say."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ..errors import LogFormatError
from ..events import RankLost, RankStarted
from ..log.reader import LogReader
from ..log.segments import FolderStore, Stretch, read_footer


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


def facts_of(store: FolderStore) -> RankFacts:
    """Return where a rank ran, from the begin of its log.

    Args:
        store: the rank's segments.
    """
    reader = LogReader(store)
    try:
        for event in reader.read("none"):
            if isinstance(event, RankStarted):
                return RankFacts(event.world_size, event.host, event.pid, event.device)
    except LogFormatError:
        pass  # reported by who reads all of it
    finally:
        reader.close()
    return RankFacts()


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
