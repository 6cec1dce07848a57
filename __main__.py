"""The command line: ``nightbus show RUN``, ``nightbus replay RUN``.

Exit codes: 0 fine, 1 error, 2 usage, 3 done but something was lost, 5 refused.
"""

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bus.errors import LogError, NightbusError, RunFolderError, UsageError
from .bus.run_folder import RunFolder

if TYPE_CHECKING:
    from .bus.report import AttemptReport, RunReport
    from .bus.summary import MetricTotal
    from .sinks.sink import Sink

OK, ERROR, USAGE, LOSSY, REFUSED = 0, 1, 2, 3, 5
MAX_HOOK_ROWS = 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except NightbusError as error:
        if os.environ.get("NIGHTBUS_LOG", "").lower() == "debug":
            traceback.print_exc()
        print(f"nightbus: {error}", file=sys.stderr)
        if isinstance(error, LogError):
            return REFUSED
        return USAGE if isinstance(error, UsageError | RunFolderError) else ERROR
    except BrokenPipeError:  # `nightbus show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="nightbus", description="Look at recorded runs, and replay them."
    )
    parser.add_argument("--version", action="version", version=f"nightbus {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    show = verbs.add_parser("show", help="summarise a run")
    show.add_argument("run", help="the run's folder, or its id below ./runs")
    show.add_argument("--json", action="store_true", help="for programs instead of people")
    show.set_defaults(command=_show)

    replay = verbs.add_parser("replay", help="deliver a recorded run to sinks")
    replay.add_argument("run", help="the run's folder, or its id below ./runs")
    replay.add_argument("--csv", metavar="DIR", help="write DIR/metrics.csv")
    replay.add_argument("--jsonl", metavar="DIR", help="write DIR/metrics.jsonl")
    replay.add_argument(
        "--resume",
        action="store_true",
        help="deliver what the run's own sinks had not got when it ended",
    )
    replay.set_defaults(command=_replay)
    return parser


def _find(given: str) -> RunFolder:
    """The run that a path, a path inside a run, or an id means."""
    path = Path(given)
    if not path.exists() and (Path("runs") / given / "run.json").exists():
        path = Path("runs") / given
    if path.exists() and not (path / "run.json").exists():
        return RunFolder.containing(path) or RunFolder.open(path)
    return RunFolder.open(path)


# -- show ----------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    from .bus.report import summarise

    report = summarise(_find(options.run))
    if options.json:
        import msgspec

        print(
            msgspec.json.format(msgspec.json.encode(_finite(msgspec.to_builtins(report)))).decode()
        )
        return OK
    _print_report(report)
    return OK


def _finite(value: Any) -> Any:
    """The same with NaN and infinities, which JSON has no numbers for, as strings."""
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _print_report(report: "RunReport") -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{report.id}[/bold]  {report.path}", markup=True)
    for attempt in report.attempts:
        console.print(_attempt_line(attempt), markup=False)
    if not report.attempts:
        console.print("nothing was recorded")
    if report.total.metrics:
        console.print()
        _print_table(
            console,
            ("metric", "values", "last", "lowest", "at step", "highest", "at step"),
            [_metric_row(name, total) for name, total in report.total.metrics.items()],
        )
    if report.total.hooks:
        console.print()
        _print_table(console, ("hook", "times", "total s", "mean us"), _hook_rows(report))
        console.print("(hooks nest: optimizer_step holds training_step and backward)")
    for fault in report.total.faults:
        where = f" in {fault.hook}" if fault.hook else ""
        console.print(
            f"fault of {fault.source}{where}: {fault.error}: {fault.message}", markup=False
        )
    lost = report.total.events.get("Gap", 0)
    if lost:
        console.print(f"{lost} gaps: events that could not be written")
    letters = report.total.events.get("DeadLetter", 0)
    if letters:
        console.print(f"{letters} dead letters: commands that reached nobody")


def _attempt_line(attempt: "AttemptReport") -> str:
    from datetime import datetime

    started = datetime.fromtimestamp(attempt.started_ns / 1e9).astimezone()
    reason = f" ({attempt.reason})" if attempt.reason else ""
    fork = attempt.summary.started.fork if attempt.summary.started else None
    resumed = f", resumed from {fork.checkpoint}" if fork else ""
    return (
        f"attempt {attempt.attempt}: {attempt.fn or 'unknown'} {attempt.how}{reason}, "
        f"{started:%Y-%m-%d %H:%M:%S}, {attempt.duration_s:.1f} s, "
        f"{attempt.steps:,} steps{resumed}"
    )


def _metric_row(name: str, total: "MetricTotal") -> tuple[str, ...]:
    values = f"{total.count:,}" + (f" ({total.non_finite} nan/inf)" if total.non_finite else "")
    if total.count == total.non_finite:
        return (name, values, f"{total.last:.5g}", "", "", "", "")
    return (
        name,
        values,
        f"{total.last:.5g}",
        f"{total.low:.5g}",
        f"{total.low_step:,}",
        f"{total.high:.5g}",
        f"{total.high_step:,}",
    )


def _hook_rows(report: "RunReport") -> Sequence[Sequence[str]]:
    ordered = sorted(report.total.hooks.items(), key=lambda item: -item[1].total_ns)
    shown = [item for item in ordered[:MAX_HOOK_ROWS] if item[1].total_ns]
    rows = [
        (
            name,
            f"{hook.count:,}",
            f"{hook.total_ns / 1e9:.3f}",
            f"{hook.total_ns / hook.count / 1e3:.1f}",
        )
        for name, hook in shown
    ]
    rest = [hook for _, hook in ordered[len(shown) :]]
    if rest:
        count, total_ns = sum(h.count for h in rest), sum(h.total_ns for h in rest)
        rows.append(
            (
                f"{len(rest)} others",
                f"{count:,}",
                f"{total_ns / 1e9:.3f}",
                f"{total_ns / max(1, count) / 1e3:.1f}",
            )
        )
    return rows


def _print_table(console: Any, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(header):
        table.add_column(title, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        table.add_row(*row)
    width = None if console.is_terminal else 200
    console.print(table, width=width, soft_wrap=False)


# -- replay --------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    from .bus.replay import replay

    run = _find(options.run)
    if options.resume:
        if options.csv or options.jsonl:
            raise UsageError(
                "--resume goes on with the run's own sinks; leave --csv and --jsonl out"
            )
        return _resume(run)
    sinks: list[Sink] = []
    if options.csv:
        from .sinks.csv import CSV

        sinks.append(CSV(options.csv))
    if options.jsonl:
        from .sinks.json_lines import JSONLines

        sinks.append(JSONLines(options.jsonl))
    if not sinks:
        raise UsageError("name a destination: --csv DIR, --jsonl DIR, or --resume")
    replayed = replay(run, sinks=sinks)
    for name, number in replayed.events.items():
        print(f"nightbus: read {number:,} events for {name}", file=sys.stderr)
    if replayed.unclean:
        print(f"nightbus: the recording was cut: {replayed.unclean}", file=sys.stderr)
        return LOSSY
    return OK


def _resume(run: RunFolder) -> int:
    """Deliver the rest to the sinks that nightbus brings; sinks of the user's need their class."""
    from .bus.cursor import CursorFile, list_cursors
    from .bus.replay import replay
    from .sinks.csv import CSV
    from .sinks.json_lines import JSONLines

    known: dict[str, type[Sink]] = {"CSV": CSV, "JSONLines": JSONLines}
    cursors = {name: CursorFile(run, name).load() for name in list_cursors(run)}
    if not cursors:
        raise UsageError(f"{run.path} had no sinks; name a destination with --csv or --jsonl")
    code = OK
    for name, cursor in cursors.items():
        kind = cursor.kind if cursor else ""
        if kind not in known:
            print(
                f"nightbus: {name} is a sink of your own, {kind}; deliver the rest with "
                f"nightbus.replay({str(run.path)!r}, sinks=[{kind}()], resume=True)",
                file=sys.stderr,
            )
            code = LOSSY
            continue
        sink = known[kind]()
        sink.name = name
        replayed = replay(run, sinks=[sink], resume=True)
        number = replayed.events[name]
        what = f"got {number:,} more events" if number else "had got everything already"
        print(f"nightbus: {name} {what}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
