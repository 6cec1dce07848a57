"""``nightbus attach RUN --csv DIR``: a new observer on a run that goes on."""

import argparse
from pathlib import Path
from typing import Any

from .find import RUN_HELP, find_run
from .text import LOSSY, OK, how_many, tell


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "attach",
        help="have a run that goes on written to more files",
        description="Write a run's metrics to new files, from its begin and following it until it "
        "ends. Only its log is read, by this process: the run does not notice. Given again after "
        "Ctrl-C, it goes on where it stood.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("--csv", metavar="DIR", help="write DIR/metrics.csv")
    parser.add_argument("--jsonl", metavar="DIR", help="write DIR/metrics.jsonl")
    parser.set_defaults(command=_attach)


def _attach(options: argparse.Namespace) -> int:
    from ..bus.errors import UsageError

    if not (options.csv or options.jsonl):
        raise UsageError("name a destination: --csv DIR, --jsonl DIR")
    from ..bus.replay import replay
    from ..sinks.csv import CSV
    from ..sinks.json_lines import JSONLines

    run = find_run(options.run)
    goes_on = any(run.is_being_written(attempt) for attempt in run.attempts())
    tell("following the run until it ends" if goes_on else "the run has ended: this is all of it")
    sinks: list[CSV | JSONLines] = []
    if options.csv:
        sinks.append(CSV(options.csv))
    if options.jsonl:
        sinks.append(JSONLines(options.jsonl))
    try:
        replayed = replay(run, sinks=sinks, follow=True, cursors=Path(options.csv or options.jsonl))
    except KeyboardInterrupt:
        tell("let go of the run; the same command goes on from here")
        raise
    for sink, number in zip(sinks, replayed.events.values(), strict=True):
        tell(f"{how_many(number, 'event')} read, their metrics are in {sink.path}")
    if not replayed.unclean:
        return OK
    tell(f"the run was cut off, this is what it had recorded: {replayed.unclean}")
    return LOSSY
