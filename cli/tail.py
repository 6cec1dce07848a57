"""``nightbus tail RUN``: show the last events of a run, and follow new ones."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..bus.event_kinds import fields_as_text, kind_of
from ..bus.runs.find_run import find_events
from ..bus.runs.run_folder import RunFolder
from .find import LAST_EVENTS_HELP, add_rank_option, chosen_rank
from .text import (
    LOSSY,
    OK,
    as_json_line,
    duration,
    how_many,
    moment,
    one_line,
    plain,
    print_note,
    print_problem,
)

_HEAD_FIELDS = 9  # those that every event begins with
_JSON_TYPES = (type(None), bool, int, float, str, bytes)
_TOO_LONG_FOR_A_LINE = frozenset({"config", "versions", "hparams", "traceback"})


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "tail",
        help="show a run's last events",
        description="Show the last events of a run, one a line, and with -f also new ones until "
        "it ends. Hooks are left out unless --kind asks for them.",
    )
    parser.add_argument("run", metavar="RUN", help=LAST_EVENTS_HELP)
    parser.add_argument(
        "-f", "--follow", action="store_true", help="follow new events until the run ends"
    )
    parser.add_argument("-n", type=int, default=10, metavar="N", help="number of events (10)")
    parser.add_argument(
        "--kind", default="", metavar="A,B", help="only these types: Put,Fault; all adds hooks"
    )
    parser.add_argument("--metric", metavar="NAME", help="only values of this metric")
    parser.add_argument(
        "--console",
        action="store_true",
        help="only what the process printed, as it printed it, with Trainer(record_console=True)",
    )
    add_rank_option(parser, "only this rank; otherwise all in one, in the order of time")
    parser.add_argument("--json", action="store_true", help="one object a line, for programs")
    parser.set_defaults(command=_tail)


def _tail(options: argparse.Namespace) -> int:
    from ..bus.errors import UsageError
    from ..bus.inspection.tail import EventFilter, follow, killed_because, last_events

    if options.n < 0:
        raise UsageError(f"-n {options.n}: expected 0 or more")
    if options.console and (options.kind or options.metric):
        raise UsageError("--console shows what was printed alone; leave out --kind and --metric")
    kinds = tuple(kind.strip() for kind in options.kind.split(",") if kind.strip())
    kinds = ("ConsoleLine",) if options.console else kinds
    wanted = EventFilter(kinds, options.metric)
    run = find_events(options.run)
    goes_on = run.is_running()
    rank = chosen_rank(run, options.rank)
    tail = last_events(run, options.n, wanted, rank)
    line = _form(options, _is_one_rank(run, rank))
    _write(tail.events, line)
    shown = len(tail.events)
    if options.follow:
        for events in follow(run, tail.after, wanted, rank):
            _write(events, line)
            shown += len(events)
    killed = killed_because(run) if options.follow else ""
    if killed:
        print_note(f"the run was killed: {killed}; this is what it had recorded")
    if options.metric is not None and options.n and not shown:
        _print_recorded_metrics(run, options.metric, kinds)
    # The last frame of a running run may not be complete yet.
    problems = [] if goes_on else tail.problems
    for problem in problems:
        print_problem(problem, run.path)
    return LOSSY if problems else OK


def _form(options: argparse.Namespace, is_one_rank: bool) -> Callable[[Any], str]:
    """Return what makes a line of an event."""
    if options.json:
        return _json
    if options.console:
        return _printed if is_one_rank else _printed_by_rank
    return _line if is_one_rank else _line_of_rank


def _print_recorded_metrics(run: RunFolder, metric: str, kinds: Sequence[str]) -> None:
    """Explain why no line was shown of a metric."""
    from ..bus.inspection.report import summarise

    recorded = ", ".join(summarise(run, all_attempts=True).metrics) or "none"
    of_kinds = f" among events of type {', '.join(kinds)}" if kinds else ""
    print_note(f"no metric {metric} was recorded{of_kinds}; recorded metrics: {one_line(recorded)}")


def _is_one_rank(run: RunFolder, rank: int | None) -> bool:
    return rank is not None or all(len(run.ranks(attempt)) < 2 for attempt in run.attempts())


def _write(events: Sequence[Any], line: Callable[[Any], str]) -> None:
    if events:
        sys.stdout.write("".join(map(line, events)))
        sys.stdout.flush()


def _json(tailed: Any) -> str:
    event = tailed.event
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    if type(event).__name__ == "PlainUserEvent":
        del fields["name"], fields["data"]
        fields["fields"] = _user_fields(event)
    head = {"event": kind_of(event), "attempt": tailed.attempt, "wall_ns": tailed.wall_ns}
    return as_json_line(head | fields)


def _user_fields(event: Any) -> object:
    """Return the fields of a user's event for JSON, or why they cannot be read."""
    from ..bus.errors import LogFormatError

    try:
        return _for_json(event.fields)
    except LogFormatError as error:
        return str(error)


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key if isinstance(key, str) else str(key): _for_json(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_for_json(each) for each in value]
    return value if isinstance(value, _JSON_TYPES) else str(value)


def _printed(tailed: Any) -> str:
    dropped = tailed.event.dropped
    missing = f"({how_many(dropped, 'character')} are not recorded)\n" if dropped else ""
    return f"{missing}{plain(tailed.event.text)}\n"


def _printed_by_rank(tailed: Any) -> str:
    return f"{tailed.event.rank:>4}  {_printed(tailed)}"


def _line_of_rank(tailed: Any) -> str:
    return f"{getattr(tailed.event, 'rank', ''):>4}  {_line(tailed)}"


def _line(tailed: Any) -> str:
    event = tailed.event
    kind = plain(one_line(kind_of(event)))
    if type(event).__name__ == "Unknown":
        return f"{'':12}  {kind:15} of type {event.tag}, from a newer version\n"
    clock = moment(tailed.wall_ns, "%H:%M:%S")
    millis = tailed.wall_ns // 1_000_000 % 1000
    batch = f" batch {event.batch_idx:,}" if event.batch_idx >= 0 else ""
    place = f"{event.stage or '-'} epoch {event.epoch:,} step {event.step:,}{batch}"
    text = plain(one_line(_text(event)))
    return f"{clock}.{millis:03d}  {place:40} {kind:15} {text}\n"


def _text(event: Any) -> str:
    """Return what an event says besides where it arose."""
    source = f" ({event.source})" if event.source else ""
    match type(event).__name__:
        case "Put":
            return f"{event.name} = {event.value:.6g}{source}"
        case "Hook":
            return f"{event.name}, {duration(event.duration_ns / 1e9)}"
        case "Fault":
            where = f" in {event.hook}" if event.hook else ""
            return f"{event.source}{where}: {event.error}: {event.message}"
        case "RunStarted":
            return f"{event.fn}, attempt {event.attempt} of {event.run}"
        case "RunEnded":
            return f"{event.how}: {event.reason}" if event.reason else str(event.how)
        case "SystemMetrics":
            return ", ".join(f"{name} {value:,.5g}" for name, value in event.values.items())
        case "ActorBacklogs":
            behind = (f"{name} {lag:,} events behind" for name, lag in event.lag.items())
            waiting = (
                f"{name} {count:,} commands waiting" for name, count in event.waiting.items()
            )
            return ", ".join((*behind, *waiting))
        case "ConsoleLine":
            return f"{event.text}{f' ({event.stream})' if event.stream == 'stderr' else ''}"
        case "PlainUserEvent":
            return fields_as_text(event) + source
    fields = event.__struct_fields__[_HEAD_FIELDS:]
    shown = (
        f"{name} {_value(getattr(event, name))}"
        for name in fields
        if name not in _TOO_LONG_FOR_A_LINE
    )
    return ", ".join(shown) + source


def _value(value: object) -> str:
    return f"of {len(value):,} bytes" if isinstance(value, bytes) else str(value)
