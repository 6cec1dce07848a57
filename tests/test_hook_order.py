"""The order of hooks, against written-out lists: what users of Lightning 1.5 and 1.6 rely on."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, events, loader, trainer
from torch.utils.data import DataLoader, IterableDataset

import nightbus as nb
from nightbus.actors.hook_arguments import fitted
from nightbus.actors.hook_table import HOOKS


class Recorder:
    """Notes the hooks that are called on a callback, a datamodule and a module."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def note(self, prefix: str, name: str) -> Any:
        def hook() -> None:
            self.calls.append(prefix + name)

        return hook


def calls(note: Any, then: Any = None) -> Any:
    """A method that notes its call, and then does something."""

    def method(self: Any, *arguments: Any) -> Any:
        note()
        return then(self, *arguments) if then else None

    return method


def recording_callback(recorder: Recorder) -> nb.Callback:
    names = [name for name, spec in HOOKS.items() if spec.callback]
    names += ["on_init_start", "on_init_end"]
    body = {name: calls(recorder.note("C.", name)) for name in names}
    return type("Recording", (nb.Callback,), body)()  # type: ignore[no-any-return]


def recording_module(recorder: Recorder) -> Small:
    """A module whose notices are recorded, and whose actions are recorded and done."""
    body: dict[str, Any] = {}
    for name, spec in HOOKS.items():
        note = recorder.note("", name)
        if spec.module and name.startswith("on_"):
            body[name] = calls(note)
        elif hasattr(Small, name) and not name.endswith(("_callbacks", "_dataloader")):
            original = getattr(Small, name)
            body[name] = calls(note, fitted(original, name, spec.arguments, leading=1))
    for name in ("on_before_batch_transfer", "on_after_batch_transfer"):
        body[name] = calls(recorder.note("", name), lambda module, batch, idx: batch)
    return type("RecordingModule", (Small,), body)()  # type: ignore[no-any-return]


def both(*names: str) -> list[str]:
    """Hooks that callback and module have, one after the other."""
    return [prefixed for name in names for prefixed in (f"C.{name}", name)]


TRANSFER = ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"]
SETUP = ["prepare_data", "C.on_before_accelerator_backend_setup", *both("setup")]
SHARDED = ["configure_model", "configure_sharded_model", "C.on_configure_sharded_model"]
CLOSURE = [
    "training_step",
    *both("on_before_zero_grad"),
    "optimizer_zero_grad",
    *both("on_before_backward"),
    "backward",
    *both("on_after_backward"),
]
STEP = [*both("on_before_optimizer_step"), "configure_gradient_clipping"]


def train_batch(steps: bool = True) -> list[str]:
    return [
        *TRANSFER,
        "C.on_batch_start",
        *both("on_train_batch_start"),
        *(["optimizer_step"] if steps else []),
        *CLOSURE,
        *(STEP if steps else []),
        *both("on_train_batch_end"),
        "C.on_batch_end",
    ]


def evaluation(kind: str, batches: int, step: str) -> list[str]:
    return [
        f"on_{kind}_model_eval",
        *both(f"on_{kind}_start", "on_epoch_start", f"on_{kind}_epoch_start"),
        *[
            name
            for _ in range(batches)
            for name in (
                *TRANSFER,
                *both(f"on_{kind}_batch_start"),
                step,
                *both(f"on_{kind}_batch_end"),
            )
        ],
        *both(f"on_{kind}_epoch_end", "on_epoch_end", f"on_{kind}_end"),
    ]


VALIDATION = [*evaluation("validation", 2, "validation_step"), "on_validation_model_train"]
AMID_TRAINING = [VALIDATION[0], "on_validation_model_zero_grad", *VALIDATION[1:]]
SANITY = [
    "C.on_sanity_check_start",
    *VALIDATION,
    "C.on_sanity_check_end",
]
BEGIN = [
    *SETUP,
    *SHARDED,
    "on_post_move_to_device",
    "configure_optimizers",
    *both("on_fit_start", "on_pretrain_routine_start", "on_pretrain_routine_end"),
]
END = [*both("on_train_end", "on_fit_end", "teardown")]


def epoch(*batches: list[str]) -> list[str]:
    return [
        *both("on_epoch_start", "on_train_epoch_start"),
        *[name for batch in batches for name in batch],
        *both("on_train_epoch_end", "on_epoch_end"),
    ]


def run_fit(tmp_path: Path, data: list[Any], **arguments: Any) -> list[str]:
    recorder = Recorder()
    callback, module = recording_callback(recorder), recording_module(recorder)
    options = {"enable_checkpointing": False, **arguments}
    run = trainer(tmp_path, callbacks=[callback], **options)
    run.fit(module, *data)
    return [name for name in recorder.calls if "_dataloader" not in name]


INIT = ["C.on_init_start", "C.on_init_end"]


def test_fit_without_validation(tmp_path: Path) -> None:
    calls = run_fit(tmp_path, [loader(8)])

    assert (
        calls == INIT + BEGIN + both("on_train_start") + epoch(train_batch(), train_batch()) + END
    )


def test_fit_with_sanity_check_and_validation_inside_the_epoch(tmp_path: Path) -> None:
    calls = run_fit(tmp_path, [loader(8), loader(8)])

    inner = epoch(train_batch(), train_batch(), AMID_TRAINING)
    assert calls == [*INIT, *BEGIN, *SANITY, *both("on_train_start"), *inner, *END]


def test_fit_with_accumulation(tmp_path: Path) -> None:
    calls = run_fit(tmp_path, [loader(8)], accumulate_grad_batches=2)

    first = train_batch(steps=False)
    second = [
        name
        for name in train_batch()
        if name not in (*both("on_before_zero_grad"), "optimizer_zero_grad")
    ]
    assert calls == INIT + BEGIN + both("on_train_start") + epoch(first, second) + END


def test_fit_for_two_epochs(tmp_path: Path) -> None:
    calls = run_fit(tmp_path, [loader(4)], max_epochs=2)

    twice = epoch(train_batch()) * 2
    assert calls == INIT + BEGIN + both("on_train_start") + twice + END


@pytest.mark.parametrize(("function", "kind"), [("validate", "validation"), ("test", "test")])
def test_evaluation_on_its_own(tmp_path: Path, function: str, kind: str) -> None:
    recorder = Recorder()
    callback, module = recording_callback(recorder), recording_module(recorder)
    run = trainer(tmp_path, callbacks=[callback])

    getattr(run, function)(module, loader(8), verbose=False)

    expected = [*SETUP, *SHARDED, "on_post_move_to_device"]
    expected += [*evaluation(kind, 2, f"{kind}_step"), f"on_{kind}_model_train"]
    assert recorder.calls == INIT + expected + both("teardown")


def test_predict(tmp_path: Path) -> None:
    recorder = Recorder()
    callback, module = recording_callback(recorder), recording_module(recorder)
    run = trainer(tmp_path, callbacks=[callback])

    run.predict(module, loader(4))

    assert recorder.calls == [
        *INIT,
        *SETUP,
        *SHARDED,
        "on_post_move_to_device",
        *both("on_predict_start"),
        "on_predict_model_eval",
        *both("on_predict_epoch_start"),
        *TRANSFER,
        *both("on_predict_batch_start"),
        "predict_step",
        *both("on_predict_batch_end", "on_predict_epoch_end", "on_predict_end", "teardown"),
    ]


# -- several dataloaders, optimizers, splits -----------------------------------------------------


class Ordered:
    """Runs a module of a class, and keeps which of some hooks were called, in order."""

    def __init__(self, tmp_path: Path, base: type[nb.LightningModule], hooks: str) -> None:
        self.calls: list[Any] = []
        wanted = hooks.split()
        body = {name: self._noting(base, name) for name in wanted}
        self.module = type("Ordered", (base,), body)()
        self.folder = tmp_path

    def _noting(self, base: type, name: str) -> Any:
        then = fitted_to_base(base, name)

        def method(_self: Any, *arguments: Any) -> Any:
            self.calls.append(name)
            return then(_self, *arguments)

        return method

    def fit(self, train: Any = None, validation: Any = None, **arguments: Any) -> list[Any]:
        run = trainer(self.folder, num_sanity_val_steps=0, **arguments)
        run.fit(self.module, loader(8) if train is None else train, validation)
        return self.calls


def fitted_to_base(base: type, name: str) -> Any:
    """What the class does in a hook, with the hook's arguments and the module before them."""
    arguments = HOOKS[name].arguments
    if name == "training_step":
        parameters = [*inspect.signature(getattr(base, name)).parameters][1:]
        arguments = tuple(parameters)
    return fitted(getattr(base, name), name, arguments, leading=1)


STEP_HOOKS = """on_train_batch_start training_step on_before_zero_grad optimizer_zero_grad
    on_before_backward backward on_after_backward on_before_optimizer_step optimizer_step
    on_train_batch_end"""
TURN = [
    "optimizer_step",
    "training_step",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
]


class TwoOptimizers(Small):
    frequencies: tuple[int, int] | None = None

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        optimizers = [torch.optim.SGD(self.net.parameters(), lr=0.1) for _ in range(2)]
        if self.frequencies is None:
            return optimizers
        pairs = zip(optimizers, self.frequencies, strict=True)
        return [{"optimizer": optimizer, "frequency": number} for optimizer, number in pairs]


def test_each_of_two_optimizers_has_its_turn_in_a_batch(tmp_path: Path) -> None:
    calls = Ordered(tmp_path, TwoOptimizers, STEP_HOOKS).fit(loader(4))

    assert calls == ["on_train_batch_start", *TURN, *TURN, "on_train_batch_end"]


def test_with_frequencies_one_optimizer_has_its_turn_in_a_batch(tmp_path: Path) -> None:
    class Alternates(TwoOptimizers):
        frequencies = (1, 1)

    calls = Ordered(tmp_path, Alternates, STEP_HOOKS).fit(loader(8))

    assert calls == ["on_train_batch_start", *TURN, "on_train_batch_end"] * 2


class ByHand(Small):
    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        found = self.optimizers()
        for optimizer in found if isinstance(found, list) else [found]:
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()


class TwoByHand(ByHand):
    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.net.parameters(), lr=0.1) for _ in range(2)]


BY_HAND = ["on_before_backward", "backward", "on_after_backward", "on_before_optimizer_step"]


@pytest.mark.parametrize(("module", "optimizers"), [(ByHand, 1), (TwoByHand, 2)])
def test_manual_optimization(tmp_path: Path, module: type[ByHand], optimizers: int) -> None:
    calls = Ordered(tmp_path, module, STEP_HOOKS).fit(loader(4))

    assert calls == [
        "on_train_batch_start",
        "training_step",
        *BY_HAND * optimizers,
        "on_train_batch_end",
    ]


def test_each_split_of_truncated_back_propagation_is_a_turn(tmp_path: Path) -> None:
    class Splits(Small):
        truncated_bptt_steps = 2

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:  # type: ignore[override]
            return {"loss": self.loss(batch), "hiddens": None}

        def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
            return [batch, batch, batch]

    calls = Ordered(tmp_path, Splits, STEP_HOOKS).fit(loader(4))

    assert calls == ["on_train_batch_start", *TURN * 3, "on_train_batch_end"]


def test_none_from_training_step_leaves_the_turn_at_once(tmp_path: Path) -> None:
    class Skips(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None

    calls = Ordered(tmp_path, Skips, STEP_HOOKS).fit(loader(4))

    assert calls == ["on_train_batch_start", *TURN[:2], "on_train_batch_end"]


def test_schedulers_by_step_come_before_the_batchs_end_and_by_epoch_after_the_epochs(
    tmp_path: Path,
) -> None:
    class Schedules(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            step = torch.optim.lr_scheduler.StepLR
            by_step = {"scheduler": step(optimizer, 1), "interval": "step"}
            return [optimizer], [by_step, step(optimizer, 1)]

    hooks = "optimizer_step lr_scheduler_step on_train_batch_end on_train_epoch_end on_epoch_end"
    calls = Ordered(tmp_path, Schedules, hooks).fit(loader(8))

    batch = ["optimizer_step", "lr_scheduler_step", "on_train_batch_end"]
    assert calls == [*batch * 2, "on_train_epoch_end", "on_epoch_end", "lr_scheduler_step"]


def test_validation_in_mid_epoch_follows_the_batch_after_which_it_is_due(tmp_path: Path) -> None:
    hooks = "on_train_batch_end on_validation_start validation_step on_validation_end"
    calls = Ordered(tmp_path, Small, hooks).fit(loader(16), loader(4), val_check_interval=2)

    batch, validation = ["on_train_batch_end"], hooks.split()[1:]
    assert calls == [*batch * 2, *validation, *batch * 2, *validation]


def test_several_validation_loaders_are_read_one_after_the_other_within_one_epoch(
    tmp_path: Path,
) -> None:
    seen: list[Any] = []

    class Several(Small):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:  # type: ignore[override]
            seen.append((dataloader_idx, batch_idx))

    hooks = "on_validation_epoch_start on_validation_batch_start on_validation_epoch_end"
    calls = Ordered(tmp_path, Several, hooks).fit(loader(4), [loader(8), loader(4)])

    first, each, last = hooks.split()
    assert calls == [first, each, each, each, last]
    assert seen == [(0, 0), (0, 1), (1, 0)]


def test_step_ends_follow_steps_and_epoch_ends_come_before_the_notices(tmp_path: Path) -> None:
    class Ends(Small):
        def training_step_end(self, step_output: Any) -> Any:
            return step_output

        def training_epoch_end(self, outputs: Any) -> None: ...

        def validation_step_end(self, step_output: Any) -> Any:
            return step_output

        def validation_epoch_end(self, outputs: Any) -> None: ...

    hooks = """training_step training_step_end backward validation_step validation_step_end
        on_validation_batch_end validation_epoch_end on_validation_epoch_end training_epoch_end
        on_train_epoch_end"""
    calls = Ordered(tmp_path, Ends, hooks).fit(loader(4), loader(4))

    assert calls == hooks.split()


def test_a_datamodules_data_hooks_stand_in_for_the_modules_own(tmp_path: Path) -> None:
    calls: list[str] = []

    class Data(nb.LightningDataModule):
        def prepare_data(self) -> None:
            calls.append("D.prepare_data")

        def setup(self, stage: str) -> None:
            calls.append(f"D.setup {stage}")

        def train_dataloader(self) -> Any:
            calls.append("D.train_dataloader")
            return loader(4)

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
            calls.append("D.transfer_batch_to_device")
            return batch

        def teardown(self, stage: str) -> None:
            calls.append(f"D.teardown {stage}")

    class Told(Small):
        def setup(self, stage: str) -> None:
            calls.append(f"setup {stage}")

        def train_dataloader(self) -> Any:
            raise AssertionError("the datamodule has one")

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
            raise AssertionError("the datamodule has one")

        def teardown(self, stage: str) -> None:
            calls.append(f"teardown {stage}")

    class Watches(nb.Callback):
        def setup(self, trainer: Any, module: Any, stage: str) -> None:
            calls.append(f"C.setup {stage}")

    trainer(tmp_path, callbacks=[Watches()]).fit(Told(), datamodule=Data())

    assert calls == [
        "D.prepare_data",
        "D.setup fit",
        "C.setup fit",
        "setup fit",
        "D.train_dataloader",
        "D.transfer_batch_to_device",
        "D.teardown fit",
        "teardown fit",
    ]


def test_resuming_loads_after_setup_and_skips_the_sanity_check(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit(Small(), loader(8), loader(4))
    recorder = Recorder()
    run = trainer(tmp_path, callbacks=[recording_callback(recorder)], max_epochs=2)

    run.fit(Small(), loader(8), loader(4), ckpt_path=first.checkpointer.last_path)

    wanted = ("C.setup", "C.on_load_checkpoint", "C.on_configure_sharded_model", "C.on_fit_start")
    assert [name for name in recorder.calls if name in wanted] == list(wanted)
    assert "C.on_sanity_check_start" not in recorder.calls
    assert recorder.calls.count("C.on_train_epoch_start") == 1


def test_a_checkpoint_is_saved_when_the_epochs_hooks_are_done(tmp_path: Path) -> None:
    hooks = "on_train_epoch_end on_epoch_end on_save_checkpoint on_train_end"

    assert Ordered(tmp_path, Small, hooks).fit(loader(4)) == hooks.split()


def test_an_interrupt_ends_the_run_gracefully_after_the_same_hooks(tmp_path: Path) -> None:
    recorder = Recorder()

    class Interrupts(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise KeyboardInterrupt

    run = trainer(tmp_path, callbacks=[recording_callback(recorder)])

    run.fit(Interrupts(), loader(8))

    assert recorder.calls[-2:] == ["C.on_exception", "C.teardown"]
    assert run.interrupted


def test_a_stop_ends_the_epoch_with_its_hooks(tmp_path: Path) -> None:
    class Stops(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.trainer.should_stop = True
            return self.loss(batch)

    hooks = "on_train_batch_end on_train_epoch_end on_epoch_end on_train_end on_fit_end"

    assert Ordered(tmp_path, Stops, hooks).fit(loader(16), max_epochs=3) == hooks.split()


# -- errors, results, signatures -----------------------------------------------------------------


def test_an_exception_reaches_callbacks_and_then_tears_down(tmp_path: Path) -> None:
    recorder = Recorder()

    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("boom")

    run = trainer(tmp_path, callbacks=[recording_callback(recorder)])

    with pytest.raises(ValueError, match="boom"):
        run.fit(Fails(), loader(8))

    assert recorder.calls[-2:] == ["C.on_exception", "C.teardown"]


def test_the_log_holds_the_same_order(tmp_path: Path) -> None:
    recorder = Recorder()
    module = recording_module(recorder)
    run = trainer(tmp_path, enable_checkpointing=False, gradient_clip_val=1.0)

    run.fit(module, loader(8))

    # A hook is recorded when it ends, so what encloses others (optimizer_step) comes after them.
    recorded = [hook.name for hook in events(run, nb.Hook) if not hook.name.endswith("dataloader")]
    enclosing = {"optimizer_step"}
    assert [n for n in recorded if n in recorder.calls and n not in enclosing] == [
        name for name in recorder.calls if name not in enclosing
    ]


@pytest.mark.parametrize("who", ["callback", "module"])
def test_minus_one_from_on_train_batch_start_skips_the_rest_of_the_epoch(
    tmp_path: Path, who: str
) -> None:
    steps: list[Any] = []

    class Skips(nb.Callback):
        def on_train_batch_start(
            self, trainer: Any, module: Any, batch: Any, idx: int
        ) -> int | None:
            return -1 if who == "callback" and idx == 2 else None

    class Counts(Small):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if who == "module" and batch_idx == 2 else None

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            steps.append("end")

    trainer(tmp_path, max_epochs=2, callbacks=[Skips()]).fit(Counts(), loader())

    assert steps == [0, 1, "end"] * 2


def test_overrides_in_the_older_and_the_newer_style_are_both_called(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Older(nb.Callback):
        def on_train_batch_end(  # type: ignore[override]
            self, trainer: Any, module: Any, outputs: Any, batch: Any, idx: int, dataloader_idx: int
        ) -> None:
            seen.append(("older", idx, dataloader_idx))

        def on_train_epoch_end(self, trainer: Any, module: Any, unused: Any) -> None:  # type: ignore[override]
            seen.append(("older", unused))

    class Newer(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, idx: int
        ) -> None:
            seen.append(("newer", idx))

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:  # type: ignore[override]
            seen.append("newer step")

    trainer(tmp_path, callbacks=[Older(), Newer()]).fit(Small(), loader(4))

    assert seen == ["newer step", ("older", 0, 0), ("newer", 0), ("older", None)]


def test_an_override_that_asks_for_too_much_is_refused(tmp_path: Path) -> None:
    class Asks(nb.Callback):
        def on_train_start(self, trainer: Any, module: Any, more: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(nb.UsageError, match=r"asks for 'more', which the hook on_train_start"):
        trainer(tmp_path, callbacks=[Asks()]).fit(Small(), loader(4))


def test_a_fault_of_one_of_several_callbacks_names_the_hook(tmp_path: Path) -> None:
    class Fails(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            raise ValueError("at the end")

    class Logs(nb.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, idx: int) -> None:
            self.put("from_start", 1.0)

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.put("from_end", 1.0)

    class LogsToo(Logs):
        name = "logs-too"

    run = trainer(tmp_path, callbacks=[Logs(), LogsToo(), Fails()], recording="metrics")

    with pytest.raises(ValueError, match="at the end"):
        run.fit(Small(), loader(4))

    (fault,) = events(run, nb.Fault)
    assert fault.hook == "on_train_batch_end"
    puts = [(put.name, put.hook) for put in events(run, nb.Put) if put.source == "logs"]
    assert puts == [
        ("from_start", "on_train_batch_start"),
        ("from_end", "on_train_batch_end"),
    ]


def older_step(epoch: Any, batch_idx: Any, optimizer: Any, optimizer_idx: Any, closure: Any) -> Any:
    return epoch, batch_idx, optimizer, optimizer_idx, closure


def newer_step(epoch: Any, batch_idx: Any, optimizer: Any, optimizer_closure: Any = None) -> Any:
    return epoch, batch_idx, optimizer, optimizer_closure


def oldest_step(
    current_epoch: Any, batch_nb: Any, optimizer: Any, idx: Any, closure: Any, tpu: Any = False
) -> Any:
    return current_epoch, batch_nb, optimizer, idx, closure, tpu


def any_step(*arguments: Any) -> Any:
    return arguments


def newer_clipping(optimizer: Any, clip_val: Any, algorithm: Any) -> Any:
    return optimizer, clip_val, algorithm


def newer_scheduler_step(scheduler: Any, metric: Any) -> Any:
    return scheduler, metric


def newer_before_step(optimizer: Any) -> Any:
    return (optimizer,)


def unused_epoch_end(unused: Any = None) -> Any:
    return (unused,)


def older_batch_start(batch: Any, batch_idx: Any, dataloader_idx: Any) -> Any:
    return batch, batch_idx, dataloader_idx


def other_names(train_batch: Any, batch_nb: Any) -> Any:
    return train_batch, batch_nb


def no_loader(batch: Any, batch_idx: Any) -> Any:
    return batch, batch_idx


def with_default(batch: Any, batch_idx: Any, scale: Any = 2) -> Any:
    return batch, batch_idx, scale


@pytest.mark.parametrize(
    ("override", "hook", "received"),
    [
        (older_step, "optimizer_step", (1, 2, "opt", 0, "closure")),
        (newer_step, "optimizer_step", (1, 2, "opt", "closure")),
        (oldest_step, "optimizer_step", (1, 2, "opt", 0, "closure", False)),
        (any_step, "optimizer_step", (1, 2, "opt", 0, "closure")),
        (newer_clipping, "configure_gradient_clipping", ("opt", 0.5, "norm")),
        (newer_scheduler_step, "lr_scheduler_step", ("scheduler", "metric")),
        (newer_before_step, "on_before_optimizer_step", ("opt",)),
        (unused_epoch_end, "on_train_epoch_end", (None,)),
        (older_batch_start, "on_train_batch_start", ("batch", 3, 0)),
        (other_names, "training_step", ("batch", 3)),
        (no_loader, "validation_step", ("batch", 3)),
        (with_default, "validation_step", ("batch", 3, 2)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_arguments_are_found_by_name_or_by_place(override: Any, hook: str, received: Any) -> None:
    known = {
        "epoch": 1,
        "batch_idx": 2 if hook == "optimizer_step" else 3,
        "optimizer": "opt",
        "optimizer_idx": 0,
        "optimizer_closure": "closure",
        "gradient_clip_val": 0.5,
        "gradient_clip_algorithm": "norm",
        "scheduler": "scheduler",
        "metric": "metric",
        "batch": "batch",
        "dataloader_idx": 0,
        "outputs": None,
    }
    arguments = HOOKS[hook].arguments

    assert fitted(override, hook, arguments)(*(known[name] for name in arguments)) == received


def test_training_step_may_ask_only_for_what_there_is(tmp_path: Path) -> None:
    class AsksForTurn(Small):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

    class AsksForHiddens(Small):
        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:  # type: ignore[override]
            return self.loss(batch)

    with pytest.raises(nb.UsageError, match="optimizer_idx is passed if configure_optimizers"):
        trainer(tmp_path).fit(AsksForTurn(), loader(4))
    with pytest.raises(nb.UsageError, match="hiddens is passed if truncated_bptt_steps is set"):
        trainer(tmp_path).fit(AsksForHiddens(), loader(4))


def test_training_step_must_tell_several_optimizers_apart(tmp_path: Path) -> None:
    class Forgets(Small):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    with pytest.raises(nb.UsageError, match=r"returned 2 optimizers.*no argument optimizer_idx"):
        trainer(tmp_path).fit(Forgets(), loader(4))


def orders_of_the_page() -> list[list[str]]:
    """The hooks in each list of the page on hooks, without its remarks."""
    page = (Path(__file__).parent.parent / "docs" / "hooks.md").read_text()
    blocks = re.findall(r"^```text\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    return [re.sub(r"#.*", "", block).split() for block in blocks]


def test_the_page_on_hooks_shows_the_order_of_a_fit(tmp_path: Path) -> None:
    assert run_fit(tmp_path, [loader(4), loader(4)]) == orders_of_the_page()[0]


def test_the_page_on_hooks_shows_the_order_of_a_prediction(tmp_path: Path) -> None:
    recorder = Recorder()
    run = trainer(tmp_path, callbacks=[recording_callback(recorder)])

    run.predict(recording_module(recorder), loader(4))

    begin = recorder.calls.index("C.on_predict_start")
    assert recorder.calls[begin : recorder.calls.index("C.teardown")] == orders_of_the_page()[1]


def test_an_epoch_without_batches_has_no_outputs_to_collect(tmp_path: Path) -> None:
    class Collects(Small):
        def training_epoch_end(self, outputs: Any) -> None:
            collected.append(len(outputs))

    class Once(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(list(dataset(8)) if run.current_epoch == 0 else [])  # type: ignore[call-overload]

    collected: list[int] = []
    run = trainer(tmp_path, max_epochs=2)
    run.fit(Collects(), DataLoader(Once(), batch_size=4))

    assert (collected, run.current_epoch, run.global_step) == ([2], 2, 2)
