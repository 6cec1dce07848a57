"""The screen of ``nightbus top``: an application of Textual over a WatchedRun."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import (
    DataTable,
    Footer,
    Label,
    OptionList,
    RichLog,
    Static,
    TabbedContent,
    TabPane,
)
from textual.widgets.option_list import Option

from ..bus.control.protocol import Request
from ..bus.control.verbs import VERBS
from ..bus.errors import NightbusError
from ..bus.inspection.control_client import send
from ..bus.inspection.rank_facts import facts_of
from ..bus.runs.cursor import CursorFile, list_cursors
from ..bus.runs.run_folder import RunFolder
from .braille import braille
from .text import duration, one_line, plain
from .watched_run import WatchedActor, WatchedRun

REFRESH_S = 0.5
MAX_HOOKS = 100
BAR_CELLS = 24


class Asks(ModalScreen[bool]):
    """Asks whether to do something that cannot be taken back."""

    BINDINGS: ClassVar[list[Any]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Show the question alone."""
        yield Label(f"{self._question}  [b]y[/b]es  [b]n[/b]o", id="question")


class Top(App[None]):
    """Shows one run: progress, curves, hooks, actors, ranks, console; steers it by keys.

    Args:
        folder: the run.
    """

    TITLE = "nightbus top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; background: $panel; padding: 0 1; }
    #bars { height: auto; max-height: 4; padding: 0 1; }
    Screen { overflow: hidden; }
    #tabs, TabPane, ContentSwitcher { height: 1fr; }
    #names { width: 26; height: 1fr; border: none; }
    #curve { width: 1fr; height: 1fr; padding: 0 1; }
    TabPane { padding: 0; }
    DataTable, RichLog { height: 1fr; }
    Asks { align: center middle; }
    #question { padding: 1 3; background: $panel; border: round $accent; }
    """
    BINDINGS: ClassVar[list[Any]] = [
        Binding("p", "pause", "pause/resume"),
        Binding("v", "steer('validate')", "validate"),
        Binding("c", "steer('checkpoint')", "checkpoint"),
        Binding("s", "stop", "stop"),
        Binding("left", "turn(-1)", "", show=False, priority=True),
        Binding("right", "turn(1)", "", show=False, priority=True),
        Binding("q", "quit", "quit"),
    ]
    _TABS = ("curves", "hooks", "actors", "ranks", "console")

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.run_shown = WatchedRun(folder)
        self._folder = folder
        self._is_paused = False
        self._is_running = folder.is_running()
        self._lines_shown = 0

    def compose(self) -> ComposeResult:
        """Lay out the screen, which fits 80 columns and 24 lines."""
        yield Static(id="head")
        yield Static(id="bars")
        with TabbedContent(*(), id="tabs"):
            with TabPane("Curves", id="curves"), Horizontal():
                yield OptionList(id="names")
                yield Static(id="curve")
            with TabPane("Hooks", id="hooks"):
                yield DataTable(id="of_hooks", cursor_type="none")
            with TabPane("Actors", id="actors"):
                yield DataTable(id="of_actors", cursor_type="none")
            with TabPane("Ranks", id="ranks"):
                yield DataTable(id="of_ranks", cursor_type="none")
            with TabPane("Console", id="console"), Vertical():
                yield RichLog(id="lines", wrap=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self._base = self.screen  # below a question, when one is asked
        columns = {
            "#of_hooks": ("hook", "calls", "total", "mean", "share"),
            "#of_actors": ("actor", "kind", "state", "lag", "restarts", "faults", "mail", "dead"),
            "#of_ranks": ("rank", "host", "process", "device"),
        }
        for table, titles in columns.items():
            self._base.query_one(table, DataTable).add_columns(*titles)
        self.read()

    def on_unmount(self) -> None:
        """Close the files of the run."""
        self.run_shown.close()

    @work(exclusive=True)
    async def read(self) -> None:
        """Read the log as it grows, and show it; ends with the application."""
        import asyncio

        while True:
            moved = await asyncio.to_thread(self.run_shown.read_on)
            self._is_running = self._folder.is_running()
            self.show()
            if not moved or self.run_shown.is_caught_up:
                await asyncio.sleep(REFRESH_S)

    # -- what is shown -----------------------------------------------------------------------

    def show(self) -> None:
        """Draw what is known now; of the tabs only the one that is seen."""
        if not self._base.query("#head"):  # it is being left
            return
        self._base.query_one("#head", Static).update(self._head())
        self._base.query_one("#bars", Static).update(Text("\n").join(self._bars()))
        shown: dict[str, Callable[[], None]] = {
            "curves": self._show_curves,
            "hooks": self._show_hooks,
            "actors": self._show_actors,
            "ranks": self._show_ranks,
            "console": self._show_console,
        }
        shown[self._base.query_one("#tabs", TabbedContent).active]()

    def _head(self) -> Text:
        run = self.run_shown
        if run.ended is not None:
            reason = f" ({one_line(run.ended.reason)})" if run.ended.reason else ""
            state = f"{run.ended.how}{reason}"
        elif not self._is_running:
            state = "its process is gone" if run.started is not None else "nothing is recorded"
        else:
            state = "paused" if self._is_paused else "running"
        if not run.is_caught_up:
            state += ", reading"
        return Text(plain(f"{self._folder.info.id}  {state}  {duration(run.elapsed_s)}"))

    def _bars(self) -> Iterator[Text]:
        for bar in self.run_shown.progress.bars():
            filled = round(BAR_CELLS * (bar.fraction or 0.0))
            text = Text(f"{plain(bar.label):<10.10} ")
            text.append("━" * filled, style="green")
            text.append("─" * (BAR_CELLS - filled), style="bright_black")
            text.append(f" {bar.position}  {bar.rate}  {bar.left}")
            yield text

    def _show_curves(self) -> None:
        names, curves = self._base.query_one("#names", OptionList), self.run_shown.curves
        for name in list(curves)[names.option_count :]:
            names.add_option(Option(Text(plain(name))))
        chart = self._base.query_one("#curve", Static)
        if not curves:
            chart.update("no metrics yet: put or log records one")
            return
        if names.highlighted is None:
            names.highlighted = 0
        name = list(curves)[names.highlighted or 0]
        curve = curves[name]
        columns, rows = max(chart.size.width, 8), max(chart.size.height - 2, 2)
        lines = braille(curve.lows, curve.highs, columns, rows)
        least, most = (min(curve.lows), max(curve.highs)) if curve.lows else (0.0, 0.0)
        said = f"last {curve.last:.4g}  low {least:.4g}  high {most:.4g}  {curve.count:,} values"
        if curve.not_finite:
            said += f"\n{curve.not_finite:,} of them are NaN or infinite, and not drawn"
        chart.update(Text("\n".join([said, *lines])))

    def _show_hooks(self) -> None:
        whole = max(self.run_shown.elapsed_s * 1e9, 1.0)
        self._fill(
            "#of_hooks",
            [
                (
                    plain(hook.name),
                    f"{hook.calls:,}",
                    f"{hook.total_ns / 1e9:.2f} s",
                    f"{hook.total_ns / hook.calls / 1e6:.3f} ms",
                    f"{hook.total_ns / whole:.1%}",
                )
                for hook in self.run_shown.hooks[:MAX_HOOKS]
            ],
        )

    def _show_actors(self) -> None:
        self._fill("#of_actors", [self._row_of(each) for each in self.run_shown.actors.values()])

    def _row_of(self, actor: WatchedActor) -> tuple[str, ...]:
        totals = actor.totals
        lag = self._lag_of(actor.name) if totals is None else totals.lag
        mail = actor.commands if totals is None else totals.sent
        numbers = (actor.restarts, actor.faults, mail, actor.dead)
        return (
            plain(actor.name),
            plain(actor.kind),
            actor.state,
            "" if lag is None else f"{lag:,}",
            *(f"{number:,}" for number in numbers),
        )

    def _lag_of(self, name: str) -> int | None:
        """Return how many events a sink has not committed yet; None for actors without a cursor."""
        if name not in list_cursors(self._folder):
            return None
        cursor = CursorFile(self._folder, name).load()
        if cursor is None or cursor.attempt != self.run_shown.attempt:
            return None
        return max(0, self.run_shown.seq - cursor.seq)

    def _show_ranks(self) -> None:
        attempt = self.run_shown.attempt
        rows = []
        for rank in self._folder.ranks(attempt):
            facts = facts_of(self._folder.store(attempt, rank))
            about = (facts.host, str(facts.pid or ""), facts.device)
            rows.append((str(rank), *map(plain, about)))
        self._fill("#of_ranks", rows)

    def _show_console(self) -> None:
        log = self._base.query_one("#lines", RichLog)
        lines = list(self.run_shown.console)
        if self.run_shown.lines == self._lines_shown and lines:
            return
        self._lines_shown = self.run_shown.lines
        log.clear()
        for line in lines or ["nothing is recorded: Trainer(record_console=True) keeps it"]:
            log.write(Text(plain(line)))

    def _fill(self, table: str, rows: list[tuple[str, ...]]) -> None:
        shown = self._base.query_one(table, DataTable)
        at = shown.scroll_y
        shown.clear()
        shown.add_rows(rows)
        shown.scroll_to(y=at, animate=False)

    def on_option_list_option_highlighted(self) -> None:
        """Show the metric that was chosen."""
        if self.run_shown.curves:
            self._show_curves()

    def on_tabbed_content_tab_activated(self) -> None:
        """Show what the tab holds."""
        self.show()

    # -- keys --------------------------------------------------------------------------------

    def action_turn(self, by: int) -> None:
        """Go to another tab."""
        tabs = self._base.query_one("#tabs", TabbedContent)
        tabs.active = self._TABS[(self._TABS.index(tabs.active) + by) % len(self._TABS)]

    def action_pause(self) -> None:
        """Pause the run, or resume it."""
        self.steer("resume" if self._is_paused else "pause")

    def action_steer(self, verb: str) -> None:
        """Send the run a command."""
        self.steer(verb)

    def action_stop(self) -> None:
        """Stop the run, once asked."""

        def answered(yes: bool | None) -> None:
            if yes:
                self.steer("stop")

        self.push_screen(Asks("Stop the run after this step?"), answered)

    @work
    async def steer(self, verb: str) -> None:
        """Send a command as ``nightbus send`` does, and show the answer.

        Args:
            verb: the word of the command.
        """
        import asyncio

        request = Request(verb, "nightbus top", VERBS[verb].timeout_s)
        try:
            answer = await asyncio.to_thread(send, self._folder, request)
        except NightbusError as error:
            self.notify(plain(str(error)), severity="error", markup=False)
            return
        if answer.kind != "done" or answer.status is None:
            self.notify(plain(f"{verb}: {answer.message}"), severity="error", markup=False)
            return
        self._is_paused = answer.status.paused
        self.notify(
            plain(f"{verb}: {VERBS[verb].outcome(answer.message, answer.status)}"), markup=False
        )
