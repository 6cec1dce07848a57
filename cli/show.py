"""``nightbus show RUN``: summarise a run."""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..bus.errors import UsageError
from ..bus.runs.find_run import find_events
from ..bus.shown_text import quoted
from .find import LAST_EVENTS_HELP, add_rank_option, chosen_rank
from .plot import add_plot_options, drawn_in_terminal
from .text import (
    LOSSY,
    OK,
    as_json,
    cell,
    duration,
    how_many,
    moment,
    one_line,
    plain,
    print_problem,
    size,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ..bus.inspection.rank_facts import RanksReport
    from ..bus.inspection.report import (
        AttemptReport,
        CursorReport,
        HookReport,
        MetricReport,
        RunReport,
    )

MAX_KIND_ROWS = 20
MAX_HOOK_ROWS = 12
MAX_HOSTS = 8
MAX_NAMED = 20  # of hyperparameters and the like


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "show",
        help="summarise a run",
        description="Summarise a run, also one that is still running: how it ended, its metrics, "
        "its time by hook, its faults. Of sealed parts of the log, only the summaries are read: "
        "nightbus doctor checks every frame.",
    )
    parser.add_argument("run", metavar="RUN", help=LAST_EVENTS_HELP)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="everything, for programs")
    form.add_argument("--plot", action="store_true", help="draw the metrics in the terminal too")
    add_plot_options(parser)
    parser.add_argument(
        "--all-attempts",
        action="store_true",
        help="also show metrics and hooks that a resumed attempt has superseded",
    )
    add_rank_option(parser, "what this rank recorded; of several, rank 0 is shown")
    parser.set_defaults(command=_show)


def _show(options: argparse.Namespace) -> int:
    from ..bus.inspection.report import summarise

    if not options.plot and (options.metric or options.system or options.x or options.page):
        raise UsageError(
            "--metric, --system, --x and --page say what --plot draws; add --plot, or leave them "
            "out: the table and --json have all metrics"
        )
    run = find_events(options.run)
    rank = chosen_rank(run, options.rank) or 0
    report = summarise(run, rank, all_attempts=options.all_attempts)
    drawn = ""
    if options.plot:
        drawn = "\n" + drawn_in_terminal(run, options, options.all_attempts)
    sys.stdout.write((as_json(report) if options.json else _as_text(report)) + drawn)
    problems = [
        f"attempt {attempt.attempt}: {line}"
        for attempt in report.attempts
        for line in attempt.damage
    ]
    for problem in problems:
        print_problem(problem, run.path)
    return LOSSY if problems else OK


def _as_text(report: "RunReport") -> str:
    from rich.console import Console

    to_terminal = sys.stdout.isatty()
    buffer = io.StringIO()  # not to stdout: rich ends the process when a pipe is closed
    console = Console(
        file=buffer,
        force_terminal=to_terminal,
        # A pipe has no width, so every row stays on one line.
        width=None if to_terminal else 10_000,
    )
    print_report(report, console)
    return buffer.getvalue()


def print_report(report: "RunReport", console: "Console") -> None:
    """Print a report for people.

    Args:
        report: the report.
        console: where to print.
    """
    _print_line(console, report.id, "bold", f"  {report.path}", soft_wrap=True)
    for attempt in report.attempts:
        for line in _attempt_lines(attempt):
            _print_line(console, line)
    if not report.attempts:
        _print_line(console, "nothing was recorded")
    _print_set_up(report, console)
    if report.metrics:
        header = ("metric", "values", "last", "lowest", "at step", "highest", "at step")
        rows = [_metric_row(name, metric) for name, metric in report.metrics.items()]
        _print_table(console, header, rows)
    if report.system:
        used = [_system_row(*item) for item in report.system.items()]
        _print_table(console, ("used", "last", "lowest", "highest"), used)
    if report.hooks:
        _print_table(console, ("hook", "times", "total s", "mean"), _hook_rows(report.hooks))
        _print_line(console, "(hooks nest: optimizer_step holds training_step and backward)", "dim")
    _print_user_events(report, console)
    _print_console(report, console)
    _print_actors(report, console)
    _print_problems(report, console)
    _print_lagging(report, console)


def _print_set_up(report: "RunReport", console: "Console") -> None:
    """Print what is noted about the run, how it was set up and where it ran."""
    noted = {"name": report.name, "group": report.group, "tags": ", ".join(report.tags)}
    noted["parent"] = report.parent
    if report.name == report.id.rpartition("-")[0]:
        del noted["name"]  # the id says it
    parts = (
        ("", {**noted, "notes": report.notes}),
        ("hyperparameters", report.hparams),
        ("arguments", report.config),
        ("environment", report.environment),
        ("versions", report.versions),
    )
    for title, values in parts:
        shown = [
            f"{name} {cell(value)}" for name, value in values.items() if value not in (None, "")
        ]
        if shown:
            rest = (
                f"{title}: {one_line(', '.join(shown[:MAX_NAMED]))}" if title else ", ".join(shown)
            )
            more = f", and {len(shown) - MAX_NAMED} more" if len(shown) > MAX_NAMED else ""
            _print_line(console, "", rest=f"  {rest}{more}", soft_wrap=True)


def _attempt_lines(attempt: "AttemptReport") -> list[str]:
    reason = f": {one_line(attempt.reason)}" if attempt.reason else ""
    if attempt.started_ns is None:
        lines = [f"attempt {attempt.attempt} {attempt.how}{reason}, before it recorded its start"]
    else:
        lines = [
            f"attempt {attempt.attempt}: {attempt.fn} {attempt.how}{reason}",
            f"  {moment(attempt.started_ns)}, {duration(attempt.duration_s)}, "
            f"{how_many(attempt.epochs, 'epoch')}, {how_many(attempt.steps, 'step')}, "
            f"{how_many(sum(attempt.events.values()), 'event')}",
        ]
    lines += _rank_lines(attempt.ranks)
    fork, end = attempt.fork, attempt.log_end
    if fork is not None:
        lines.append(f"  resumed attempt {fork.attempt} from {fork.checkpoint}")
    if end is not None:
        where = f"byte {end.offset:,} of segment {end.segment}"
        lines.append(f"  the log ends at {where}: {one_line(end.reason)}")
    if attempt.superseded_from == 0:
        lines.append("  superseded: a later attempt has taken its place")
    elif attempt.superseded_from is not None:
        lines.append(
            f"  superseded from event {attempt.superseded_from:,} on, where a later attempt went on"
        )
    if attempt.missing_segments:
        missing = ", ".join(map(str, attempt.missing_segments))
        lines.append(f"  segments are missing: {missing}")
    return lines


def _rank_lines(ranks: "RanksReport") -> list[str]:
    if ranks.world_size == 1:
        return []
    names = ", ".join(ranks.hosts[:MAX_HOSTS]) + (" ..." if len(ranks.hosts) > MAX_HOSTS else "")
    where = f" on {how_many(len(ranks.hosts), 'host')}: {one_line(names)}" if ranks.hosts else ""
    lines = [f"  {how_many(ranks.world_size, 'rank')}{where}"]
    if missing := ranks.without_log:
        first = ", ".join(map(str, missing[:MAX_HOSTS])) + (" ..." if missing[MAX_HOSTS:] else "")
        lines.append(f"  without a log: rank {first}")
    lines += [
        f"  lost: rank {lost.rank}, {lost.cause}: {one_line(lost.what)}" for lost in ranks.lost
    ]
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


def _system_row(name: str, used: "MetricReport") -> tuple[str, ...]:
    values = (used.last, used.low, used.high)
    return (name, *("" if value is None else _amount(name, value) for value in values))


def _amount(name: str, value: float) -> str:
    if name.endswith(("_bytes", "_bytes_per_s")):
        return size(value)
    return f"{value:,.4g}"


def _hook_rows(hooks: "dict[str, HookReport]") -> list[tuple[str, ...]]:
    ordered = sorted(hooks.items(), key=lambda item: -item[1].total_ns)
    # Hooks without handlers take no time: they are counted, not listed.
    shown = [item for item in ordered[:MAX_HOOK_ROWS] if item[1].total_ns]
    rows = [_hook_row(name, hook.count, hook.total_ns) for name, hook in shown]
    rest = [hook for _, hook in ordered[len(shown) :]]
    if rest:
        count, total_ns = sum(hook.count for hook in rest), sum(hook.total_ns for hook in rest)
        rows.append(_hook_row(how_many(len(rest), "other"), count, total_ns))
    return rows


def _hook_row(name: str, count: int, total_ns: int) -> tuple[str, ...]:
    return (name, f"{count:,}", f"{total_ns / 1e9:.3f}", duration(total_ns / count / 1e9))


def _print_user_events(report: "RunReport", console: "Console") -> None:
    """Print the numbers of each event that users defined, whose names have a dot."""
    counts: Counter[str] = Counter()
    for attempt in report.attempts:
        counts.update({kind: n for kind, n in attempt.events.items() if "." in kind})
    rows = [(plain(one_line(kind)), f"{number:,}") for kind, number in counts.items()]
    if rows:
        _print_table(console, ("event", "times"), rows[:MAX_KIND_ROWS])
    if len(rows) > MAX_KIND_ROWS:
        _print_line(console, f"and {len(rows) - MAX_KIND_ROWS:,} more types of events", "dim")


def _print_console(report: "RunReport", console: "Console") -> None:
    """Print how much the process has printed, and how to see it."""
    lines = sum(attempt.events.get("ConsoleLine", 0) for attempt in report.attempts)
    if lines:
        console.print()
        how = f"nightbus tail --console {quoted(report.path)}"
        _print_line(console, f"printed {how_many(lines, 'line')}; see {how}", soft_wrap=True)


def _print_actors(report: "RunReport", console: "Console") -> None:
    """Print what actors did in the last attempt that recorded it."""
    if not report.actors:
        return
    last = report.actors[-1].attempt
    rows = []
    for actor in report.actors:
        if actor.attempt != last:
            continue
        numbers = (actor.events, actor.lag, actor.restarts, actor.faults, actor.sent)
        lost = (actor.dropped, actor.dead)
        rows.append((actor.name, actor.state, *(f"{number:,}" for number in (*numbers, *lost))))
    header = ("actor", "state", "events", "lag", "restarts", "faults", "commands", "dropped")
    _print_table(console, (*header, "dead"), rows)


def _print_lagging(report: "RunReport", console: "Console") -> None:
    """Print which sinks have not received everything, and how to deliver the rest."""
    if not report.attempts or report.attempts[-1].how == "running":
        return
    late = [cursor for cursor in report.cursors if cursor.lag]
    if not late:
        return
    console.print()
    for cursor in late:
        rest = f" has {how_many(cursor.lag, 'event')} to get"
        _print_line(console, cursor.name, "bold red", rest)
    for text in dict.fromkeys(_how_it_gets_the_rest(report, cursor) for cursor in late):
        _print_line(console, text, soft_wrap=True)


def _how_it_gets_the_rest(report: "RunReport", cursor: "CursorReport") -> str:
    from ..bus.errors import RunFolderError
    from ..bus.runs.run_folder import RunFolder
    from ..sinks.refill import refill

    try:
        how = refill(RunFolder.open(report.path), cursor.name, cursor.kind)
    except RunFolderError as error:  # shows as much as possible of a damaged run
        return str(error)
    return how.advice


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
        f"{how_many(gap.count, 'event')} before step {gap.step:,} not written: {gap.reason}"
        for gap in report.gaps
    ]
    problems = (("fault", "Fault", faults), ("dead letter", "DeadLetter", letters))
    for what, kind, texts in (*problems, ("gap", "Gap", gaps)):
        if texts:
            console.print()
        for text, times in Counter(texts).items():
            again = f" ({times} times)" if times > 1 else ""
            _print_line(console, what, "bold red", f": {one_line(text)}{again}")
        counted = sum(attempt.events.get(kind, 0) for attempt in report.attempts)
        if counted > len(texts):
            more = how_many(counted - len(texts), f"more {what}")
            _print_line(console, f"and {more}", "bold red")
    if report.left_behind:
        console.print()
    for path in report.left_behind:
        _print_line(console, "left behind", "bold", f": {path}", soft_wrap=True)


def _print_line(
    console: "Console", text: str, style: str = "", rest: str = "", soft_wrap: bool = False
) -> None:
    """Print a line that begins in a style; ``soft_wrap`` does not break it, for paths."""
    from rich.text import Text

    line = Text.assemble((plain(text), style), plain(rest))
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
            overflow="fold",  # breaks a long name over lines instead of cutting it
        )
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console.print()
    console.print(table)
