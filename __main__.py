"""The command line: ``nightbus show RUN``, ``nightbus plot RUN``, ``nightbus replay RUN``.

What programs read goes to stdout, what people should know besides goes to stderr.
"""

import argparse
import io
import os
import shutil
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bus.errors import LogError, NightbusError, RunFolderError, UsageError
from .bus.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console

    from .bus.cursor import Cursor
    from .bus.curves import Curve
    from .bus.report import AttemptReport, HookReport, MetricReport, RunReport

OK, ERROR, USAGE, LOSSY, REFUSED = 0, 1, 2, 3, 5
INTERRUPTED = 130  # as shells do: 128 + SIGINT
MAX_HOOK_ROWS = 12
MAX_NAMED_RUNS = 5
MAX_MESSAGE_CHARS = 300

_EXIT_CODES = """\
exit codes:
  0  fine
  1  error
  2  the call is wrong, or there is no such run
  3  done, but not all could be delivered
  5  refused: not an event log, or one of a newer major version
"""
_FILE_SINKS = {
    "csv": "CSV",
    "jsonl": "JSONLines",
    "tensorboard": "TensorBoard",
    "sqlite": "SQLite",
    "parquet": "Parquet",
}
_RUN_HELP = "the run's folder, anything inside it, or the run's id below ./runs"
# What a recorded text may hold that a terminal would act on.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


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
        description="Look at recorded runs, and replay them.",
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
    form = show.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument("--plot", action="store_true", help="draw the metrics in the terminal too")
    _add_plot_options(show)
    show.set_defaults(command=_show)

    plot = verbs.add_parser(
        "plot",
        help="draw the metrics of runs into a file",
        description="Draw metrics of one run, or of several to compare them, as one figure.",
    )
    plot.add_argument("runs", metavar="RUN", nargs="+", help=_RUN_HELP)
    plot.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="where to: a .png, .svg or .pdf"
    )
    _add_plot_options(plot)
    plot.set_defaults(command=_plot)

    replay = verbs.add_parser(
        "replay",
        help="deliver a recorded run to sinks",
        description="Deliver a recorded run to new files, or what its own sinks had not got.",
    )
    replay.add_argument("run", metavar="RUN", help=_RUN_HELP)
    for option, kind in _FILE_SINKS.items():
        replay.add_argument(f"--{option}", metavar="DIR", help=f"write a {kind} file into DIR")
    replay.add_argument(
        "--resume",
        action="store_true",
        help="deliver what the files that the run's own sinks wrote lack",
    )
    replay.set_defaults(command=_replay)
    return parser


def _add_plot_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--metric", metavar="NAME", action="append", default=[], help="draw only this; repeatable"
    )
    verb.add_argument(
        "--x", choices=("step", "time"), default="step", help="the axis; step by default"
    )


def _tell(message: str) -> None:
    print(f"nightbus: {_plain(message)}", file=sys.stderr)


def _plain(text: str) -> str:
    """The text without what a terminal would act on: a run may be a stranger's."""
    return text.translate(_CONTROL)


def _plain_lines(text: str) -> str:
    return "\n".join(_plain(line) for line in text.split("\n"))


# -- finding a run -------------------------------------------------------------------------------


def _find(given: str) -> RunFolder:
    """The run that a path, a path inside a run, or an id means.

    Raises:
        RunFolderError: there is none.
    """
    path = Path(given)
    for candidate in (path, Path("runs") / given):
        if (candidate / "run.json").exists():
            return RunFolder.open(candidate)
    run = RunFolder.containing(path) if path.exists() else None
    if run is not None:
        return run
    what = "is not a run" if path.exists() else "is neither a run's folder nor an id below ./runs"
    for root in (path, Path("runs")):
        runs = _newest_runs(root)
        if runs:
            raise RunFolderError(f"{given} {what}; runs in {root}: {', '.join(runs)}")
    raise RunFolderError(
        f"{given} {what}; give the folder that holds run.json, which a trainer makes in "
        "default_root_dir/runs"
    )


def _newest_runs(root: Path) -> list[str]:
    """Ids of the newest runs in a folder, newest first."""
    dated = sorted((file.stat().st_mtime, file.parent.name) for file in root.glob("*/run.json"))
    names = [name for _, name in reversed(dated)]
    more = len(names) - MAX_NAMED_RUNS
    return [*names[:MAX_NAMED_RUNS], *([f"and {more} more"] if more > 0 else [])]


# -- show ----------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    from .bus.report import summarise

    report = summarise(_find(options.run))
    plots = "\n" + _drawn(options) if options.plot else ""
    sys.stdout.write((_as_json(report) if options.json else _as_text(report)) + plots)
    return OK


def _drawn(options: argparse.Namespace) -> str:
    from .bus.plots import draw_in_terminal

    curves = _curves(_find(options.run), options.metric)
    columns = shutil.get_terminal_size().columns
    return _plain_lines(draw_in_terminal(curves, options.x, columns))


def _as_json(report: "RunReport") -> str:
    import msgspec

    encoded = msgspec.json.encode(_finite(msgspec.to_builtins(report)))
    return msgspec.json.format(encoded).decode() + "\n"


def _finite(value: Any) -> Any:
    """The same with NaN and infinities, which JSON has no numbers for, as strings."""
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value


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


def _one_line(text: str) -> str:
    """The text in one line, and not a long one."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:MAX_MESSAGE_CHARS]} ..."


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    """A duration with three digits or more, in the unit that suits it."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


# -- plot ----------------------------------------------------------------------------------------


def _plot(options: argparse.Namespace) -> int:
    from .bus.plots import save_figure

    found = [_find(run) for run in options.runs]
    names = [run.info.id for run in found]
    if len(set(names)) < len(names):  # of different folders
        names = [str(run.path) for run in found]
    curves = {name: _curves(run, options.metric) for name, run in zip(names, found, strict=True)}
    metrics = options.metric or list(dict.fromkeys(name for run in curves.values() for name in run))
    path = Path(options.output)
    save_figure(curves, metrics, options.x, path)
    _tell(f"{_number(len(metrics), 'metric')} of {_number(len(found), 'run')} drawn in {path}")
    return OK


def _curves(run: RunFolder, metrics: Sequence[str]) -> "dict[str, Curve]":
    from .bus.curves import read_curves

    curves = read_curves(run, frozenset(metrics))
    missing = [name for name in metrics if name not in curves]
    if missing or not curves:
        known = ", ".join(curves if not metrics else read_curves(run)) or "nothing"
        what = f"no metric {', '.join(missing)}" if missing else "no metrics"
        raise UsageError(f"{run.path} has {what}; recorded: {known}")
    return curves


# -- replay --------------------------------------------------------------------------------------


def _replay(options: argparse.Namespace) -> int:
    folders = {
        kind: folder
        for option, kind in _FILE_SINKS.items()
        if (folder := getattr(options, option)) is not None
    }
    wanted = ", ".join(f"--{option} DIR" for option in _FILE_SINKS)
    if options.resume:
        if folders:
            raise UsageError(f"--resume goes on with the run's own sinks; leave out {wanted}")
        return _resume(_find(options.run))
    if not folders:
        raise UsageError(f"name a destination: {wanted}, or --resume")
    return _replay_into(_find(options.run), folders)


def _replay_into(run: RunFolder, folders: dict[str, str]) -> int:
    from . import sinks as all_sinks
    from .bus.replay import replay

    sinks = [getattr(all_sinks, kind)(folder) for kind, folder in folders.items()]
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
    from . import sinks as all_sinks
    from .bus.replay import replay

    # By name from this table alone: a file never says what code to load.
    kind = cursor.kind
    if kind not in _FILE_SINKS.values():
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
    try:
        sink = getattr(all_sinks, kind)()
        sink.name = name
        replayed = replay(run, sinks=[sink], resume=True)
    except (NightbusError, OSError) as error:  # the other sinks get theirs all the same
        _tell(f"{name} could not go on: {error}")
        return ERROR
    # Events that came after it had finished, other observers' faults say, may not concern it.
    if all(cursor.state.get(key) == value for key, value in sink.state().items()):
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
