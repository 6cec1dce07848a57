"""ProgressBar: shows the progress of training on a terminal, in a notebook, or as lines of text."""

import atexit
import contextlib
import html
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..bus.errors import NightbusError
from ..bus.events import (
    ActorRestarted,
    ActorStopped,
    CheckpointSaved,
    Event,
    Fault,
    Hook,
    LoopAdvanced,
    LoopEnded,
    LoopStarted,
    Put,
    Resumed,
    RunEnded,
    RunStarted,
    Scalar,
)
from ..bus.library.html_curves import html_curves
from ..bus.log.codec import DecodedEvent, HookSelection
from ..bus.runs.run_folder import RunFolder
from ..bus.system.console_tee import unnoted, watch_streams
from ..bus.system.forks import leave_when_forked
from ..bus.system.import_rng_guard import random_numbers_elsewhere
from ..bus.system.logging_setup import get_logger
from ..bus.system.paths import from_here
from ..bus.system.streams import is_terminal, notify_user
from ..bus.system.terminal_message import STDERR, drawing_is_over, drawn_lines
from .progress_view import Bar, ProgressView, number
from .sink import Sink

if TYPE_CHECKING:  # rich takes 50 ms to load: on the bus thread, and only when it draws
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from ..bus.inspection.report import MetricReport


_log = get_logger("nightbus.progress_bar")
MIN_REFRESH_S = 0.1
MAX_REFRESH_S = 2.0
LINES_EVERY_S = 0.5  # where nothing is drawn
MAX_SHARE = 0.005  # of the interpreter's time; reading and waking up cost about as much again
MIN_BAR_CELLS = 8
MAX_METRIC_LINES = 3
MAX_TABLE_ROWS = 40
MAX_LINES_AT_ONCE = 20  # of epochs, above a live display
MIN_NAME_CELLS = 12
NOTEBOOK_COLUMNS = 100
JOIN_TIMEOUT_S = 1.0  # wait for a terminal that takes nothing, for example after Ctrl-S
_STYLES = {
    "description": "",
    "progress_bar": "green",
    "batch_progress": "",
    "time": "bright_black",
    "processing_speed": "cyan",
    "metrics": "default",
    "metrics_text_delimiter": "  ",
    "metrics_format": "",
}
_BATCH_HOOKS = {
    "on_train_batch_end",
    "on_validation_batch_end",
    "on_test_batch_end",
    "on_predict_batch_end",
}


class _Display(Protocol):
    """A place where each picture replaces the one before."""

    def update(self, picture: "Text") -> None: ...

    def stop(self) -> None: ...

    def finish(self, renderables: "Sequence[RenderableType]") -> None: ...


class ProgressBar(Sink):
    """Shows epochs and batches with rate and time left, and metrics marked ``prog_bar``.

    It draws on stderr: a live display on a terminal and in a notebook, above which each epoch
    leaves a line. Elsewhere there are these lines alone, and in long epochs more of them: one a
    minute, or at each tenth of an epoch that takes longer than ten. Epochs are numbered from 0: as
    many are done before it. What the program prints on the same terminal appears above the display.
    The bar measures what drawing costs, and draws so seldom that it takes at most 1 % of a run's
    time.

    Args:
        console: where to draw; stderr by default.
        leave: keep a line of each epoch above a live display. Of many that end at once, it keeps
            those of the last.
        choose: returns the metrics to show, with their values, of all by name.
        styles: part of the bar -> a style of rich; see RichProgressBarTheme.
        console_options: options of ``rich.console.Console``, if none is given.

    Attributes:
        running_hook: returns the hook that runs, to be shown until the first loop begins.
        known_metrics: returns the names of metrics for the bar, those of earlier attempts included.
        is_run_told: an exception says where the run is, after what is shown at the end.
    """

    destination = "progress_bar"
    events: tuple[type[Event], ...] = (
        Put,
        Hook,
        LoopStarted,
        LoopAdvanced,
        LoopEnded,
        RunStarted,
        RunEnded,
        Resumed,
        CheckpointSaved,
        Fault,
        ActorRestarted,
        ActorStopped,
    )
    poll_interval_s = MIN_REFRESH_S

    def __init__(
        self,
        console: "Console | None" = None,
        leave: bool = True,
        choose: Callable[[Mapping[str, Scalar]], Mapping[str, Any]] | None = None,
        styles: Mapping[str, str] | None = None,
        console_options: Mapping[str, Any] | None = None,
    ) -> None:
        self._given_console = console
        self._leaves = leave
        self._choose = choose
        self._styles = {**_STYLES, **(styles or {})}
        self._console_options = dict(console_options or {})
        self._console: Console | None = None
        self._view = self._new_view()
        self._lock = threading.Lock()  # guards the view, which one thread updates and another draws
        self._display: _Display | None = None
        self._drawer: threading.Thread | None = None
        self._stopping = threading.Event()  # stops the drawing thread
        self._draw_error: Exception | None = None
        self._taking_s = 0.0  # processor time spent on events since the last drawing
        self._gap_s = MIN_REFRESH_S
        self._changed = False
        self.running_hook: Callable[[], str] = str  # none, as in a replay
        self.known_metrics: Callable[[], Collection[str]] = tuple
        self.is_run_told = False

    def _new_view(self) -> ProgressView:
        view = ProgressView(self._choose, self._styles["metrics_format"])
        view.tells_within = not self._is_live
        view.keeps_curves = self._console is not None and self._console.is_jupyter
        return view

    # -- which events it reads ----------------------------------------------------------------

    def _hook_selection(self) -> HookSelection:
        return "latest"  # only the current place, not each hook that led there

    def _observed_hooks(self) -> set[str] | None:
        return _BATCH_HOOKS

    # -- life cycle ---------------------------------------------------------------------------

    def open(self, resumed: bool) -> None:
        with random_numbers_elsewhere():
            from rich.console import Console

        # FORCE_COLOR would have rich take a file for a terminal, and fill it with redrawn bars.
        options = {"stderr": True, "highlight": False, "force_terminal": is_terminal(sys.stderr)}
        self._console = self._given_console or Console(**{**options, **self._console_options})
        self._gap_s = MIN_REFRESH_S if self._is_live else LINES_EVERY_S
        self._view.tells_within = not self._is_live
        self._view.keeps_curves = self._console.is_jupyter
        if self._view.fn and self._view.ended is None:  # a restart
            self._start_drawing()

    def write(self, batch: list[Any]) -> None:
        begin_s = time.thread_time()
        with self._lock:
            for event in batch:
                if type(event) is RunStarted:
                    self._view = self._new_view()
                self._view.take(event)
            self._changed = True
        self._taking_s += time.thread_time() - begin_s

    def close(self) -> None:
        self.stop()

    async def _deliver(
        self, events: Sequence[DecodedEvent], delivered: Callable[[int], None]
    ) -> None:
        error, self._draw_error = self._draw_error, None
        if error is not None:
            raise error
        wanted = [event for event in events if self.wants(event)]
        # Not in a worker thread as other sinks: that would cost more than the work itself.
        self.write(wanted)
        for event in wanted:
            if type(event) is RunStarted:
                self._start_drawing()
            elif type(event) is RunEnded:
                await self._in_thread(self._show_end)
        if self._has_lines():
            await self._in_thread(self._print_lines)
        delivered(events[-1].seq + 1)
        self.poll_interval_s = self._gap_s

    def _has_lines(self) -> bool:
        view = self._view
        return bool(view.notices or (view.epoch_lines and (self._leaves or not self._is_live)))

    # -- lines -------------------------------------------------------------------------------

    @unnoted()
    def _print_lines(self) -> None:
        with self._lock:
            view = self._view
            of_epochs = view.epoch_lines if self._leaves or not self._is_live else []
            earlier = len(of_epochs) - MAX_LINES_AT_ONCE if self._is_live else 0
            if earlier > 0:
                of_epochs = [f"{earlier} epochs before", *of_epochs[earlier:]]
            lines = [*view.notices, *of_epochs]
            view.epoch_lines.clear()
            view.notices.clear()
        if not lines:
            return
        begin_s = time.thread_time()
        if self._is_live:  # which is drawn again each time
            self._print_line(*lines)
        else:
            for line in lines:
                self._print_line(line)
        self._taking_s += time.thread_time() - begin_s

    def _print_line(self, *lines: str) -> None:
        text = "\n".join(map(_printable, lines))
        if self._given_console is None and not self._is_live:
            notify_user(text)
            return
        from rich.text import Text

        if self._console is not None:
            self._console.print(Text(text), soft_wrap=True)

    @unnoted()
    def _show_end(self) -> None:
        self._print_lines()
        from rich.text import Text

        view = self._view
        has_table = self._is_live and view.fn == "fit"
        earlier = self._earlier_metrics() if has_table and view.is_resumed else {}
        known = self.known_metrics()
        with self._lock:
            # All, if nothing was left to train.
            shown = {*view.metrics, *known} if view.metrics else earlier
            for name, metric in earlier.items():
                if name in shown:
                    view.add_earlier(name, metric.last, metric.low, metric.high)
            has_table = has_table and bool(view.metrics)
            lines = [view.end_text(), *self._where_lines()]
            table = self._final_table() if has_table else None
        display = self._stop_drawing()
        if display is None:
            for line in lines:
                self._print_line(line)
            if table is not None and self._console is not None:
                self._console.print(table)
            return
        end: list[RenderableType] = [Text(_printable(line)) for line in lines]
        display.finish(end if table is None else [*end, table])

    def _earlier_metrics(self) -> "Mapping[str, MetricReport]":
        """Return the metrics of the whole run's log, earlier attempts included."""
        from ..bus.inspection.report import summarise

        path = self._nightbus_context.run_path if self._nightbus_context is not None else None
        if path is None:
            return {}
        try:
            return summarise(RunFolder.open(path)).metrics
        except (NightbusError, OSError) as error:  # shows this attempt alone
            _log.warning("cannot read earlier attempts", error=str(error))
            return {}

    def _where_lines(self) -> list[str]:
        """Return where the run is, and where a run that ended early was last saved."""
        path = self._nightbus_context.run_path if self._nightbus_context is not None else None
        if path is None:
            return []
        path = from_here(path)
        view = self._view
        ended_early = view.ended is not None and view.ended.how != "completed"
        saved = [f"saved last: {path / view.saved}"] if view.saved and ended_early else []
        return saved if self.is_run_told else [f"run: {path}", *saved]

    # -- the live display --------------------------------------------------------------------

    @property
    def _is_live(self) -> bool:
        console = self._console
        return console is not None and (console.is_interactive or console.is_jupyter)

    def _start_drawing(self) -> None:
        if self._drawer is not None or not self._is_live:
            return
        self._stopping = threading.Event()
        self._drawer = threading.Thread(
            target=self._draw_repeatedly,
            args=(self._stopping,),
            name="nightbus-progress",
            daemon=True,
        )
        atexit.register(self.stop)
        leave_when_forked(self)
        self._drawer.start()

    def leave_to_parent(self) -> None:
        """Stop drawing in a forked child, such as a dataloader worker.

        A child that prints would draw the parent's bar, or wait for a lock for ever; the same when
        it exits.
        """
        self._drawer = self._display = None
        self._lock, self._stopping = threading.Lock(), threading.Event()
        atexit.unregister(self.stop)
        drawn_lines(0)
        for name in ("stdout", "stderr"):
            proxied = getattr(getattr(sys, name), "rich_proxied_file", None)
            if proxied is not None:
                setattr(sys, name, proxied)

    def _draw_repeatedly(self, stopping: threading.Event) -> None:
        """Draw changes, at a pace set by the cost of drawing."""
        from rich.live import Live  # noqa: F401  loaded before anything is measured

        hook = ""
        while not stopping.wait(self._gap_s):
            before, hook = hook, self.running_hook() if self._view.is_starting else ""
            if not self._changed and hook == before:
                continue
            self._changed = False
            begin_s = time.thread_time()
            try:
                self._draw()
            except Exception as error:
                self._draw_error = error  # raised later, where the supervision sees it
                return
            taking_s, self._taking_s = self._taking_s, 0.0
            cost_s = time.thread_time() - begin_s + taking_s
            self._gap_s = min(MAX_REFRESH_S, max(MIN_REFRESH_S, cost_s / MAX_SHARE))

    @unnoted()
    def _draw(self) -> None:
        assert self._console is not None
        picture = self.render(self._console.width)
        if self._display is None:
            is_notebook = self._console.is_jupyter
            self._display = (
                _Notebook(self._html_curves) if is_notebook else _Terminal(self._console)
            )
        self._display.update(picture)

    def _html_curves(self) -> str:
        with self._lock:
            return html_curves(self._view.curves)

    def _stop_drawing(self) -> _Display | None:
        """End the drawing thread; return the display, which the caller stops."""
        self._stopping.set()
        drawer, self._drawer = self._drawer, None
        if drawer is not None and drawer is not threading.current_thread():
            drawer.join(JOIN_TIMEOUT_S)
            if drawer.is_alive():
                return None
        display, self._display = self._display, None
        return display

    @unnoted()
    def stop(self) -> None:
        """Release the terminal; called again at the end of the run in any case."""
        display = self._stop_drawing()
        if display is not None:
            display.stop()
        atexit.unregister(self.stop)

    # -- pictures ----------------------------------------------------------------------------

    def render(self, width: int) -> "Text":
        """Return what a live display shows now.

        Args:
            width: columns of the terminal.
        """
        from rich.text import Text

        with self._lock:
            bars = self._view.bars()
            items, total = self._view.items()
            function = self._view.fn
        is_ascii = self._console is not None and not self._console.encoding.startswith("utf")
        lines = _bar_lines(bars, width, "#-" if is_ascii else "━─", self._styles)
        lines += _metric_lines(items, total, width, self._styles)
        for line in lines:
            line.truncate(max(1, width), overflow="ellipsis")
        hook = self.running_hook() if not lines else ""
        starting = f"{function} is starting{f': {hook}' if hook else ''}"
        text = Text("\n").join(lines) if lines else Text(starting)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text

    def _final_table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        metrics = self._view.metrics
        shown = dict(list(metrics.items())[:MAX_TABLE_ROWS])
        columns = {
            "last": [number(metric.last) for metric in shown.values()],
            "lowest": ["" if m.low is None else number(m.low) for m in shown.values()],
            "highest": ["" if m.high is None else number(m.high) for m in shown.values()],
        }
        width = self._console.width if self._console is not None else NOTEBOOK_COLUMNS
        sizes = {title: max(map(len, (title, *cells))) for title, cells in columns.items()}
        # Cut names rather than numbers: a cut number is a wrong one.
        while (room := width - sum(sizes[title] + 2 for title in columns)) < MIN_NAME_CELLS:
            if len(columns) == 1:
                break
            columns.popitem()
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("metric", overflow="ellipsis", no_wrap=True, max_width=max(1, room))
        for title in columns:
            table.add_column(title, justify="right", no_wrap=True, min_width=sizes[title])
        for name, *cells in zip(shown, *columns.values(), strict=True):
            table.add_row(Text(_printable(name)), *cells)
        if len(metrics) > MAX_TABLE_ROWS:
            table.add_row(f"and {len(metrics) - MAX_TABLE_ROWS} more")
        return table


def _bar_lines(
    bars: Sequence[Bar], width: int, cells: str, styles: Mapping[str, str]
) -> list["Text"]:
    """Return a line for each loop, in columns; what does not fit is left out, the rate first."""
    from rich.text import Text

    label, position, rate, left = (
        max((len(bar[part]) for bar in bars), default=0)  # type: ignore[arg-type]
        for part in (0, 1, 3, 4)
    )
    label = max(label, len("validate"))  # comes and goes; the columns stay in place
    room = width - label - position - 3
    shows_left = room - (left + 2) >= MIN_BAR_CELLS
    room -= left + 2 if shows_left else 0
    shows_rate = room - (rate + 2) >= MIN_BAR_CELLS
    room -= rate + 2 if shows_rate else 0
    size = max(0, room - room % 2)  # half done is half of it
    lines = []
    for bar in bars:
        text = Text()
        text.append(f"{_printable(bar.label):<{label}} ", style=styles["description"])
        if size:
            filled = round(size * (bar.fraction or 0.0))
            text.append(cells[0] * filled, style=styles["progress_bar"])
            text.append(cells[1] * (size - filled), style="bright_black")
            text.append(" ")
        text.append(f"{bar.position:>{position}}", style=styles["batch_progress"])
        if shows_rate:
            text.append(f"  {bar.rate:>{rate}}", style=styles["processing_speed"])
        if shows_left:
            text.append(f"  {bar.left:>{left}}", style=styles["time"])
        text.rstrip()
        lines.append(text)
    return lines


def _metric_lines(
    items: Sequence[tuple[str, str]], total: int, width: int, styles: Mapping[str, str]
) -> list["Text"]:
    """Return names and values, as many as fit on a few lines, and how many more there are."""
    from rich.text import Text

    lines: list[Text] = []
    of_value, between = styles["metrics"], styles["metrics_text_delimiter"]
    shown = 0
    for name, value in items:
        item = Text(f"{_printable(name)} ", style="bright_black")
        item.append(value, style="red" if value in ("nan", "inf", "-inf") else of_value)
        fits = lines and lines[-1].cell_len + len(between) + item.cell_len <= width
        if fits:
            lines[-1] = Text(between).join((lines[-1], item))
        elif len(lines) < MAX_METRIC_LINES:
            lines.append(item)
        else:
            break
        shown += 1
    if shown < total:
        more = f"  +{total - shown} more"
        lines[-1].truncate(max(1, width - len(more)), overflow="ellipsis")
        lines[-1].append(more, style="bright_black")
    return lines


def _printable(text: str) -> str:
    """Return text with control characters made visible: names may come from anywhere."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char == "\n" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


class _Terminal:
    """The last lines of a terminal; what is printed meanwhile goes above them."""

    def __init__(self, console: "Console") -> None:
        from rich.live import Live

        # Only output to a terminal is redirected: a program's output into a file stays there.
        self._live: Live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),
            redirect_stderr=is_terminal(sys.stderr),
        )
        self._is_on_stderr = False
        self._lines = 0
        with contextlib.suppress(OSError, ValueError):  # not a file
            self._is_on_stderr = console.file.fileno() == STDERR
        self._live.start()
        watch_streams()

    def update(self, picture: "Text") -> None:
        if self._is_on_stderr and drawing_is_over():
            return
        self._live.update(picture, refresh=True)
        if self._is_on_stderr:
            self._lines = min(picture.plain.count("\n") + 1, self._live.console.height)
            drawn_lines(self._lines, self._print_above)

    @unnoted()
    def _print_above(self, lines: str) -> None:
        from rich.text import Text

        self._live.console.print(Text.from_ansi(lines), soft_wrap=True)

    def stop(self) -> None:
        if self._is_on_stderr and drawing_is_over():  # what follows erases as many lines as before
            self._live.console.file.write("\n" * (self._lines - 1))
        self._live.stop()
        if self._is_on_stderr:
            drawn_lines(0)

    def finish(self, renderables: "Sequence[RenderableType]") -> None:
        from rich.text import Text

        self.stop()
        for renderable in renderables:
            self._live.console.print(renderable, soft_wrap=isinstance(renderable, Text))


class _Notebook:
    """An output of a notebook cell.

    Written under its own display id, because rich's way needs ipywidgets: as text, and as HTML with
    the curves of the metrics.

    Args:
        curves: returns them.
    """

    def __init__(self, curves: Callable[[], str]) -> None:
        self._curves = curves
        self._display: Any = import_module("IPython.display").display
        self._handle: Any = None

    def update(self, renderable: "RenderableType") -> None:
        from rich.console import Console

        console = Console(
            file=StringIO(), width=NOTEBOOK_COLUMNS, force_jupyter=False, force_terminal=False
        )
        console.print(renderable)
        self._show(cast("StringIO", console.file).getvalue())

    def _show(self, text: str) -> None:
        page = f'<pre style="line-height:1.2">{html.escape(text)}</pre>{self._curves()}'
        bundle = {"text/plain": text, "text/html": page}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def stop(self) -> None:
        """Do nothing: what was shown last stays."""

    def finish(self, renderables: "Sequence[RenderableType]") -> None:
        from rich.console import Group

        self.update(Group(*renderables))
