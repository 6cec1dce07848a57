"""Every place from which something may be put: what put took is in the log, or it raises."""

import gc
import logging
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from helpers import DEADLINE_S, seqs
from models import Small, dataset, events, loader, trainer
from programs import run_program
from torch.utils.data import DataLoader, Dataset

import nightbus as nb
from nightbus.bus import bus
from nightbus.bus.errors import ForkedChildError, OutsideRunError

BUS = str(Path(bus.__file__).parent)
RECORDINGS = ["all", "metrics", "off"]


class Taken(nb.Sink):
    """Keeps what is put, whatever is recorded."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}

    def write(self, batch: list[nb.Put]) -> None:
        for put in batch:
            self.values.setdefault(put.name, []).append(put.value)


def values(run: nb.Trainer, name: str) -> list[Any]:
    return [put.value for put in events(run, nb.Put) if put.name == name]


def check_order(run: nb.Trainer) -> None:
    found = events(run)
    assert seqs(found) == list(range(len(found)))


# -- in the middle of anything on the training thread ------------------------------------------


class Striking(Small):
    """Puts what strikes it, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self._strikes = False

    def strike(self) -> None:
        if not self._strikes:  # not in the middle of itself
            self._strikes = True
            self.put("struck", self.sent)
            self.sent += 1
            self._strikes = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for number in range(20):
            self.put("own", 20 * self.global_step + number)
        return super().training_step(batch, batch_idx)


class Alarmed(Striking):
    """Struck by a signal's handler, every 300 us, from the first hook to the last."""

    def setup(self, stage: str) -> None:
        self.former = signal.signal(signal.SIGALRM, lambda *_: self.strike())
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)

    def teardown(self, stage: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.former)


@pytest.mark.parametrize("recording", ["all", "metrics"])
def test_a_signals_handler_puts_in_the_middle_of_anything(tmp_path: Path, recording: Any) -> None:
    run = trainer(tmp_path, max_epochs=6, recording=recording, num_sanity_val_steps=0)
    module = Alarmed()

    run.fit(module, loader(80), loader(8))

    assert module.sent
    assert sorted(values(run, "struck")) == list(range(module.sent))
    assert values(run, "own") == list(range(20 * run.global_step))
    check_order(run)


def test_a_run_that_is_not_recorded_hands_what_a_handler_puts_to_its_observers(
    tmp_path: Path,
) -> None:
    taken = Taken()
    run, module = trainer(tmp_path, max_epochs=6, recording="off", sinks=[taken]), Alarmed()

    run.fit(module, loader(80))

    assert sorted(taken.values["struck"]) == list(range(module.sent))
    assert taken.values["own"] == list(range(20 * run.global_step))


class Collected(Striking):
    """Struck by what the garbage collector finds, in the middle of a put, too."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        module = self

        class Garbage:
            def __init__(self) -> None:
                self.itself = self

            def __del__(self) -> None:
                module.strike()

        for _ in range(50):
            Garbage()
        return super().training_step(batch, batch_idx)


def test_an_object_that_is_collected_within_a_put_puts(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Collected()
    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    try:
        run.fit(module, loader(40))
    finally:
        gc.set_threshold(*thresholds)

    assert module.sent
    assert sorted(values(run, "struck")) == list(range(module.sent))
    assert values(run, "own") == list(range(20 * run.global_step))
    check_order(run)


class Traced(Striking):
    """Struck at each line of the bus, in its stretches without a call, too."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        former = sys.gettrace()
        sys.settrace(self._trace)
        try:
            super().training_step(batch, batch_idx)
            self.trainer.bus.flush()
        finally:
            sys.settrace(former)
        return super().training_step(batch, batch_idx)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(BUS):
            return None
        self.strike()
        return self._trace


@pytest.mark.long
@pytest.mark.parametrize("recording", ["all", "metrics"])
def test_a_trace_function_puts_at_each_line_of_the_bus(tmp_path: Path, recording: Any) -> None:
    run, module = trainer(tmp_path, recording=recording), Traced()

    run.fit(module, loader(8))

    assert module.sent > 100
    assert sorted(values(run, "struck")) == list(range(module.sent))
    check_order(run)


class Profiled(Striking):
    """Struck at each call of the bus and at the end of each."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        def strike(frame: FrameType, event: str, _: Any) -> None:
            if frame.f_code.co_filename.startswith(BUS):
                self.strike()

        former = sys.getprofile()
        sys.setprofile(strike)
        try:
            return super().training_step(batch, batch_idx)
        finally:
            sys.setprofile(former)


class Mourning(Striking):
    """Struck by the callbacks of weak references to what is collected."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        class Garbage:
            def __init__(self) -> None:
                self.itself = self

        self.references = [weakref.ref(Garbage(), lambda _: self.strike()) for _ in range(50)]
        former = gc.get_threshold()
        gc.set_threshold(5)
        try:
            return super().training_step(batch, batch_idx)
        finally:
            gc.set_threshold(*former)


class Handled(Striking):
    """Struck by a handler of what a value logs that is read."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        module = self

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                module.strike()

        class Reading:
            def item(self) -> float:
                log.warning("an old reading")
                return 1.0

        handler, log = Handler(), logging.getLogger("readings")
        log.addHandler(handler)
        self.put("reading", Reading())
        log.removeHandler(handler)
        return super().training_step(batch, batch_idx)


class Warned(Striking):
    """Struck by what shows the warnings of a value that is read."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        class Reading:
            def item(self) -> float:
                warnings.warn("an old reading", stacklevel=1)
                return 1.0

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda *_, **__: self.strike()
            self.put("reading", Reading())
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("recording", ["all", "metrics"])
@pytest.mark.parametrize("kind", [Profiled, Mourning, Handled, Warned])
def test_what_python_calls_within_a_put_puts(
    tmp_path: Path, kind: type[Striking], recording: Any
) -> None:
    run, module = trainer(tmp_path, recording=recording), kind()

    run.fit(module, loader())

    assert module.sent
    assert sorted(values(run, "struck")) == list(range(module.sent))
    assert values(run, "own") == list(range(20 * run.global_step))
    check_order(run)


def test_an_interrupt_in_a_put_leaves_the_next_one_its_way(tmp_path: Path) -> None:
    class Interrupted(Small):
        def on_train_start(self) -> None:
            def interrupt(frame: FrameType, event: str, _: Any) -> Any:
                if frame.f_code.co_name == "append":
                    raise KeyboardInterrupt
                return interrupt

            former = sys.gettrace()
            sys.settrace(interrupt)
            try:
                self.put("cut off", 1)
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(former)
            self.put("next", 2)

    run = trainer(tmp_path)
    run.fit(Interrupted(), loader())

    assert values(run, "next") == [2]
    check_order(run)


# -- whoever takes part -------------------------------------------------------------------------


def test_everyone_who_takes_part_puts_under_their_own_name(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            self.put("of_data", 1)
            return loader()

    class Back(nb.Callback):
        def setup(self, trainer: Any, module: Any, stage: str) -> None:
            self.put("of_callback", 1)

        def teardown(self, trainer: Any, module: Any, stage: str) -> None:
            self.put("of_callback_at_the_end", 1)

    class Around(nb.FitLoop):
        def on_run_start(self) -> None:
            self.put("of_loop", 1)
            super().on_run_start()

    class Beside(nb.Actor):
        @nb.on("on_train_start")
        async def start(self, hook: nb.Hook) -> None:
            self.put("of_actor", 1)

    class Out(nb.Sink):
        name = "out"

        def write(self, batch: list[nb.Put]) -> None:
            if any(put.name == "of_callback" for put in batch):
                self.put("of_sink", 1)

    run = trainer(tmp_path, callbacks=[Back()], actors=[Beside()], sinks=[Out()])
    run.fit_loop = Around()
    run.fit(Small(), datamodule=Data())

    sources = {put.name: put.source for put in events(run, nb.Put) if put.name.startswith("of_")}
    assert sources == {
        "of_data": "datamodule",
        "of_callback": "back",
        "of_callback_at_the_end": "back",
        "of_loop": "fit",
        "of_actor": "beside",
        "of_sink": "out",
    }


# -- where no run is ----------------------------------------------------------------------------


PUTS: dict[str, Callable[[Any], None]] = {
    "put": lambda actor: actor.put("late", 1.0),
    "put_dict": lambda actor: actor.put_dict({"late": 1.0}),
    "put_text": lambda actor: actor.put_text("late", "text"),
}


@pytest.mark.parametrize("put", PUTS.values(), ids=list(PUTS))
def test_a_put_before_any_run_is_refused(put: Callable[[Any], None]) -> None:
    with pytest.raises(OutsideRunError, match="outside a run"):
        put(Small())


@pytest.mark.parametrize("recording", RECORDINGS)
@pytest.mark.parametrize("put", PUTS.values(), ids=list(PUTS))
def test_a_put_after_the_runs_end_is_refused(
    tmp_path: Path, put: Callable[[Any], None], recording: Any
) -> None:
    module, callback = Small(), nb.Callback()
    run = trainer(tmp_path, recording=recording, callbacks=[callback])
    run.fit(module, loader())

    for actor in (module, callback):
        with pytest.raises(OutsideRunError, match="after the run's end"):
            put(actor)
    assert "late" not in run.callback_metrics


def test_a_log_after_the_runs_end_is_refused(tmp_path: Path) -> None:
    module, callback = Small(), nb.Callback()
    trainer(tmp_path, callbacks=[callback]).fit(module, loader())

    for actor in (module, callback):
        with pytest.raises(nb.UsageError):
            actor.log("late", 1.0, on_step=False, on_epoch=True)


def test_a_log_after_a_run_that_failed_is_refused(tmp_path: Path) -> None:
    class Failing(nb.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            self.log("mean", 1.0, on_step=False, on_epoch=True)
            raise RuntimeError("out of luck")

    callback = Failing()
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer(tmp_path, callbacks=[callback]).fit(Small(), loader())

    with pytest.raises(nb.UsageError):
        callback.log("mean", 1.0, on_step=False, on_epoch=True)


def test_a_put_of_another_thread_before_the_log_is_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[Exception] = []
    is_observer = nb.Actor._is_observer

    def put_early(actor: nb.Actor) -> bool:  # asked when it has its address, and no log is there
        if isinstance(actor, Small):
            with pytest.raises(OutsideRunError, match="before the run has begun") as caught:
                actor.put("early", 1.0)
            refused.append(caught.value)
        return is_observer(actor)

    monkeypatch.setattr(nb.Actor, "_is_observer", put_early)
    trainer(tmp_path).fit(Small(), loader())

    assert refused


def test_of_a_thread_that_outlives_the_run_each_put_that_returned_is_in_the_log(
    tmp_path: Path,
) -> None:
    module = Small()
    sent: list[int] = []
    refused: list[Exception] = []

    def put_until_refused() -> None:
        try:
            while True:
                module.put("of_thread", len(sent))
                sent.append(len(sent))
                time.sleep(0)
        except OutsideRunError as error:
            refused.append(error)

    class Starting(nb.Callback):
        def on_train_start(self, *_: Any) -> None:
            thread.start()

    thread = threading.Thread(target=put_until_refused)
    run = trainer(tmp_path, callbacks=[Starting()])
    run.fit(module, loader())
    thread.join(DEADLINE_S)

    assert "after the run's end" in str(refused[0])
    assert values(run, "of_thread") == sent
    assert run.callback_metrics["of_thread"] == sent[-1]  # not what was refused
    assert isinstance(events(run)[-1], nb.RunEnded)
    check_order(run)


def test_a_handler_that_strikes_while_the_end_is_written_does_not_undo_it(tmp_path: Path) -> None:
    """It comes too late for the log, which is said; it must not end what ends the run."""

    class Slow(nb.Sink):
        def close(self) -> None:
            signal.raise_signal(signal.SIGALRM)
            time.sleep(0)

        def write(self, batch: list[nb.Put]) -> None:
            """Nothing to write."""

    module = Small()
    with alarms(lambda: module.put("at_the_end", 1.0)):
        run = trainer(tmp_path, sinks=[Slow()])
        run.fit(module, loader())

    assert [event.how for event in events(run, nb.RunEnded)] == ["completed"]
    assert isinstance(events(run)[-1], nb.RunEnded)


@contextmanager
def alarms(strike: Callable[[], None]) -> Iterator[None]:
    former = signal.signal(signal.SIGALRM, lambda *_: strike())
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, former)


@pytest.mark.long
def test_a_put_at_the_interpreters_exit_is_refused(tmp_path: Path) -> None:
    program = """
import atexit, sys
from models import Small, loader, trainer
module = Small()
atexit.register(lambda: module.put("at_exit", 1.0))
trainer(sys.argv[1]).fit(module, loader())
"""
    done = run_program("-c", program, str(tmp_path), cwd=Path(__file__).parent, timeout=DEADLINE_S)

    assert "OutsideRunError: put('at_exit') was called after the run's end" in done.stderr


# -- in workers ---------------------------------------------------------------------------------


class Putting(Dataset[Any]):
    """Puts, or logs, where it loads."""

    def __init__(self, use: Callable[[], None]) -> None:
        self.use = use
        self.data = dataset()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        self.use()
        return self.data[index]


@pytest.mark.parametrize("verb", ["put", "log"])
def test_what_a_forked_worker_would_record_is_refused_with_what_to_do(
    tmp_path: Path, verb: str
) -> None:
    module = Small()
    data = Putting(lambda: getattr(module, verb)("of_worker", 1.0))
    loading = DataLoader(data, 4, num_workers=1, multiprocessing_context="fork")

    with pytest.raises(ForkedChildError, match="Return it with the batch"):
        trainer(tmp_path).fit(module, loading)


@pytest.mark.long
@pytest.mark.usefixtures("spawns")
def test_a_copy_in_a_spawned_worker_is_in_no_run_and_says_so(tmp_path: Path) -> None:
    data = Putting(_put_as_copy)
    loading = DataLoader(data, 4, num_workers=1, multiprocessing_context="spawn")

    with pytest.raises(OutsideRunError, match="in a child process, on a copy of it"):
        trainer(tmp_path).fit(Small(), loading)


def _put_as_copy() -> None:
    nb.Callback().put("of_worker", 1.0)
