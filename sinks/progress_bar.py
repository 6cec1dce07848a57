"""ProgressBar: where training is, on a terminal, in a notebook, or as a line an epoch."""

import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..bus.codec import DecodedEvent, HookSelection
from ..bus.events import Event, Hook, LoopEnded, LoopStarted, Put, RunEnded, RunStarted
from .sink import Sink

MIN_REFRESH_S = 0.1
MAX_REFRESH_S = 2.0
MAX_SHARE = 0.01  # of a run's time that drawing may take
BAR_CELLS = 24
_BATCH_HOOKS = {
    "on_train_batch_end",
    "on_validation_batch_end",
    "on_test_batch_end",
    "on_predict_batch_end",
}
_STAGES = {"train", "validate", "test", "predict", "sanity_check"}


class _LoopView:
    """One loop as it is shown."""

    def __init__(self, name: str, total: int | None, started_ns: int) -> None:
        self.name = name
        self.total = total
        self.started_ns = started_ns
        self.done = 0
        self.now_ns = started_ns

    @property
    def per_second(self) -> float:
        elapsed_s = (self.now_ns - self.started_ns) / 1e9
        return self.done / elapsed_s if elapsed_s > 0 else 0.0

    def left_s(self) -> float | None:
        rate = self.per_second
        if self.total is None or not rate:
            return None
        return max(0, self.total - self.done) / rate


class ProgressBar(Sink):
    """Shows epochs and batches with rate and time left, and metrics marked ``prog_bar``.

    It draws on stderr: a live display on a terminal and in a notebook, one plain line an epoch
    elsewhere. It measures what drawing costs, and draws so seldom that it takes at most 1 % of a
    run's time.

    Args:
        console: where to draw; stderr by default.
    """

    destination = "progress_bar"
    events: tuple[type[Event], ...] = (Put, Hook, LoopStarted, LoopEnded, RunStarted, RunEnded)
    poll_interval_s = MIN_REFRESH_S

    def __init__(self, console: Console | None = None) -> None:
        self._given_console = console
        self._console: Console | None = None
        self._live: Live | None = None
        self._begin()

    def _begin(self) -> None:
        self._loops: dict[str, _LoopView] = {}
        self._metrics: dict[str, float] = {}
        self._lows: dict[str, float] = {}
        self._highs: dict[str, float] = {}
        self._epoch = 0
        self._first_epoch = 0
        self._epochs: int | None = None
        self._function = ""
        self._run = ""
        self._line_due = False
        self._epoch_rate = 0.0
        self._next_refresh_s = 0.0

    # -- what the reader is asked for --------------------------------------------------------

    def _hook_selection(self) -> HookSelection:
        return "latest"  # where training is now; not each of the hooks that led there

    def _observed_hooks(self) -> set[str] | None:
        return _BATCH_HOOKS

    # -- a sink's life -----------------------------------------------------------------------

    def open(self, resumed: bool) -> None:
        self._console = self._given_console or Console(stderr=True, highlight=False)
        self._begin()

    @property
    def _is_live(self) -> bool:
        return self._console is not None and (self._console.is_terminal or self._console.is_jupyter)

    def write(self, batch: list[Any]) -> None:
        for event in batch:
            self._take(event)
        if self._is_live and time.monotonic() >= self._next_refresh_s:
            self._refresh()

    def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        """Give the terminal back; called again at the run's end, whatever happened before."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    # -- events ------------------------------------------------------------------------------

    def _take(self, event: DecodedEvent) -> None:
        kind = type(event)
        if kind is Put:
            self._take_put(event)  # type: ignore[arg-type]
        elif kind is Hook:
            self._take_place(event)  # type: ignore[arg-type]
        elif kind is LoopStarted:
            self._take_loop(event)  # type: ignore[arg-type]
        elif kind is LoopEnded:
            self._take_loop_end(event)  # type: ignore[arg-type]
        elif kind is RunStarted:
            self._begin()
            self._function, self._run = event.fn, event.run  # type: ignore[union-attr]
        elif kind is RunEnded:
            self._take_end(event)  # type: ignore[arg-type]

    def _take_put(self, put: Put) -> None:
        value = float(put.value)
        self._metrics[put.name] = value
        if not value >= self._lows.get(put.name, float("inf")):
            self._lows[put.name] = value
        if not value <= self._highs.get(put.name, float("-inf")):
            self._highs[put.name] = value

    def _take_place(self, hook: Hook) -> None:
        self._epoch = hook.epoch
        view = self._loops.get(hook.stage)
        if view is not None and hook.batch_idx >= 0:
            view.now_ns = hook.time_ns
            if hook.dataloader_idx == 0:
                view.done = hook.batch_idx + 1

    def _take_loop(self, started: LoopStarted) -> None:
        if started.source == "fit":
            self._first_epoch = started.epoch
            self._epochs = None if started.total is None else started.epoch + started.total
            return
        if started.source == "train":
            self._print_line()
            self._epoch = started.epoch
            self._line_due = True
        self._loops[started.source] = _LoopView(started.source, started.total, started.time_ns)

    def _take_loop_end(self, ended: LoopEnded) -> None:
        if ended.source == "fit":
            self._print_line()
        view = self._loops.get(ended.source)
        if view is None:
            return
        view.done, view.now_ns = ended.completed, ended.time_ns
        if ended.source == "train":
            self._epoch_rate = view.per_second
        else:
            del self._loops[ended.source]
            if self._function in ("validate", "test", "predict") and not self._is_live:
                self._say(f"{self._function}: {ended.completed} batches{self._shown_metrics()}")

    def _take_end(self, ended: RunEnded) -> None:
        self._print_line()
        self._line_due = False
        if self._console is None:
            return
        if self._is_live:
            if self._live is not None:
                self._live.update(self._render(), refresh=True)
            self.stop()
            if self._function == "fit" and self._metrics:
                self._console.print(self._final_table())
        reason = f": {ended.reason}" if ended.reason else ""
        self._say(f"{self._function} {ended.how}{reason}  ({self._run})")

    # -- a line an epoch ---------------------------------------------------------------------

    def _print_line(self) -> None:
        """Say how an epoch went; held back until what is logged at its end has come."""
        if not self._line_due or self._is_live:
            return
        self._line_due = False
        total = f"/{self._epochs}" if self._epochs is not None else ""
        train = self._loops.get("train")
        batches = f"{train.done} batches, {self._epoch_rate:,.0f} it/s" if train else ""
        self._say(f"epoch {self._epoch + 1}{total}: {batches}{self._shown_metrics()}")

    def _shown_metrics(self) -> str:
        return "".join(f", {name} {value:.4g}" for name, value in self._metrics.items())

    def _say(self, line: str) -> None:
        if self._console is not None:
            self._console.print(Text(line), soft_wrap=True)

    # -- the live display --------------------------------------------------------------------

    def _refresh(self) -> None:
        begin_s = time.thread_time()
        if self._live is None:
            self._live = Live(
                self._render(), console=self._console, auto_refresh=False, transient=False
            )
            self._live.start(refresh=True)
        else:
            self._live.update(self._render(), refresh=True)
        cost_s = time.thread_time() - begin_s
        gap_s = min(MAX_REFRESH_S, max(MIN_REFRESH_S, cost_s / MAX_SHARE))
        self._next_refresh_s = time.monotonic() + gap_s

    def _render(self) -> Text:
        lines = []
        train = self._loops.get("train")
        if train is not None:
            total = f"/{self._epochs}" if self._epochs is not None else ""
            lines.append(self._bar(f"epoch {self._epoch + 1}{total}", train))
        lines += [
            self._bar(view.name.replace("_", " "), view)
            for view in self._loops.values()
            if view.name != "train"
        ]
        if self._metrics:
            lines.append(self._metric_line())
        return Text("\n").join(lines) if lines else Text(f"{self._function} is starting")

    def _bar(self, label: str, view: _LoopView) -> Text:
        text = Text(f"{label:<14} ", no_wrap=True, overflow="ellipsis")
        if view.total:
            filled = min(BAR_CELLS, round(BAR_CELLS * view.done / view.total))
            text.append("━" * filled, style="green")
            text.append("━" * (BAR_CELLS - filled), style="bright_black")
            text.append(f" {view.done}/{view.total}")
        else:
            text.append(f"{view.done} batches")
        text.append(f"  {view.per_second:,.0f} it/s", style="cyan")
        left_s = view.left_s()
        if left_s is not None:
            minutes, seconds = divmod(round(left_s), 60)
            text.append(f"  {minutes}:{seconds:02d} left", style="bright_black")
        return text

    def _metric_line(self) -> Text:
        text = Text()
        for name, value in self._metrics.items():
            text.append(f"{name} ", style="bright_black")
            text.append(f"{value:.4g}  ")
        return text

    def _final_table(self) -> Table:
        table = Table("metric", title_justify="left", box=None, pad_edge=False)
        for column in ("last", "lowest", "highest"):
            table.add_column(column, justify="right")
        for name, value in self._metrics.items():
            low, high = self._lows.get(name, value), self._highs.get(name, value)
            table.add_row(name, f"{value:.4g}", f"{low:.4g}", f"{high:.4g}")
        return table
