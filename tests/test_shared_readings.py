"""Hooks that follow each other directly share a reading of the clock; the log says the same."""

import contextlib
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from torch import Tensor

import nightbus as nb
from nightbus.bus.events import Fault, Hook, Put
from nightbus.bus.log.trace import Walk
from nightbus.loops.manual import ManualOptimization
from nightbus.loops.optimizer import OptimizerLoop
from nightbus.loops.training_batch import TrainingBatchLoop
from nightbus.loops.training_epoch import TrainingEpochLoop

AT_WHICH_ALL_ARE_HANDLED = [
    "on_batch_start",
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_batch_end",
]


class HandlesAll(nb.Callback):
    """Handles what is only announced else, so that each hook is noted for itself."""


for name in AT_WHICH_ALL_ARE_HANDLED:
    setattr(HandlesAll, name, lambda *_, **__: None)


class Plain(Small):
    """Announces and does no more than it must."""

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        return self.loss(batch)


class Logging(Small):
    """Records an event within the step."""


class SaysMore(Plain):
    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        return {"loss": self.loss(batch), "log": {"seen": batch_idx}}


class Skipping(Plain):
    """Leaves each third batch out."""

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        return self.loss(batch) if batch_idx % 3 else None


class TwoOptimizers(Plain):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)], []


class TakingTurns(Plain):
    def configure_optimizers(self) -> Any:
        return [
            {"optimizer": torch.optim.SGD(self.parameters(), lr=0.1), "frequency": number}
            for number in (1, 2)
        ]


class Lbfgs(Plain):
    """Its optimizer evaluates the step again and again."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Scheduled(Plain):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Stepping(Plain):
    """Steps by itself."""

    def optimizer_step(self, *arguments: Any, **_: Any) -> None:
        optimizer, closure = arguments[2], arguments[-1]
        optimizer.step(closure)


class Unscaled(Plain):
    """Does itself what is done where nobody handles it."""

    def backward(self, loss: Tensor, *_: Any) -> None:
        loss.backward()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any, *_: Any) -> None:
        optimizer.zero_grad()


class ByHand(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()


class PreparedOptimizer(torch.optim.SGD):
    """One of the user's own: nobody knows what it does before it evaluates the step."""


class OwnOptimizer(Plain):
    def configure_optimizers(self) -> Any:
        return PreparedOptimizer(self.parameters(), lr=0.1)


MODULES: list[type[Small]] = [
    OwnOptimizer,
    Plain,
    Logging,
    SaysMore,
    Skipping,
    TwoOptimizers,
    TakingTurns,
    Lbfgs,
    Scheduled,
    Stepping,
    Unscaled,
    ByHand,
]


def recorded(module: Small, folder: Path, **arguments: Any) -> list[tuple[Any, ...]]:
    """What a run records of its steps: hooks and values, in order, and where training was."""
    run = trainer(folder, max_epochs=2, enable_checkpointing=False, **arguments)
    run.fit(module, loader(), loader())
    return [
        (
            event.name,
            event.stage,
            event.epoch,
            event.step,
            event.batch_idx,
            event.hook if isinstance(event, Put) else "",
        )
        for event in events(run, Hook, Put)
    ]


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize(
    "arguments",
    [{}, {"val_check_interval": 2}, {"accumulate_grad_batches": 4}, {"detect_anomaly": True}],
    ids=["", "validating", "accumulating", "detecting"],
)
def test_what_shares_readings_is_recorded_as_what_does_not(
    kind: type[Small], arguments: dict[str, Any], tmp_path: Path
) -> None:
    if kind is ByHand and "accumulate_grad_batches" in arguments:
        pytest.skip("a module that steps by hand accumulates by itself")
    shared = recorded(kind(), tmp_path / "shared", **arguments)
    alone = recorded(kind(), tmp_path / "alone", callbacks=[HandlesAll()], **arguments)

    assert shared == alone


@pytest.mark.parametrize("wanted", ["all", "metrics"])
def test_what_an_observer_wants_of_a_run_shares_readings_as_well(
    wanted: str, tmp_path: Path
) -> None:
    class Watching(nb.Actor):
        def __init__(self) -> None:
            self.seen: list[tuple[str, int, int]] = []

        @nb.on(nb.Hook)
        async def note(self, hook: nb.Hook) -> None:
            if hook.name in ("training_step", "on_train_batch_end"):
                self.seen.append((hook.name, hook.step, hook.batch_idx))

    watching = Watching()
    run = trainer(tmp_path, enable_checkpointing=False, recording=wanted, actors=[watching])
    run.fit(Plain(), loader())

    assert watching.seen == [
        seen
        for batch in range(6)
        for seen in (("training_step", batch, batch), ("on_train_batch_end", batch + 1, batch))
    ]


def test_a_step_in_which_nobody_handles_anything_takes_five_readings(tmp_path: Path) -> None:
    counts = list[int]()

    class Counting(Plain):
        def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
            place = self.trainer.place
            recorder = place.recorder
            # Nothing is written meanwhile.
            recorder.flush_due_ns = recorder.flush_latest_ns = sys.maxsize
            counts.append(len(recorder.trace.words))
            return super().training_step(batch, batch_idx)

    trainer(tmp_path, enable_checkpointing=False).fit(Counting(), loader())

    # The first step is written at its end, with the event that the loop began.
    assert [later - count for count, later in pairwise(counts[1:])] == [5] * 4


BUSY_NS = 2_000_000


def be_busy() -> None:
    """Take a time that can be found again in what is recorded."""
    begin_ns = time.monotonic_ns()
    while time.monotonic_ns() < begin_ns + BUSY_NS:
        pass


class PreparesItsStep(Stepping):
    def optimizer_step(self, *arguments: Any, **more: Any) -> None:
        be_busy()
        super().optimizer_step(*arguments, **more)


class Preparing(torch.optim.SGD):
    """An optimizer that does something before it evaluates the training step."""

    def step(self, closure: Any = None) -> Any:
        be_busy()
        return super().step(closure)


class PreparingOptimizer(Plain):
    def configure_optimizers(self) -> Any:
        return Preparing(self.parameters(), lr=0.1)


class LossFromElsewhere(OptimizerLoop):
    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        be_busy()
        return self.trainer.lightning_module.training_step(batch, batch_idx)


class BusyAfterIt(TrainingBatchLoop):
    """Does something of its own behind the step."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        outputs = super().run(*args, **kwargs)
        be_busy()
        return outputs


class BusyUntoggling(TwoOptimizers):
    def untoggle_optimizer(self, *arguments: Any) -> None:
        be_busy()
        super().untoggle_optimizer(*arguments)


def unaccounted_ns(run: nb.Trainer) -> list[int]:
    """Of each optimizer step, the time that is in none of what it consists of."""
    found = list[int]()
    inner_ns = 0
    for hook in events(run, Hook):
        if hook.name == "optimizer_step":
            found.append(hook.duration_ns - inner_ns)
            inner_ns = 0
        elif hook.name in ("training_step", "optimizer_zero_grad", "backward"):
            inner_ns += hook.duration_ns
    return found


@pytest.mark.parametrize("kind", [PreparesItsStep, PreparingOptimizer])
def test_what_is_done_before_the_training_step_is_in_the_optimizer_steps_time(
    kind: type[Small], tmp_path: Path
) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(kind(), loader())

    assert min(unaccounted_ns(run)) >= BUSY_NS


def test_what_a_loop_does_instead_of_the_training_step_is_in_the_optimizer_steps_time(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit_loop.epoch_loop.batch_loop.optimizer_loop = LossFromElsewhere()
    run.fit(Plain(), loader())

    assert min(unaccounted_ns(run)) >= BUSY_NS


def begins_and_ends(run: nb.Trainer) -> list[tuple[int, int]]:
    """When each optimizer step ended, and when the next hook ran."""
    hooks = events(run, Hook)
    return [
        (hook.time_ns, following.time_ns)
        for hook, following in pairwise(hooks)
        if hook.name == "optimizer_step"
    ]


def test_what_a_loop_does_behind_the_step_is_not_in_its_time(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    former = run.fit_loop.epoch_loop.batch_loop
    run.fit_loop.epoch_loop.batch_loop = BusyAfterIt()
    run.fit_loop.epoch_loop.batch_loop.optimizer_loop = former.optimizer_loop
    run.fit(Plain(), loader())

    assert all(following - end >= BUSY_NS for end, following in begins_and_ends(run))


def test_what_is_done_to_untoggle_is_not_in_the_steps_time(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit(BusyUntoggling(), loader())

    assert all(following - end >= BUSY_NS for end, following in begins_and_ends(run))


class Refusing(torch.optim.SGD):
    """Fails before it evaluates anything."""

    def step(self, closure: Any = None) -> Any:
        raise RuntimeError("no step today")


class Failing(Plain):
    """Fails somewhere."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self.where == "training_step":
            raise RuntimeError("no loss today")
        if self.where == "backward":
            loss.register_hook(self._refuse)
        return "no tensor" if self.where == "what it returns" else loss

    def _refuse(self, _: Any) -> None:
        raise RuntimeError("no gradient today")

    def configure_optimizers(self) -> Any:
        refuses = self.where == "optimizer_step"
        return (Refusing if refuses else torch.optim.SGD)(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "where", ["optimizer_step", "training_step", "backward", "what it returns"]
)
def test_a_fault_leaves_what_was_announced_before_it(where: str, tmp_path: Path) -> None:
    def fit(folder: Path, *callbacks: nb.Callback) -> list[Any]:
        run = trainer(folder, enable_checkpointing=False, callbacks=list(callbacks))
        with pytest.raises((RuntimeError, nb.NightbusError)):
            run.fit(Failing(where), loader())
        told = [
            (event.name if isinstance(event, Hook) else event.hook, event.step, event.batch_idx)
            for event in events(run, Hook, Fault)
        ]
        return [entry for entry in told if entry[0] != "on_exception"]

    assert fit(tmp_path / "shared") == fit(tmp_path / "alone", HandlesAll())


def test_an_event_that_arises_between_two_hooks_stands_between_them(tmp_path: Path) -> None:
    class Putting(torch.optim.SGD):
        """Has something to say before it evaluates, and behind it."""

        say: Callable[[str], None]

        def step(self, closure: Any = None) -> Any:
            self.say("before")
            loss = super().step(closure)
            self.say("behind")
            return loss

    class Module(Plain):
        def configure_optimizers(self) -> Any:
            optimizer = Putting(self.parameters(), lr=0.1)
            optimizer.say = lambda name: self.put(name, 1.0)
            return optimizer

    told = recorded(Module(), tmp_path, limit_train_batches=1, limit_val_batches=0)
    names = [name for name, *_ in told]
    at = names.index("before")

    assert names[at - 2 : at + 2] == [
        "on_batch_start",
        "on_train_batch_start",
        "before",
        "training_step",
    ]
    assert names[names.index("behind") - 1 :][:4] == [
        "on_before_optimizer_step",
        "behind",
        "optimizer_step",
        "on_train_batch_end",
    ]


class Overlooking(TrainingEpochLoop):
    """Goes on with the next batch whatever happened to the last."""

    def advance(self) -> None:
        with contextlib.suppress(RuntimeError, nb.NightbusError):
            super().advance()


class WithFailingScheduler(Plain):
    """Its scheduler fails at each step."""

    def configure_optimizers(self) -> Any:
        def rate(step: int) -> float:
            if step:
                raise nb.UsageError("no rate for this step")
            return 1.0

        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class BusyByHand(ManualOptimization):
    """A manual loop that does something of its own before the step."""

    def advance(self, *args: Any, **kwargs: Any) -> None:
        be_busy()
        super().advance(*args, **kwargs)


def test_what_a_manual_loop_does_before_the_step_is_behind_the_batchs_begin(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    run.fit_loop.epoch_loop.batch_loop.manual_loop = BusyByHand()
    run.fit(ByHand(), loader())
    hooks = events(run, Hook)
    begins_ns = [hook.time_ns for hook in hooks if hook.name == "on_train_batch_start"]
    steps_ns = [hook.time_ns - hook.duration_ns for hook in hooks if hook.name == "training_step"]

    assert len(begins_ns) == len(steps_ns) == 6
    assert all(step - begin >= BUSY_NS for begin, step in zip(begins_ns, steps_ns, strict=True))


@pytest.mark.parametrize("kind", [WithFailingScheduler, lambda: Failing("backward")])
def test_a_fault_that_a_loop_overlooks_leaves_later_steps_their_numbers(
    kind: Callable[[], Small], tmp_path: Path
) -> None:
    def fit(folder: Path, *callbacks: nb.Callback) -> list[Any]:
        run = trainer(folder, enable_checkpointing=False, callbacks=list(callbacks))
        former = run.fit_loop.epoch_loop
        run.fit_loop.connect(epoch_loop=Overlooking(former.min_steps, former.max_steps))
        run.fit(kind(), loader())
        return [(hook.name, hook.step, hook.batch_idx) for hook in events(run, Hook)]

    assert fit(tmp_path / "shared") == fit(tmp_path / "alone", HandlesAll())


class StopsOnce(Plain):
    """Ends an epoch with its second batch, and looks which optimizer steps have begun."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.stepping = list[tuple[int, bool]]()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        self.batches += 1
        return -1 if self.batches == 2 else None

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        notes = self.trainer.place.recorder.trace
        walk = Walk(notes.origin, notes.names, notes.base_ns)
        for _ in walk.hooks(notes.words):
            pass
        self.stepping.append((batch_idx, "optimizer_step" in walk.open))
        return self.loss(batch)


def test_no_optimizer_step_begins_in_a_batch_that_only_accumulates(tmp_path: Path) -> None:
    run = trainer(
        tmp_path,
        max_epochs=2,
        enable_checkpointing=False,
        accumulate_grad_batches=4,
        limit_train_batches=4,
    )
    module = StopsOnce()
    run.fit(module, loader())
    # What the epoch before had accumulated counts.
    assert module.stepping[1:] == [(0, False), (1, False), (2, True), (3, True)]


class Undividable(Tensor):
    def __truediv__(self, other: Any) -> Any:
        raise RuntimeError("no part today")


class Dividing(Plain):
    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        return self.loss(batch).as_subclass(Undividable)


def test_a_loss_that_cannot_be_divided_is_told_behind_what_ended_before(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False, accumulate_grad_batches=2)
    with pytest.raises(RuntimeError, match="no part"):
        run.fit(Dividing(), loader())
    told = [event.name if isinstance(event, Hook) else "" for event in events(run, Hook, Fault)]

    assert told[told.index("") - 1] == "optimizer_zero_grad"


@pytest.mark.parametrize("callbacks", [[], [HandlesAll()]], ids=["plain", "handled"])
def test_the_running_loss_is_put_right_before_the_optimizer_steps(
    callbacks: list[nb.Callback], tmp_path: Path
) -> None:
    run = trainer(
        tmp_path, enable_checkpointing=False, enable_progress_bar=True, callbacks=callbacks
    )
    run.fit(Plain(), loader())
    names = [event.name for event in events(run, Hook, Put)]
    at = names.index("loss")

    assert names[at - 1] == "on_before_optimizer_step"
    assert names[at + 1] == "optimizer_step"
