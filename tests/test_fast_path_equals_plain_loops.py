"""The fast paths and the loops as they say it themselves do the same, to the event and the bit.

Set-ups are drawn: modules, callbacks, options of the Trainer. Each is run twice: as it is, and with
loops of the same code whose classes are not the library's own, for which no fast path is taken.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from models import Small, dataset, events, trainer, weights
from torch import Tensor, nn
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.bus.events import (
    ActorStarted,
    ActorTotals,
    CheckpointSaved,
    Fault,
    RunStarted,
    SystemMetrics,
)
from nightbus.loops import running_loss
from nightbus.loops.fast.evaluation import FastEvaluation
from nightbus.loops.fast.training import FastTraining

BATCHES = 7
COMMANDS: dict[str, nb.Command] = {
    "validate": nb.RunValidation(),
    "save": nb.SaveCheckpoint(),
    "stop": nb.Stop(reason="enough"),
}
AT_THE_ENDS = ["on_batch_start", "on_train_batch_start", "on_train_batch_end", "on_batch_end"]
IN_THE_MIDDLE = [
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
]
ELSEWHERE = ["on_validation_batch_start", "on_validation_batch_end", "on_train_epoch_end"]
FAST_OPTIMIZERS = {"sgd", "adam", "two", "taking turns"}
OVERRIDES_KEPT = {"backward", "optimizer_zero_grad", "configure_gradient_clipping", "transfer"}
OVERRIDES = OVERRIDES_KEPT | {"optimizer_step", "training_step_end", "on_after_backward"}
AT = st.none() | st.integers(0, BATCHES - 1)


@dataclass(frozen=True)
class SetUp:
    """A drawn run."""

    optimizer: str
    scheduler: str
    returns: str
    skipped: frozenset[int]  # batches for which training_step returns None
    logs: bool
    puts: bool
    overrides: frozenset[str]
    handled: frozenset[str]  # by a callback
    raises_at: int | None
    ends_epoch_at: int | None  # on_train_batch_start returns -1
    attaches_at: int | None  # a callback for these:
    attached: frozenset[str]
    commands_at: int | None
    command: str
    accumulates_from: int | None  # a callback changes accumulate_grad_batches
    accumulate: int
    clips: str
    precision: str
    val_check_interval: float | int
    max_steps: int
    limit: int | None
    length: int | None  # what the loader says that it has; None if it does not know
    samples: int  # of batches of 4; the last may have fewer
    none_at: int | None
    shows_loss: bool  # in the progress bar
    saves_every: int  # steps
    recording: str

    @property
    def saves(self) -> bool:
        return self.saves_every > 0 or (self.command == "save" and self.commands_at is not None)

    @property
    def fast_optimizers(self) -> bool:
        return self.optimizer in FAST_OPTIMIZERS and self.overrides <= OVERRIDES_KEPT

    @property
    def is_fast(self) -> bool:
        """Whether the fast path is to be taken from the first batch on."""
        return self.fast_optimizers and self.handled.isdisjoint(IN_THE_MIDDLE)


SET_UPS = st.builds(
    SetUp,
    optimizer=st.sampled_from([*sorted(FAST_OPTIMIZERS), "sgd", "sgd", "own", "lbfgs"]),
    scheduler=st.sampled_from(["", "step", "epoch", "waiting"]),
    returns=st.sampled_from(["loss", "loss", "dict"]),
    skipped=st.frozensets(st.integers(0, BATCHES), max_size=2),
    logs=st.booleans(),
    puts=st.booleans(),
    overrides=st.frozensets(st.sampled_from(sorted(OVERRIDES)), max_size=2),
    handled=st.frozensets(st.sampled_from([*AT_THE_ENDS, *IN_THE_MIDDLE, *ELSEWHERE]), max_size=3),
    raises_at=st.none() | AT,
    ends_epoch_at=st.none() | AT,
    attaches_at=AT,
    attached=st.frozensets(st.sampled_from([*AT_THE_ENDS, *IN_THE_MIDDLE]), max_size=2),
    commands_at=AT,
    command=st.sampled_from(sorted(COMMANDS)),
    accumulates_from=st.none() | AT,
    accumulate=st.sampled_from([1, 1, 2, 3]),
    clips=st.sampled_from(["", "norm", "value"]),
    precision=st.sampled_from(["32-true", "32-true", "bf16-mixed", "64-true"]),
    val_check_interval=st.sampled_from([1.0, 0.5, 2]),
    max_steps=st.sampled_from([-1, -1, 3, BATCHES + 2]),
    limit=st.sampled_from([None, None, 4]),
    length=st.sampled_from([None, BATCHES, BATCHES, BATCHES + 2]),
    samples=st.sampled_from([BATCHES * 4, BATCHES * 4 - 3]),
    none_at=st.none() | AT,
    shows_loss=st.booleans(),
    saves_every=st.sampled_from([0, 0, 2]),
    recording=st.sampled_from(["all", "all", "metrics", "off"]),
)


class Drawn(Small):
    """Does what a set-up says."""

    def __init__(self, setup: SetUp) -> None:
        super().__init__()
        self.drawn = setup
        self.other = torch.nn.Linear(4, 2)
        for name in setup.overrides - {"transfer"}:
            setattr(self, name, getattr(self, f"own_{name}"))
        if "transfer" in setup.overrides:
            self.on_after_batch_transfer = lambda batch, *_: [batch[0] * 0.5, batch[1]]  # type: ignore[method-assign]

    def training_step(self, batch: Any, batch_idx: int, *_: Any) -> Any:
        setup = self.drawn
        if batch_idx == setup.raises_at:
            raise RuntimeError("no loss today")
        if setup.puts:
            self.put("seen", batch_idx)
        x, y = batch
        loss = torch.nn.functional.cross_entropy(self(x) + self.other(x), y)
        if setup.logs:
            self.log("loss", loss, on_step=True, on_epoch=True)
        if batch_idx == setup.commands_at:
            self.trainer.tell("fit", COMMANDS[setup.command])
        if batch_idx == setup.attaches_at:
            self.trainer.attach(Subscribing(setup.attached))
        if batch_idx in setup.skipped:
            return None
        return {"loss": loss, "y": y} if setup.returns == "dict" else loss

    def configure_optimizers(self) -> Any:
        lr, kind = 0.05, self.drawn.optimizer
        halves = self.net.parameters(), self.other.parameters()
        if kind == "taking turns":
            return [
                {"optimizer": torch.optim.SGD(half, lr), "frequency": number}
                for half, number in zip(halves, (1, 2), strict=True)
            ]
        optimizers: list[Any] = []
        if kind == "two":
            optimizers = [torch.optim.SGD(halves[0], lr), torch.optim.Adam(halves[1], lr)]
        elif kind == "lbfgs":
            optimizers = [torch.optim.LBFGS(self.parameters(), lr, max_iter=2)]
        else:
            made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "own": OwnOptimizer}[kind]
            optimizers = [made(self.parameters(), lr)]
        scheduler: Any = None
        if self.drawn.scheduler == "waiting":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizers[0], patience=0)
            scheduler = {"scheduler": plateau, "interval": "step", "frequency": 2}
            scheduler |= {"monitor": "val_loss", "strict": False}
        elif self.drawn.scheduler:
            stepped = torch.optim.lr_scheduler.StepLR(optimizers[0], 1, 0.9)
            scheduler = {"scheduler": stepped, "interval": self.drawn.scheduler}
        return optimizers, [] if scheduler is None else [scheduler]

    def own_backward(self, loss: Tensor, *_: Any) -> None:
        loss.backward()

    def own_optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any, *_: Any) -> None:
        optimizer.zero_grad(set_to_none=False)

    def own_configure_gradient_clipping(self, optimizer: Any, *_: Any) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 0.1)

    def own_optimizer_step(self, *arguments: Any, **_: Any) -> None:
        arguments[2].step(closure=arguments[-1])

    def own_training_step_end(self, step_output: Any) -> Any:
        return step_output

    def own_on_after_backward(self) -> None:
        self.put("after", 1.0)


class OwnOptimizer(torch.optim.SGD):
    """One of the user's own: nobody knows what it does before it evaluates its closure."""


def noted(seen: list[Any], run: Any, name: str, *objects: Any) -> None:
    """Note how far a run says that it is when a hook is handled."""
    epoch_loop = run.fit_loop.epoch_loop
    values = [value for value in objects if isinstance(value, int)]
    outputs = [value for value in objects if isinstance(value, dict) and "loss" in value]
    seen.append(
        (
            name,
            run.place.hook,
            run.place.as_tuple(),
            run.global_step,
            run.is_last_batch,
            epoch_loop.batch_progress.state_dict(),
            values,
            [(sorted(output), output["loss"].item()) for output in outputs],
            dict(run.callback_metrics),
        )
    )


def handling(setup: SetUp, seen: list[Any]) -> nb.Callback:
    """A callback for the hooks that are to be handled."""

    class Handles(nb.Callback):
        def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> None:
            noted(seen, trainer, "on_save_checkpoint")
            seen.append(repr(trainer.fit_loop.state_dict()))

    def make(name: str) -> Any:
        def handle(self: Any, trainer: Any, module: Any, *objects: Any) -> Any:
            noted(seen, trainer, name, *objects)
            if name == "on_train_batch_start":
                if objects[-1] == setup.accumulates_from:
                    trainer.accumulate_grad_batches = 2
                return -1 if objects[-1] == setup.ends_epoch_at else None
            return None

        return handle

    for name in setup.handled:
        setattr(Handles, name, make(name))
    return Handles()


class Subscribing(nb.Callback):
    """Comes late."""

    def __init__(self, hooks: frozenset[str]) -> None:
        for name in hooks:
            setattr(self, name, lambda *_, **__: None)


class Batches:
    """Batches of which one may be None, and whose number may not be known, or wrong."""

    def __init__(self, setup: SetUp) -> None:
        self._loader = DataLoader(dataset(setup.samples), 4)
        self._setup = setup

    def __iter__(self) -> Iterator[Any]:
        for idx, batch in enumerate(self._loader):
            yield None if idx == self._setup.none_at else batch


class SizedBatches(Batches):
    def __len__(self) -> int:
        assert self._setup.length is not None
        return self._setup.length


class PlainEpoch(nb.TrainingEpochLoop):
    """The same, but not the library's own."""


class PlainEvaluation(nb.EvaluationEpochLoop):
    """The same, but not the library's own."""


class PlainPrediction(nb.PredictionEpochLoop):
    """The same, but not the library's own."""


@contextmanager
def steady_clock() -> Iterator[None]:
    """Let the running loss find 200 ms between two losses, so that it is put at the same steps."""
    ticks = itertools.count(1)
    clock = SimpleNamespace(monotonic_ns=lambda: next(ticks) * 200_000_000)
    with mock.patch.object(running_loss, "time", clock):
        yield


@contextmanager
def counted(kind: type, method: str) -> Iterator[list[int]]:
    """Count the batches that a fast path does."""
    calls: list[int] = []
    original = getattr(kind, method)

    def count(self: Any, batch: Any) -> Any:
        calls.append(1)
        return original(self, batch)

    with mock.patch.object(kind, method, count):
        yield calls


ASIDE = (RunStarted, ActorStarted, ActorTotals, CheckpointSaved, SystemMetrics)


def told(run: nb.Trainer) -> list[tuple[Any, ...]]:
    """What a run recorded, times aside.

    A thread writes checkpoints beside training and another one starts actors, so what tells of that
    comes at any time; and the machine is measured every few seconds.
    """
    found = []
    for entry in events(run) if run.run_folder is not None and run.recording != "off" else []:
        if isinstance(entry, ASIDE):
            continue
        fields = msgspec.structs.asdict(entry)
        aside = ["seq", "time_ns", "duration_ns", *(["traceback"] if type(entry) is Fault else [])]
        for name in aside:
            fields.pop(name, None)
        found.append((type(entry).__name__, *map(repr, fields.values())))
    return found


def outcome(setup: SetUp, folder: Path, is_plain: bool) -> dict[str, Any]:
    """All that can be seen of a run."""
    seen: list[Any] = []
    module = Drawn(setup)
    every = setup.saves_every
    saving = [nb.ModelCheckpoint(every_n_train_steps=every, save_top_k=-1)] if every else []
    run = trainer(
        folder,
        max_epochs=2,
        max_steps=setup.max_steps,
        accumulate_grad_batches=setup.accumulate,
        gradient_clip_val=0.5 if setup.clips else None,
        gradient_clip_algorithm=setup.clips or "norm",
        precision=setup.precision,
        val_check_interval=1.0 if setup.length is None else setup.val_check_interval,
        limit_train_batches=1.0 if setup.limit is None else setup.limit,
        num_sanity_val_steps=1,
        enable_progress_bar=setup.shows_loss,
        enable_checkpointing=setup.saves,
        recording=setup.recording,
        log_every_n_steps=2,
        callbacks=[handling(setup, seen), *saving],
    )
    if is_plain:
        run.fit_loop.replace(epoch_loop=PlainEpoch)
        run.fit_loop.epoch_loop.val_loop.replace(epoch_loop=PlainEvaluation)
    data = (Batches if setup.length is None else SizedBatches)(setup)
    error = ""
    try:
        with steady_clock():
            run.fit(module, data, DataLoader(dataset(8), 4))
    except RuntimeError as raised:
        error = repr(raised)
    return {
        "error": error,
        "events": told(run),
        "saved": sorted(path.name for path in folder.rglob("checkpoints/*")),
        "hooks": seen,
        "weights": weights(module),
        "metrics": {name: value.item() for name, value in run.callback_metrics.items()},
        "logged": {name: value.item() for name, value in run.logged_metrics.items()},
        "progress": run.optimization_progress.state_dict(),
        "rates": [o.param_groups[0]["lr"] for o in run.optimizers],
        "turns": run.fit_loop.epoch_loop.batch_loop.optimizer_loop.turns_skipped,
        "hook": run.place.hook,
        "why it ended": run.stop_reason,
        "shown": {name: float(value) for name, value in run.progress_bar_metrics.items()},
    }


PLAIN = SetUp(
    optimizer="sgd",
    scheduler="",
    returns="loss",
    skipped=frozenset(),
    logs=False,
    puts=False,
    overrides=frozenset(),
    handled=frozenset(),
    raises_at=None,
    ends_epoch_at=None,
    attaches_at=None,
    attached=frozenset(),
    commands_at=None,
    command="validate",
    accumulates_from=None,
    accumulate=1,
    clips="",
    precision="32-true",
    val_check_interval=1.0,
    max_steps=-1,
    limit=None,
    length=BATCHES,
    samples=BATCHES * 4,
    none_at=None,
    shows_loss=False,
    saves_every=0,
    recording="all",
)


# A run that stops before its first step may advance a scheduler.
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(SET_UPS)
@example(PLAIN)
@example(replace(PLAIN, handled=frozenset({"on_train_batch_start", "on_train_batch_end"})))
@example(replace(PLAIN, command="save", commands_at=2, skipped=frozenset({1, 4}), accumulate=2))
@example(replace(PLAIN, command="stop", commands_at=3, shows_loss=True))
@example(replace(PLAIN, saves_every=2, max_steps=BATCHES + 2, samples=BATCHES * 4 - 3))
@example(replace(PLAIN, shows_loss=True, length=BATCHES + 2, accumulate=3, scheduler="step"))
def test_training_is_the_same_in_either_way(setup: SetUp) -> None:
    with TemporaryDirectory() as folder, counted(FastTraining, "_train_on") as batches:
        fast = outcome(setup, Path(folder, "fast"), is_plain=False)
        number = len(batches)
        plain = outcome(setup, Path(folder, "plain"), is_plain=True)
    event(f"fast: {setup.is_fast}")

    assert len(batches) == number, "a fast path was taken where there is none"
    starts = setup.none_at != 0 and not (
        setup.ends_epoch_at == 0 and "on_train_batch_start" in setup.handled
    )
    if setup.is_fast and starts:
        assert number > 0
    if not setup.fast_optimizers or not setup.handled.isdisjoint(IN_THE_MIDDLE):
        assert number == 0
    for part in fast:
        assert_equal(part, fast[part], plain[part])


def assert_equal(part: str, fast: Any, plain: Any) -> None:
    if part == "weights":
        assert all(map(torch.equal, fast, plain)), part
        return
    if isinstance(fast, list):
        for one, other in zip(fast, plain, strict=False):
            assert one == other, part
    assert fast == plain, part


def test_a_run_in_which_nobody_handles_anything_takes_no_plain_step(tmp_path: Path) -> None:
    with counted(FastTraining, "_train_on") as batches:
        outcome(PLAIN, tmp_path, is_plain=False)

    assert len(batches) == 2 * BATCHES


class Indexed(Small):
    """Evaluates on several dataloaders."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("loss", self.loss(batch))
        return {"seen": batch_idx}

    def validation_epoch_end(self, outputs: Any) -> None:
        self.put("outputs", sum(len(of_loader) for of_loader in outputs))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.put("loss", self.loss(batch))


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("handled", ["", "batch_start", "batch_end"])
@pytest.mark.parametrize(("recording", "limit"), [("all", None), ("off", 2), ("off", None)])
def test_evaluation_is_the_same_in_either_way(
    function: str, precision: str, handled: str, recording: str, limit: int | None, tmp_path: Path
) -> None:
    number = 5 if limit is None else 4
    kind = {"validate": "validation", "test": "test", "predict": "predict"}[function]

    def evaluate(folder: Path, is_plain: bool) -> tuple[Any, ...]:
        seen: list[Any] = []

        class Handles(nb.Callback):
            pass

        def handle(self: Any, trainer: Any, module: Any, *objects: Any) -> None:
            hook = trainer.place.hook
            loop = getattr(trainer, f"{function}_loop").epoch_loop
            seen.append(
                (hook, trainer.place.as_tuple(), loop.batch_progress.state_dict(), objects[-2:])
            )

        if handled:
            setattr(Handles, f"on_{kind}_{handled}", handle)
        run = trainer(folder, precision=precision, recording=recording, callbacks=[Handles()])
        run.limit_val_batches = run.limit_test_batches = run.limit_predict_batches = limit
        if is_plain:
            loops = {"predict": PlainPrediction}
            getattr(run, f"{function}_loop").replace(
                epoch_loop=loops.get(function, PlainEvaluation)
            )
        data = [DataLoader(dataset(12), 4), DataLoader(dataset(8, seed=1), 4)]
        results = getattr(run, function)(Indexed(), data)
        return [repr(results)], told(run), seen

    with counted(FastEvaluation, "_work_on") as batches:
        fast = evaluate(tmp_path / "fast", is_plain=False)
        assert len(batches) == number
        plain = evaluate(tmp_path / "plain", is_plain=True)
        assert len(batches) == number
    for one, other in zip(fast, plain, strict=True):
        assert one == other
