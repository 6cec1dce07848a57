"""``nightbus top RUN``: a run in the terminal, live or recorded."""

import argparse
import sys
from typing import Any

from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import OK


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "top",
        help="watch a run in the terminal, and steer it",
        description="Show a run that goes on, or a recorded one, over the whole terminal: "
        "progress, curves, where time goes, actors, ranks, and what was printed. Left and right "
        "change the tab; p pauses and resumes the run, v validates, c saves a checkpoint, s stops "
        "it, q leaves. Needs textual: pip install 'nightbus[top]'.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.set_defaults(command=_top)


def _top(options: argparse.Namespace) -> int:
    from ..bus.errors import MissingPackageError, UsageError
    from ..bus.system.streams import is_terminal

    run = find_run(options.run)
    try:
        from .top_screen import Top
    except ImportError:
        raise MissingPackageError("nightbus top", "textual", "top") from None
    if not is_terminal(sys.stdout):
        raise UsageError("top needs a terminal; `nightbus show` and `nightbus tail -f` do not")
    Top(run).run()
    return OK
