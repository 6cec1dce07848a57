"""The state of a run as a progress bar shows it, derived from its events, without the drawing."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..bus.events import (
    ActorRestarted,
    ActorStopped,
    CheckpointSaved,
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
from ..bus.library.thinned_curve import ThinnedCurve
from ..bus.log.codec import DecodedEvent

RATE_WINDOW_NS = 10_000_000_000
LINE_EVERY_NS = 60_000_000_000  # of a long epoch, where nothing is drawn
SILENT_AT_MOST_NS = 600_000_000_000
LINES_A_LOOP = 10  # if it takes long enough for more
SAMPLE_EVERY_NS = 100_000_000
MAX_SHOWN_METRICS = 8
_EVALUATIONS = ("validate", "test", "predict")


class MetricView:
    """A metric's last value, and its lowest and highest finite values.

    Args:
        value: its first value.
        is_of_epoch: its first value came between batches, for example at the end of a validation.

    Attributes:
        is_of_epoch: as given.
    """

    def __init__(self, value: Scalar, is_of_epoch: bool) -> None:
        self.last = value
        self.is_of_epoch = is_of_epoch
        self.low: Scalar | None = None
        self.high: Scalar | None = None
        self.add(value)

    def widen(self, low: Scalar | None, high: Scalar | None) -> None:
        """Include the lowest and highest of earlier values.

        Args:
            low: the lowest; None if there was none.
            high: the highest; None if there was none.
        """
        if low is not None and (self.low is None or low < self.low):
            self.low = low
        if high is not None and (self.high is None or high > self.high):
            self.high = high

    def add(self, value: Scalar) -> None:
        """Include the next value."""
        self.last = value
        if math.isnan(value):
            return
        if self.low is None or value < self.low:
            self.low = value
        if self.high is None or value > self.high:
            self.high = value


class LoopView:
    """One loop.

    Attributes:
        name: ``fit``, ``train``, ``validate``, ...
        total: iterations it expects; None if unknown.
        unit: what one iteration is.
        started_ns, now_ns: monotonic times of its start and of its latest event.
        done: iterations done; None for a loop that does not report them.
        first: iterations done before it started; not 0 in a resumed epoch.
        dataloader_idx: the dataloader of its last batch.
    """

    def __init__(self, started: LoopStarted) -> None:
        self.name = started.source
        self.total = started.total if started.total is None or started.total >= 0 else None
        self.unit = started.unit
        self.started_ns = self.now_ns = started.time_ns
        self.first = started.batch_idx + 1 if started.source == "train" else 0
        self.done: int | None = None if started.unit == "epoch" else self.first
        self._before = 0  # batches of the dataloaders before this one
        self.dataloader_idx = 0
        self._samples = deque([(started.time_ns, self.first)])  # (time_ns, done), for the rate
        self._told_ns, self._told = started.time_ns, self.first  # when a line was due last

    def move(self, hook: Hook) -> None:
        """Handle a hook of a batch, which is done after its last one."""
        if hook.dataloader_idx != self.dataloader_idx:
            self.dataloader_idx = hook.dataloader_idx
            self._before = self.done or 0
        done = self._before + hook.batch_idx + hook.name.endswith("_batch_end")
        self._advance(max(self.done or 0, done), hook.time_ns)

    def advance(self, advanced: LoopAdvanced) -> None:
        """Handle the end of an iteration: of a user's loop, or of a batch before a validation."""
        self._advance(advanced.completed, advanced.time_ns)

    def _advance(self, done: int, time_ns: int) -> None:
        self.done, self.now_ns = done, time_ns
        samples = self._samples
        if time_ns - samples[-1][0] >= SAMPLE_EVERY_NS:
            samples.append((time_ns, done))
            while len(samples) > 2 and time_ns - samples[1][0] > RATE_WINDOW_NS:
                samples.popleft()

    def is_line_due(self) -> bool:
        """Return whether a line should say how far it is, and note that it does.

        One is due each minute, of a loop that takes longer than ten of them at each tenth, and
        every ten minutes in any case.
        """
        done, still_ns = self.done or 0, self.now_ns - self._told_ns
        enough = max(1.0, (self.total or 0) / LINES_A_LOOP)
        is_due = still_ns >= LINE_EVERY_NS and done - self._told >= enough
        if not is_due and not (still_ns >= SILENT_AT_MOST_NS and done > self._told):
            return False
        self._told_ns, self._told = self.now_ns, done
        return done != self.total

    def end(self, ended: LoopEnded) -> None:
        """Handle the end of the loop."""
        self.done, self.now_ns = ended.completed, ended.time_ns

    @property
    def elapsed_s(self) -> float:
        """Seconds from its start to its latest event."""
        return (self.now_ns - self.started_ns) / 1e9

    @property
    def done_here(self) -> int:
        """Iterations done since it started."""
        return 0 if self.done is None else self.done - self.first

    @property
    def mean_rate(self) -> float:
        """Iterations a second over all of it; 0 when unknown."""
        return self.done_here / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def rate(self) -> float:
        """Iterations a second in the last 10 s; 0 when unknown."""
        begin_ns, done = self._samples[0]
        elapsed_ns = self.now_ns - begin_ns
        return ((self.done or 0) - done) / elapsed_ns * 1e9 if elapsed_ns > 0 else 0.0

    @property
    def fraction(self) -> float | None:
        """Fraction done, from 0 to 1; None when unknown."""
        if self.done is None or not self.total:
            return None
        return min(1.0, self.done / self.total)

    @property
    def left_s(self) -> float | None:
        """Seconds the rest takes at the present rate; None when unknown."""
        if self.done is None or self.total is None or not self.rate:
            return None
        return max(0, self.total - self.done) / self.rate


class Bar(NamedTuple):
    """What is shown of one loop.

    Attributes:
        label: the loop's name.
        position: iterations done and expected, as text.
        fraction: part done, from 0 to 1; None when unknown.
        rate: iterations a second, as text.
        left: time left, as text.
    """

    label: str
    position: str
    fraction: float | None
    rate: str
    left: str


class ProgressView:
    """The state of one attempt of a run.

    Attributes:
        choose, metrics_format: as given.
        fn: fit, validate, test or predict; empty before the run started.
        metrics: by name, in the order of their first value.
        notices: lines to print at once, wherever progress is shown.
        epoch_lines: one line an epoch or evaluation, and those within long ones.
        keeps_curves: all values are kept in ``curves``, thinned.
        tells_within: long epochs have more lines, for output without a live display.
        ended: the event of the run's end; None before.
        saved: the checkpoint that was saved last; empty before.
        is_resumed: the attempt continues an earlier one.

    Args:
        choose: returns the metrics to show, with their values, of all by name; None for those of
            epochs first.
        metrics_format: how values are formatted; empty for as many digits as they need.
    """

    def __init__(
        self,
        choose: Callable[[Mapping[str, Scalar]], Mapping[str, Any]] | None = None,
        metrics_format: str = "",
    ) -> None:
        self.choose = choose
        self.metrics_format = metrics_format
        self.fn = ""
        self.metrics: dict[str, MetricView] = {}
        self.notices: list[str] = []
        self.epoch_lines: list[str] = []
        self.tells_within = False
        self.keeps_curves = False
        self.curves: dict[str, ThinnedCurve] = {}
        self.ended: RunEnded | None = None
        self.saved = ""
        self.is_resumed = False
        self._loops: dict[str, LoopView] = {}  # those running, and the last training epoch
        self._epoch = 0
        self._train_epoch = 0  # of the last training loop; its line may come after later hooks
        self._first_epoch = 0
        self._epochs: int | None = None
        self._epoch_due = False  # an epoch's line waits for what is logged at its end
        self._batch_at_end = ""
        self._origin = ""  # run and checkpoint that it resumed from
        self._started_ns = 0
        self._faults: dict[str, Fault] = {}  # actor -> its last fault
        self._restarts: dict[str, int] = {}  # actor -> how often

    def take(self, event: DecodedEvent) -> None:
        """Update the view with the next event."""
        match event:
            case Hook():
                self._take_place(event)
            case Put():
                self._take_value(event)
            case LoopStarted() | LoopAdvanced() | LoopEnded():
                self._take_event_of_loop(event)
            case RunStarted():
                self._take_start(event)
            case Resumed():
                self._show_resumed(event)
            case CheckpointSaved():
                self.saved = event.path
            case RunEnded():
                self._take_end(event)
            case Fault() | ActorRestarted() | ActorStopped():
                self._take_event_of_actor(event)

    def _take_value(self, put: Put) -> None:
        if self.keeps_curves:
            self.curves.setdefault(put.name, ThinnedCurve()).add(put.value)
        metric = self.metrics.get(put.name)
        if metric is None:
            self.metrics[put.name] = MetricView(put.value, put.batch_idx < 0)
        else:
            metric.add(put.value)

    def add_earlier(self, name: str, last: Scalar, low: Scalar | None, high: Scalar | None) -> None:
        """Include what earlier attempts recorded of a metric.

        Args:
            name: the metric.
            last: its last value, taken if this attempt has none.
            low: the lowest; None if there was none.
            high: the highest; None if there was none.
        """
        if name not in self.metrics:
            self.metrics[name] = MetricView(last, is_of_epoch=True)
        self.metrics[name].widen(low, high)

    @property
    def is_starting(self) -> bool:
        """Whether no loop has begun yet."""
        return not self._loops

    def _take_start(self, started: RunStarted) -> None:
        self.fn, self._started_ns = started.fn, started.time_ns
        if started.fork is not None:
            self.is_resumed = True
            self._origin = f" {started.run} from {started.fork.checkpoint}"

    def _take_event_of_loop(self, event: LoopStarted | LoopAdvanced | LoopEnded) -> None:
        match event:
            case LoopStarted():
                self._take_loop_start(event)
            case LoopAdvanced():
                loop = self._loops.get(event.source)
                if loop is not None:
                    loop.advance(event)
            case LoopEnded():
                self._take_loop_end(event)

    def _take_event_of_actor(self, event: Fault | ActorRestarted | ActorStopped) -> None:
        match event:
            case Fault():
                self._faults[event.source] = event
            case ActorRestarted():
                self._restarts[event.source] = event.restarts
                if self.ended is not None:
                    self._show_restarts()
            case ActorStopped():
                self._restarts.pop(event.source, None)
                self.notices.append(f"{event.source} stopped: {event.reason}")

    def _show_resumed(self, resumed: Resumed) -> None:
        fit = self._loops.get("fit")
        is_over = fit is not None and fit.total == 0  # the place is still in the last epoch
        self._epoch = resumed.epoch
        epoch = self._epoch_text(resumed.epoch + 1 if is_over else resumed.epoch)
        after = f", after {counted(resumed.batch_idx + 1, 'batch')}"
        self.notices.append(
            f"resumed{self._origin}: epoch {epoch}{after if resumed.batch_idx >= 0 else ''}"
        )

    def _take_place(self, hook: Hook) -> None:
        self._epoch = hook.epoch
        loop = self._loops.get(hook.stage)
        if loop is not None and hook.batch_idx >= 0:
            loop.move(hook)
            fit = self._loops.get("fit")
            if fit is not None:
                fit.now_ns = hook.time_ns
            if self.tells_within and loop.is_line_due():
                self.epoch_lines.append(self._line_within(loop))

    def _take_loop_start(self, started: LoopStarted) -> None:
        if started.source == "train":
            self._end_epoch()
        loop = self._loops[started.source] = LoopView(started)
        if started.source == "fit":
            self._first_epoch = self._epoch = started.epoch
            # When all epochs are done, the place is still in the last one.
            self._epochs = None if loop.total is None else started.epoch + max(1, loop.total)
        elif started.source == "train":
            self._epoch = self._train_epoch = started.epoch
            self._epoch_due = True

    def _take_loop_end(self, ended: LoopEnded) -> None:
        loop = self._loops.get(ended.source)
        if loop is None:
            return
        loop.end(ended)
        if ended.source == "fit":
            self._end_epoch()
        elif ended.source != "train":
            del self._loops[ended.source]
            if self.fn in _EVALUATIONS:
                count = counted(ended.completed, loop.unit)
                self.epoch_lines.append(
                    f"{self.fn}: {count} in {duration(loop.elapsed_s)}{self._metrics_text()}"
                )

    def _take_end(self, ended: RunEnded) -> None:
        self._end_epoch()
        train = self._loops.get("train")
        if train is not None and ended.how != "completed":
            self._batch_at_end = f", batch {_count(train)}"
        self.ended = ended
        self._show_restarts()

    def _show_restarts(self) -> None:
        for source, restarts in self._restarts.items():
            fault = self._faults.get(source)
            why = f": {fault.error}: {fault.message}" if fault is not None else ""
            times = "once" if restarts == 1 else f"{restarts} times"
            self.notices.append(f"{source} failed and was restarted {times}, nothing is lost{why}")
        self._restarts.clear()

    # -- as text -----------------------------------------------------------------------------

    def bars(self) -> list[Bar]:
        """Return what is shown of each loop, the outermost first."""
        return [
            self._fit_bar(loop)
            if loop.name == "fit"
            else Bar(
                _label(loop),
                _count(loop),
                loop.fraction,
                rate_text(loop.rate),
                "" if loop.left_s is None else f"{duration(loop.left_s)} left",
            )
            for loop in self._loops.values()
        ]

    def _fit_bar(self, fit: LoopView) -> Bar:
        fraction, left = None, f"{duration(fit.elapsed_s)} so far"
        if self._epochs:
            train = self._loops.get("train")
            part = (train.fraction if train else None) or 0.0
            done = min(float(self._epochs), self._epoch + part)
            fraction = done / self._epochs
            now = done - self._first_epoch  # epochs done since it was resumed
            if now > 0:
                left = f"{duration(fit.elapsed_s * (self._epochs - done) / now)} left"
        return Bar("epoch", self._epoch_text(), fraction, "", left)

    def _epoch_text(self, epoch: int | None = None) -> str:
        """Return the number of the epoch, which is how many are done before it, and the total."""
        number = self._epoch if epoch is None else epoch
        if self._epochs is None:
            return f"{number:,}"
        return f"{min(number, self._epochs):,}/{self._epochs:,}"

    def shown_metrics(self) -> list[tuple[str, str]]:
        """Return names and values of the metrics that fit, in the order of their first value.

        Metrics of an epoch come before those of each step, of which there may be many.
        """
        of_epoch = [name for name, metric in self.metrics.items() if metric.is_of_epoch]
        chosen = list(dict.fromkeys([*of_epoch, *self.metrics]))[:MAX_SHOWN_METRICS]
        kept = ((name, metric) for name, metric in self.metrics.items() if name in chosen)
        return [(name, self._formatted(metric.last)) for name, metric in kept]

    def _formatted(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        return format(value, self.metrics_format) if self.metrics_format else number(value)

    def items(self) -> tuple[list[tuple[str, str]], int]:
        """Return names and values of the metrics that fit, and how many there are."""
        if self.choose is None:
            return self.shown_metrics(), len(self.metrics)
        chosen = self.choose({name: metric.last for name, metric in self.metrics.items()})
        shown = [(name, self._formatted(value)) for name, value in chosen.items()]
        return shown[:MAX_SHOWN_METRICS], len(shown)

    def _end_epoch(self) -> None:
        if not self._epoch_due:
            return
        self._epoch_due = False
        train = self._loops["train"]
        rate, count = rate_text(train.mean_rate), counted(train.done_here, train.unit)
        self.epoch_lines.append(
            f"{self._outer_text()}epoch {self._epoch_text(self._train_epoch)}: {count} in "
            f"{duration(train.elapsed_s)}{f', {rate}' if rate else ''}{self._metrics_text()}"
        )

    def _line_within(self, loop: LoopView) -> str:
        """Return how far a loop is, for output without a live display."""
        epoch = f"epoch {self._epoch_text()}" if "train" in self._loops else ""
        name = "" if loop.name == "train" and epoch else _label(loop)
        share = "" if loop.fraction is None else f" ({loop.fraction:.0%})"
        left = "" if loop.left_s is None else f"{duration(loop.left_s)} left"
        what = ", ".join(part for part in (epoch, name) if part)
        done = loop.done or 0
        counts = f"{done:,}/" * (loop.total is not None) + counted(loop.total or done, loop.unit)
        told = ", ".join(part for part in (counts + share, rate_text(loop.rate), left) if part)
        return f"{self._outer_text()}{what}: {told}{self._metrics_text()}"

    def _outer_text(self) -> str:
        """Return the positions of the user's own loops around this epoch."""
        outer = ""
        for loop in self._loops.values():
            if loop.name == "fit":
                break
            if loop.unit == "iteration":
                total = "" if loop.total is None else f"/{loop.total:,}"
                outer += f"{_label(loop)} {loop.done or 0:,}{total}, "
        return outer

    def _metrics_text(self) -> str:
        shown, total = self.items()
        more = total - len(shown)
        text = "".join(f", {name} {value}" for name, value in shown)
        return f"{text}, +{more} more" if more else text

    def end_text(self) -> str:
        """Return how the run ended, in one line; empty before the end."""
        ended = self.ended
        if ended is None:
            return ""
        reason = f" ({ended.reason.splitlines()[0]})" if ended.reason.strip() else ""
        took = duration((ended.time_ns - self._started_ns) / 1e9)
        if self.fn != "fit":
            return f"{self.fn} {ended.how}{reason} in {took}"
        steps = counted(ended.step, "step")
        if ended.how == "completed":
            epochs = self._epoch + 1 if "train" in self._loops else ended.epoch
            fit = self._loops.get("fit")
            if fit is not None and fit.total == 0 and "train" not in self._loops and ended.step:
                done = f"{counted(epochs, 'epoch')}, {steps}"
                return f"fit completed{reason}: nothing was left to train after {done}"
            return f"fit completed{reason}: {counted(epochs, 'epoch')}, {steps} in {took}"
        at = f"at epoch {self._epoch_text()}{self._batch_at_end}"
        return f"fit {ended.how}{reason} {at}: {steps} in {took}"


def number(value: Scalar) -> str:
    """Return a metric's value with four digits."""
    if isinstance(value, int):
        return str(+value)
    return f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a time for people: 0:07, 12:05, 3:00:00, 2 d 04:10."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02d}:{minute:02d}"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def rate_text(per_second: float) -> str:
    """Return iterations a second, or seconds an iteration if that is long; empty when unknown."""
    if per_second <= 0:
        return ""
    if per_second < 1:
        return f"{1 / per_second:,.1f} s/it"
    return f"{per_second:,.0f} it/s" if per_second >= 10 else f"{per_second:.1f} it/s"


def counted(number: int, unit: str) -> str:
    """Return a number with its unit: 1 batch, 20 batches.

    Args:
        number: how many.
        unit: in the singular.
    """
    if number == 1:
        return f"1 {unit}"
    return f"{number:,} {unit}{'es' if unit == 'batch' else 's'}"


def _label(loop: LoopView) -> str:
    name = loop.name.removesuffix("loop").strip("_").replace("_", " ") or loop.name
    return f"{name} [{loop.dataloader_idx}]" if loop.dataloader_idx else name


def _count(loop: LoopView) -> str:
    if loop.done is None:
        return "" if loop.total is None else f"of {counted(loop.total, loop.unit)}"
    return f"{loop.done:,}" if loop.total is None else f"{loop.done:,}/{loop.total:,}"
