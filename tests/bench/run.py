"""What a step costs: nightbus and its peers over the raw PyTorch loop, in one interleaved run.

    make bench            nightbus alone
    make bench-peers      with lightning and pytorch-ignite

Every contender trains the same tiny model on the same data in memory; rounds alternate between
all of them. Shown are the medians and quartiles of the rounds, the ratio to the raw loop of the
same round with its 95 % confidence interval, and the shortest stretch of 50 steps of all rounds.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from after_crash import after_crash
from common import BARE, STEPS, Batches, Stopwatch, Tiny, best_of_runs_s, make_net, quiet
from last_events import LAST_EVENTS, WITHOUT_LAST_EVENTS
from metrics import METRICS, REFERENCE_OF, delivery
from other_loops import OTHER_LOOPS, RAW_OF
from recording import PAIRS, median_ratio, recording_cost, tell
from torch import Tensor
from torch.nn import functional as F

import nightbus as nb


def raw(folder: Path) -> float:
    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    watch = Stopwatch()
    for step, (x, y) in enumerate(Batches(STEPS)):
        if step == 1:
            watch.begin_s = time.perf_counter()
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    watch.end_s = time.perf_counter()
    return watch.per_step_us


class TinyLogged(Tiny):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("same", loss, on_step=True, on_epoch=True)
        self.log("step", float(batch_idx), on_step=True, on_epoch=True)
        return loss


class TwoHooks(nb.Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.count += 1

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.count += 1


class OneHook(nb.Callback):
    """Looks at batch ends, as most callbacks do."""

    count = 0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.count += 1


class SleepySink(nb.Sink):
    """Takes 5 ms for each record."""

    destination = "callbacks"

    def __init__(self) -> None:
        self.records = 0

    def write(self, batch: list[nb.Put]) -> None:
        for _ in batch:
            time.sleep(0.005)
            self.records += 1


def train(folder: Path, module: type[Tiny] = Tiny, **arguments: Any) -> float:
    watch = Stopwatch()
    trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
    trainer.fit(module(watch), Batches(STEPS))
    return watch.per_step_us


def bare(folder: Path) -> float:
    return train(folder, **BARE)


def default(folder: Path) -> float:
    return train(folder)


def logged(folder: Path) -> float:
    return train(folder, TinyLogged, enable_progress_bar=False)


def callbacks10(folder: Path) -> float:
    return train(folder, callbacks=[TwoHooks() for _ in range(10)], **BARE)


def callback_recorded(folder: Path) -> float:
    return train(folder, callbacks=[OneHook()], **{**BARE, "recording": "all"})


def sleepy_reference(folder: Path) -> float:
    return train(folder, TinyLogged, **{**BARE, "recording": "all"}, drain_timeout=0.0)


def sleepy(folder: Path) -> float:
    sink = SleepySink()
    arguments = {**BARE, "recording": "all"}
    return train(folder, TinyLogged, sinks=[sink], drain_timeout=0.0, **arguments)


def ignite(folder: Path) -> float:
    from ignite.engine import Engine, Events

    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    watch = Stopwatch()

    def update(engine: Any, batch: Any) -> float:
        if engine.state.iteration == 2:
            watch.begin_s = time.perf_counter()
        x, y = batch
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(update)

    @engine.on(Events.EPOCH_COMPLETED)  # type: ignore[untyped-decorator, unused-ignore]
    def end(_: Any) -> None:
        watch.end_s = time.perf_counter()

    engine.run(Batches(STEPS), max_epochs=1)
    return watch.per_step_us


def lightning_contenders() -> dict[str, Callable[[Path], float]]:
    import logging

    import lightning
    from lightning.pytorch.loggers import CSVLogger

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    def module_class(logs: bool) -> Any:
        class LightningTiny(lightning.LightningModule):  # type: ignore[misc, unused-ignore]
            def __init__(self, watch: Stopwatch) -> None:
                super().__init__()
                self.net = make_net()
                self.watch = watch

            def training_step(self, batch: Any, batch_idx: int) -> Tensor:
                if batch_idx == 1:
                    self.watch.begin_s = time.perf_counter()
                x, y = batch
                loss = F.cross_entropy(self.net(x), y)
                if logs:
                    self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
                    self.log("same", loss, on_step=True, on_epoch=True)
                    self.log("step", float(batch_idx), on_step=True, on_epoch=True)
                return loss

            def configure_optimizers(self) -> Any:
                return torch.optim.SGD(self.parameters(), lr=0.01)

            def on_train_epoch_end(self) -> None:
                self.watch.end_s = time.perf_counter()

        return LightningTiny

    def contender(logs: bool, **arguments: Any) -> Callable[[Path], float]:
        def run(folder: Path) -> float:
            watch = Stopwatch()
            options: dict[str, Any] = {"logger": CSVLogger(str(folder)), **arguments}
            trainer = lightning.Trainer(
                max_epochs=1, accelerator="cpu", default_root_dir=str(folder), **options
            )
            trainer.fit(module_class(logs)(watch), Batches(STEPS))
            return watch.per_step_us

        return run

    nothing = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
    }
    return {
        "lightning bare": contender(False, **nothing),
        "lightning default": contender(False),
        "lightning logged": contender(True, enable_progress_bar=False),
    }


# -- other figures -------------------------------------------------------------------------------


class CountsAll(nb.Actor):
    """Handles every event: the most that routing can be asked for."""

    seen = 0

    @nb.on()
    async def count(self, event: Any) -> None:
        self.seen += 1


def other_figures(folder: Path) -> dict[str, str]:
    """What is not microseconds a step."""
    with quiet():
        arguments = {**BARE, "recording": "all"}
        watch = Stopwatch()
        trainer = nb.Trainer(max_epochs=5, default_root_dir=folder, accelerator="cpu", **arguments)
        trainer.fit(TinyLogged(watch), Batches(STEPS))
        one = Stopwatch()
        trainer_of_one = nb.Trainer(max_steps=2, default_root_dir=folder, accelerator="cpu")
        begin_s = time.perf_counter()
        trainer_of_one.fit(Tiny(one), Batches(STEPS))
    assert trainer.run_folder is not None
    (segments,) = [trainer.run_folder.store(0).folder]
    compressed = sum(path.stat().st_size for path in segments.iterdir())
    from nightbus.bus.log.segments import read_footer

    store = trainer.run_folder.store(0)
    plain = sum(
        footer.body_bytes for i in store.indices() if (footer := read_footer(store, i)) is not None
    )
    counts = CountsAll()
    replay_s = []
    for _ in range(3):
        counts.seen = 0
        start_s = time.perf_counter()
        nb.replay(trainer.run_folder, actors=[counts])
        replay_s.append(time.perf_counter() - start_s)
    steps = STEPS * 5
    return {
        "events a step": f"{counts.seen / steps:.1f}",
        "bytes a step in the log": f"{plain / steps:.0f}",
        "bytes a step, compressed": f"{compressed / steps:.0f}",
        "events replayed a second, all to one actor": f"{counts.seen / min(replay_s):,.0f}",
        "from fit to the first step, ms": f"{(one.begin_s - begin_s) * 1e3:.0f}",
        "events recorded a second": f"{record_rate(folder):,.0f}",
        "import beyond torch, ms": f"{import_ms():.0f}",
        "show on a run of 100 MB, ms": f"{show_ms(folder):.0f}",
        **after_crash(folder),
        **delivery(folder),
    }


def record_rate(folder: Path) -> float:
    """Hooks recorded a second, fourteen to a write, with nothing in between."""
    from nightbus.bus.log.fast_flush import FastLogWriter
    from nightbus.bus.log.place import Place
    from nightbus.bus.log.segments import FolderStore
    from nightbus.bus.log.writer import LogIdentity
    from nightbus.bus.routes import Routes

    place = Place()
    writer = FastLogWriter(FolderStore(folder / "rate"), LogIdentity("rate"), place)
    routes = Routes(place)
    routes.refresh()
    hook: Any = routes.on_train_batch_start
    begin_s = time.perf_counter()
    for step in range(20_000):
        place.begin_batch(step)
        for _ in range(14):
            hook()
        writer.flush()
    elapsed_s = time.perf_counter() - begin_s
    writer.close()
    return 20_000 * 14 / elapsed_s


def import_ms() -> float:
    """What importing all of nightbus adds to importing torch."""
    with_nightbus = best_of_runs_s("-c", "import torch, nightbus; nightbus.Trainer")
    return (with_nightbus - best_of_runs_s("-c", "import torch")) * 1e3


def show_ms(folder: Path) -> float:
    """Time of the whole command, Python's start included, on a run that was not closed."""
    from nightbus.bus.log.fast_flush import FastLogWriter
    from nightbus.bus.log.place import Place
    from nightbus.bus.log.writer import DEFAULT_SEGMENT_BYTES, LogIdentity
    from nightbus.bus.routes import Routes
    from nightbus.bus.runs.run_folder import RunFolder

    run = RunFolder.create(folder / "runs", "large")
    lock = run.begin_attempt()
    place = Place()
    store = run.store(lock.attempt)
    writer = FastLogWriter(store, LogIdentity(run.info.id), place)
    routes = Routes(place)
    routes.refresh()
    hook: Any = routes.on_train_batch_start
    size = 0
    while size < 100_000_000:
        place.complete_step(place.step + 1)
        for _ in range(14):
            hook()
        writer.append(
            writer.event(nb.Put, "loss", 1 / place.step, ("loggers",), "h", source="module")
        )
        writer.flush()
        segment, size_of_last = writer.committed
        size = segment * DEFAULT_SEGMENT_BYTES + size_of_last
    writer.sync()
    lock.release()
    return best_of_runs_s("-m", "nightbus", "show", str(run.path)) * 1e3


def contenders() -> dict[str, Callable[[Path], float]]:
    found: dict[str, Callable[[Path], float]] = {
        "raw": raw,
        "bare": bare,
        "default": default,
        "logged": logged,
        "ten callbacks": callbacks10,
        "one at batch end, recorded": callback_recorded,
        "recorded, no sink": sleepy_reference,
        "recorded, 5 ms sink": sleepy,
        **OTHER_LOOPS,
        **METRICS,
        **LAST_EVENTS,
    }
    if find_spec("ignite") is not None:
        found["ignite"] = ignite
    with contextlib.suppress(ImportError):
        found |= lightning_contenders()
    return found


class Rounds(NamedTuple):
    """What was measured of a contender, in us a step, round by round.

    Attributes:
        mean: over the whole epoch.
        least: of its shortest stretch of steps.
    """

    mean: list[float]
    least: list[float]


def compared_with(name: str) -> str:
    """The contender that another is compared with."""
    return {**RAW_OF, **REFERENCE_OF, **WITHOUT_LAST_EVENTS}.get(name, "raw")


def measure(rounds: int, only: list[str]) -> dict[str, Rounds]:
    wanted = {*only, *map(compared_with, only)}
    runs = {name: run for name, run in contenders().items() if not only or name in wanted}
    if unknown := set(only) - runs.keys():
        raise SystemExit(f"no contender: {sorted(unknown)}; there are {[*contenders()]}")
    results = {name: Rounds([], []) for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, run in runs.items():
                with quiet():
                    per_step = run(Path(folder))
                if number:  # the first round warms up
                    results[name].mean.append(per_step)
                    results[name].least.append(Batches.least_us())
    return results


def show(results: dict[str, Rounds]) -> None:
    """Print each contender's rounds beside the raw loop's, then the shortest stretches of all."""
    print(
        f"{'':26}{'us/step':>9}{'quartiles':>18}{'over raw':>10}{'ratio':>8}{'95 %':>16}"
        f"{'least':>10}{'over raw':>10}{'ratio':>8}"
    )
    for name, (mean, least) in results.items():
        base = results[compared_with(name)]
        low, _, high = statistics.quantiles(mean, n=4)
        over = statistics.median(v - b for v, b in zip(mean, base.mean, strict=True))
        ratio = median_ratio([v / b for v, b in zip(mean, base.mean, strict=True)])
        interval = f"{ratio.low:.2f} .. {ratio.high:.2f}"
        spread = f"{low:.1f} .. {high:.1f}"
        best, best_base = min(least), min(base.least)
        print(
            f"{name:26}{statistics.median(mean):9.1f}{spread:>18}{over:10.1f}"
            f"{ratio.median:8.2f}{interval:>16}"
            f"{best:10.1f}{best - best_base:10.1f}{best / best_base:8.2f}"
        )


def memory_growth_mb(steps: int) -> float:
    """Growth of the process over many recorded steps with a sink that takes 5 ms a record, in MB.

    Counted from the first tenth on, when everything is loaded.
    """
    marks: list[float] = []

    class Weighs(TinyLogged):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx in (steps // 10, steps - 1):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                marks.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            return super().training_step(batch, batch_idx)

    with tempfile.TemporaryDirectory() as folder, quiet():
        arguments = {**BARE, "recording": "all", "sinks": [SleepySink()], "drain_timeout": 0.0}
        trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
        trainer.fit(Weighs(Stopwatch()), Batches(steps))
    return marks[1] - marks[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--only", nargs="*", default=[], help="contenders; and what they are compared with"
    )
    parser.add_argument("--memory", type=int, metavar="STEPS", help="only weigh so many steps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        growth_mb = memory_growth_mb(options.memory)
        print(f"growth over {options.memory:,} steps with a slow sink: {growth_mb:.1f} MB")
        return
    show(measure(options.rounds, options.only))
    if not options.only:
        print()
        with tempfile.TemporaryDirectory() as folder:
            for what, figure in other_figures(Path(folder)).items():
                print(f"{what:46}{figure:>12}")
        print()
        print(tell(recording_cost(PAIRS), PAIRS))


if __name__ == "__main__":
    main()
