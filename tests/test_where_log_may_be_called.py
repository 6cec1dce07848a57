"""``log`` in the middle of another one: from whatever strikes there, no value of it is lost."""

import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.actors.metrics import metrics
from nightbus.bus.errors import MetricError

ACTORS = str(Path(metrics.__file__).parent)
FILES = ("metrics.py", "puts.py", "reduction.py", "log_entry.py", "values.py")


class Struck(Small):
    """Logs ones, and is struck by what logs ones."""

    def __init__(self, struck_name: str) -> None:
        super().__init__()
        self.struck_name = struck_name
        self.sent: list[str] = []  # names; what strikes loses none of them either
        self.strikes = 0
        self._strikes_now = False

    def one(self, name: str) -> None:
        self.log(name, 1, on_step=False, on_epoch=True, reduce_fx="sum")
        self.sent.append(name)

    def strike(self) -> None:
        if self._strikes_now:  # not in the middle of itself
            return
        self._strikes_now = True
        try:
            self.one(self.struck_name)
        except MetricError as error:
            if "where there is no step or epoch to log for" not in str(error):
                raise  # it is as anywhere between two hooks
        else:
            self.strikes += 1
        finally:
            self._strikes_now = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for _ in range(3):
            self.one("own")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.one("own")
        super().validation_step(batch, batch_idx)


class Traced(Struck):
    """Each of its logs is struck once, at a later line than the one before, by a log of the same
    name or of another one.
    """

    def __init__(self, other_name: str) -> None:
        super().__init__("")
        self.other_name = other_name

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for at in range(500):
            name = f"own_{at}"
            if not self._log_struck_at(at, name):
                break
        return self.loss(batch)

    def _log_struck_at(self, at: int, name: str) -> bool:
        before = self.strikes
        lines: set[Any] = set()  # each counts once, so that the last ones are reached

        def strike(frame: FrameType, event: str, _: Any) -> Any:
            path = frame.f_code.co_filename
            if not (path.startswith(ACTORS) and path.endswith(FILES)):
                return None
            lines.add((path, frame.f_lineno, event))
            if len(lines) == at + 1 and self.strikes == before:
                self.struck_name = self.other_name or name
                self.strike()
            return strike

        former = sys.gettrace()
        sys.settrace(strike)
        try:
            self.one(name)
        finally:
            sys.settrace(former)
        return self.strikes > before


class Alarmed(Struck):
    """Struck by a signal's handler, from the first hook to the last."""

    def setup(self, stage: str) -> None:
        self.former = signal.signal(signal.SIGALRM, lambda *_: self.strike())
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)

    def teardown(self, stage: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.former)


def sums(run: nb.Trainer, names: Iterable[str]) -> dict[str, float]:
    """What was recorded of each, over all hooks and epochs."""
    found: dict[str, float] = dict.fromkeys(names, 0.0)
    for put in events(run, nb.Put):
        if put.name in found:
            assert isinstance(put.value, float)
            found[put.name] += put.value
    return found


@pytest.mark.parametrize("other_name", ["", "struck"], ids=["the same", "another"])
def test_a_trace_function_logs_at_each_line_of_a_log(tmp_path: Path, other_name: str) -> None:
    run = trainer(tmp_path, max_epochs=2)
    module = Traced(other_name)

    run.fit(module, loader(8))

    assert module.strikes > 50
    assert sums(run, module.sent) == Counter(module.sent)


@pytest.mark.parametrize("name", ["own", "struck"])
def test_a_signals_handler_logs_in_the_middle_of_anything(tmp_path: Path, name: str) -> None:
    run = trainer(tmp_path, max_epochs=6, num_sanity_val_steps=0)
    module = Alarmed(name)

    run.fit(module, loader(80), loader(8))

    assert module.strikes
    assert sums(run, module.sent) == Counter(module.sent)


def test_who_reads_metrics_is_struck_by_what_puts_another_one(tmp_path: Path) -> None:
    class Reading(Small):
        names = 0

        def on_train_end(self) -> None:
            def strike(frame: FrameType, event: str, _: Any) -> Any:
                path = frame.f_code.co_filename
                if not (path.startswith(ACTORS) and path.endswith(FILES)):
                    return None
                sys.settrace(None)
                if self.names < 50:
                    self.put(f"another_{self.names}", 1.0)
                    self.names += 1
                sys.settrace(strike)
                return strike

            former = sys.gettrace()
            sys.settrace(strike)
            try:
                for read in ("callback_metrics", "logged_metrics", "progress_bar_metrics"):
                    getattr(self.trainer, read)
                self.trainer.metrics.state_dict()
            finally:
                sys.settrace(former)

    run, module = trainer(tmp_path), Reading()
    run.fit(module, loader())

    assert module.names > 10
    assert len([n for n in run.callback_metrics if n.startswith("another_")]) == module.names


def test_of_thousands_of_values_each_counts(tmp_path: Path) -> None:
    class Often(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for number in range(1500):
                for how in ("mean", "sum", "min", "max"):
                    self.log(how, number, on_step=False, on_epoch=True, reduce_fx=how)
            return super().training_step(batch, batch_idx)

    run = trainer(tmp_path)
    run.fit(Often(), loader(8))

    found = {put.name: put.value for put in events(run, nb.Put)}
    assert found["mean"] == 749.5
    assert found["sum"] == 2 * sum(range(1500))
    assert (found["min"], found["max"]) == (0, 1499)
