"""The command line: ``show`` and ``replay``; the other verbs are in ``cli``, one file each.

What programs read goes to stdout, what people should know besides goes to stderr.
"""

import argparse
import io
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .bus.errors import LogError, NightbusError, RunFolderError, UsageError
from .bus.run_folder import RunFolder
from .cli import attach, doctor, ls, recover, send, tail
from .cli.find import RUN_HELP as _RUN_HELP
from .cli.find import find_run as _find
from .cli.text import ERROR, LOSSY, OK, REFUSED, USAGE
from .cli.text import as_json as _as_json
from .cli.text import duration as _duration
from .cli.text import how_many as _number
from .cli.text import one_line as _one_line
from .cli.text import plain as _plain
from .cli.text import tell as _tell

if TYPE_CHECKING:
    from rich.console import Console

    from .bus.cursor import Cursor
    from .bus.report import AttemptReport, HookReport, MetricReport, RunReport

INTERRUPTED = 130  # as shells do: 128 + SIGINT
MAX_HOOK_ROWS = 12

_VERBS = (ls, tail, send, attach, doctor, recover)

_EXIT_CODES = """\
exit codes:
  0  fine
  1  error
  2  the call is wrong, or there is no such run
  3  done, but not all could be delivered
  5  refused: not an event log, or one of a newer major version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()  # here, where a closed pipe is expected
        return code
    except BrokenPipeError:  # `nightbus show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (NightbusError, OSError) as error:
        if os.environ.get("NIGHTBUS_LOG", "").lower() == "debug":
            traceback.print_exc()
        _tell(str(error))
        if isinstance(error, LogError):
            return REFUSED
        return USAGE if isinstance(error, UsageError | RunFolderError) else ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="nightbus",
        description="Look at runs, steer them, and replay them.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nightbus {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    show = verbs.add_parser(
        "show",
        help="summarise a run",
        description="Summarise a run, also one that still goes on: how it ended, its metrics, its "
        "time by hook, its faults.",
    )
    show.add_argument("run", metavar="RUN", help=_RUN_HELP)
    show.add_argument("--json", action="store_true", help="everything, for programs")
    show.set_defaults(command=_show)

    replay = verbs.add_parser(
        "replay",
        help="deliver a recorded run to sinks",
        description="Deliver a recorded run to new files, or what its own sinks had not got.",
    )
    replay.add_argument("run", metavar="RUN", help=_RUN_HELP)
    replay.add_argument("--csv", metavar="DIR", help="write DIR/metrics.csv")
    replay.add_argument("--jsonl", metavar="DIR", help="write DIR/metrics.jsonl")
    replay.add_argument(
        "--resume",
        action="store_true",
        help="deliver what the run's own CSV and JSON lines files lack",
    )
    replay.set_defaults(command=_replay)
    for verb in _VERBS:
        verb.add(verbs)
    return parser


# -- show ----------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    from .bus.report import summarise

    report = summarise(_find(options.run))
    sys.stdout.write(_as_json(report) if options.json else _as_text(report))
    return OK


def _as_text(report: "RunReport") -> str:
    from rich.console import Console

    to_terminal = sys.stdout.isatty()
    buffer = io.StringIO()  # rich ends the process itself when a pipe is closed
    console = Console(
        file=buffer,
        force_terminal=to_terminal,
        # A pipe has no width: every row stays on its line.
        width=None if to_terminal else 10_000,
    )
    print_report(report, console)
    return buffer.getvalue()


def print_report(report: "RunReport", console: "Console") -> None:
    """Print a report for people."""
    _print_line(console, report.id, "bold", f"  {report.path}", soft_wrap=True)
    for attempt in report.attempts:
        for line in _attempt_lines(attempt):
            _print_line(console, line)
    if not report.attempts:
        _print_line(console, "nothing was recorded")
    if report.metrics:
        header = ("metric", "values", "last", "lowest", "at step", "highest", "at step")
        rows = [_metric_row(name, metric) for name, metric in report.metrics.items()]
        _print_table(console, header, rows)
    if report.hooks:
        _print_table(console, ("hook", "times", "total s", "mean"), _hook_rows(report.hooks))
        _print_line(console, "(hooks nest: optimizer_step holds training_step and backward)", "dim")
    _print_problems(report, console)


def _attempt_lines(attempt: "AttemptReport") -> list[str]:
    reason = f": {_one_line(attempt.reason)}" if attempt.reason else ""
    if attempt.started_ns is None:
        lines = [f"attempt {attempt.attempt} {attempt.how}{reason}, before it recorded its start"]
    else:
        from datetime import datetime

        started = datetime.fromtimestamp(attempt.started_ns / 1e9).astimezone()
        lines = [
            f"attempt {attempt.attempt}: {attempt.fn} {attempt.how}{reason}",
            f"  {started:%Y-%m-%d %H:%M:%S}, {_duration(attempt.duration_s)}, "
            f"{_number(attempt.epochs, 'epoch')}, {_number(attempt.steps, 'step')}, "
            f"{_number(sum(attempt.events.values()), 'event')}",
        ]
    fork, end = attempt.fork, attempt.log_end
    if fork is not None:
        lines.append(f"  resumed attempt {fork.attempt} from {fork.checkpoint}")
    if end is not None:
        where = f"byte {end.offset:,} of segment {end.segment}"
        lines.append(f"  the log ends at {where}: {_one_line(end.reason)}")
    if attempt.missing_segments:
        missing = ", ".join(map(str, attempt.missing_segments))
        lines.append(f"  segments are missing: {missing}")
    return lines


def _metric_row(name: str, metric: "MetricReport") -> tuple[str, ...]:
    values = f"{metric.count:,}"
    if metric.non_finite:
        values += f" ({metric.non_finite:,} nan/inf)"
    if metric.low is None or metric.high is None:
        return (name, values, f"{metric.last:.5g}", "", "", "", "")
    return (
        name,
        values,
        f"{metric.last:.5g}",
        f"{metric.low:.5g}",
        f"{metric.low_step:,}",
        f"{metric.high:.5g}",
        f"{metric.high_step:,}",
    )


def _hook_rows(hooks: "dict[str, HookReport]") -> list[tuple[str, ...]]:
    ordered = sorted(hooks.items(), key=lambda item: -item[1].total_ns)
    # Hooks that nobody handles take no time: they are counted, not listed.
    shown = [item for item in ordered[:MAX_HOOK_ROWS] if item[1].total_ns]
    rows = [_hook_row(name, hook.count, hook.total_ns) for name, hook in shown]
    rest = [hook for _, hook in ordered[len(shown) :]]
    if rest:
        count, total_ns = sum(hook.count for hook in rest), sum(hook.total_ns for hook in rest)
        rows.append(_hook_row(_number(len(rest), "other"), count, total_ns))
    return rows


def _hook_row(name: str, count: int, total_ns: int) -> tuple[str, ...]:
    return (name, f"{count:,}", f"{total_ns / 1e9:.3f}", _duration(total_ns / count / 1e9))


def _print_problems(report: "RunReport", console: "Console") -> None:
    faults = [
        f"{fault.source}{f' in {fault.hook}' if fault.hook else ''} at step {fault.step:,}: "
        f"{fault.error}: {fault.message}"
        for fault in report.faults
    ]
    letters = [
        f"{letter.command} of {letter.source} to {letter.target}: {letter.reason}"
        for letter in report.dead_letters
    ]
    gaps = [
        f"{_number(gap.count, 'event')} before step {gap.step:,} not written: {gap.reason}"
        for gap in report.gaps
    ]
    problems = (("fault", "Fault", faults), ("dead letter", "DeadLetter", letters))
    for what, kind, texts in (*problems, ("gap", "Gap", gaps)):
        if texts:
            console.print()
        for text, times in Counter(texts).items():
            again = f" ({times} times)" if times > 1 else ""
            _print_line(console, what, "bold red", f": {_one_line(text)}{again}")
        counted = sum(attempt.events.get(kind, 0) for attempt in report.attempts)
        if counted > len(texts):
            more = _number(counted - len(texts), f"more {what}")
            _print_line(console, f"and {more}", "bold red")


def _print_line(
    console: "Console", text: str, style: str = "", rest: str = "", soft_wrap: bool = False
) -> None:
    """Print a line that begins in a style; ``soft_wrap`` leaves it whole, as a path should be."""
    from rich.text import Text

    line = Text.assemble((_plain(text), style), _plain(rest))
    console.print(line, soft_wrap=soft_wrap)


def _print_table(console: "Console", header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(header):
        table.add_column(
            title,
            justify="right" if number else "left",
            no_wrap=number > 0,
            overflow="fold",  # a name that is too long goes on below, never into dots
        )
    for row in rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    console.print()
    console.print(table)


# -- replay --------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    if options.resume:
        if options.csv or options.jsonl:
            raise UsageError(
                "--resume goes on with the run's own sinks; leave --csv and --jsonl out"
            )
        return _resume(_find(options.run))
    if not (options.csv or options.jsonl):
        raise UsageError("name a destination: --csv DIR, --jsonl DIR, or --resume")
    return _replay_into(_find(options.run), options.csv, options.jsonl)


def _replay_into(run: RunFolder, csv: str | None, jsonl: str | None) -> int:
    from .bus.replay import replay
    from .sinks.csv import CSV
    from .sinks.json_lines import JSONLines

    sinks: list[CSV | JSONLines] = []
    if csv:
        sinks.append(CSV(csv))
    if jsonl:
        sinks.append(JSONLines(jsonl))
    is_written = _is_being_written(run)
    replayed = replay(run, sinks=sinks)
    for sink, number in zip(sinks, replayed.events.values(), strict=True):
        _tell(f"{_number(number, 'event')} read, their metrics are in {sink.path}")
    if not replayed.unclean:
        return OK
    if is_written:
        _tell("the run goes on: this is what it had recorded so far")
    else:
        _tell(f"the run was cut off, this is what it had recorded: {replayed.unclean}")
    return LOSSY


def _resume(run: RunFolder) -> int:
    """Deliver the rest to the sinks that nightbus brings; sinks of the user's need their class."""
    from .bus.cursor import CursorFile, list_cursors

    if _is_being_written(run):
        _tell(f"{run.path} is still being written: its own sinks are at work; wait for its end")
        return ERROR
    codes = [
        _resume_sink(run, name, cursor)
        for name in list_cursors(run)
        if (cursor := CursorFile(run, name).load()) is not None
    ]
    if not codes:
        raise UsageError(f"{run.path} had no sinks; name a destination with --csv or --jsonl")
    return ERROR if ERROR in codes else max(codes)


def _resume_sink(run: RunFolder, name: str, cursor: "Cursor") -> int:
    from .bus.replay import replay
    from .sinks.csv import CSV
    from .sinks.json_lines import JSONLines

    # By name from this table alone: a file never says what code to load.
    known: dict[str, type[CSV | JSONLines]] = {"CSV": CSV, "JSONLines": JSONLines}
    kind = cursor.kind
    if kind not in known:
        _tell(
            f"{name} is a sink of your own, {kind}; deliver the rest with "
            f"nightbus.replay({str(run.path)!r}, sinks=[{kind}()], resume=True)"
        )
        return LOSSY
    folder = cursor.state.get("folder")
    if folder is not None:  # nor where to write
        _tell(
            f"{name} wrote to {folder}, outside the run; deliver the rest with "
            f"nightbus.replay({str(run.path)!r}, sinks=[nightbus.{kind}({str(folder)!r})], "
            "resume=True)"
        )
        return LOSSY
    sink = known[kind]()
    sink.name = name
    try:
        replayed = replay(run, sinks=[sink], resume=True)
    except (NightbusError, OSError) as error:  # the other sinks get theirs all the same
        _tell(f"{name} could not go on: {error}")
        return ERROR
    # Events that came after it had finished, other observers' faults say, may not concern it.
    if sink.state()["size"] == cursor.state.get("size"):
        _tell(f"{name} had got everything already")
    else:
        number = _number(replayed.events[name], "more event")
        _tell(f"{name}: {number} read, their metrics are in {sink.path}")
    return OK


def _is_being_written(run: RunFolder) -> bool:
    attempts = run.attempts()
    return bool(attempts) and run.is_being_written(attempts[-1])


if __name__ == "__main__":
    sys.exit(main())
