"""What verbs have in common: the description of RUN, and ``--rank``."""

import argparse

from ..bus.runs.run_folder import RunFolder

RUN_HELP = (
    "the run's folder or anything inside it; or below ./runs, its id, the beginning of its id, its "
    "name (name@-1 for the newest of several), a tag, or the word last for the one started or "
    "resumed last"
)
LAST_EVENTS_HELP = f"{RUN_HELP}; or a file of last events"


def add_rank_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--rank``.

    Args:
        parser: the verb's.
        what: what it does, for its help.
    """
    parser.add_argument("--rank", type=int, metavar="N", help=what)


def chosen_rank(run: RunFolder, rank: int | None) -> int | None:
    """Return the rank that was given, after a look that there is a log of it.

    Args:
        run: the run.
        rank: as given.

    Raises:
        RunFolderError: there is no log of it.
    """
    if rank is not None:
        run.refuse_missing_rank(rank)
    return rank
