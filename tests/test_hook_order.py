"""The order of hooks, against written-out lists: what users of Lightning 1.5 and 1.6 rely on."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.actors.hooks import HOOKS, fitted


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
SHARDED = ["C.on_configure_sharded_model"]
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

    inner = epoch(train_batch(), train_batch(), VALIDATION)
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
    expected += evaluation(kind, 2, f"{kind}_step") + both("teardown")
    assert recorder.calls == INIT + expected


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


def test_minus_one_from_on_train_batch_start_skips_the_rest_of_the_epoch(tmp_path: Path) -> None:
    steps: list[int] = []

    class Skips(nb.Callback):
        def on_train_batch_start(
            self, trainer: Any, module: Any, batch: Any, idx: int
        ) -> int | None:
            return -1 if idx == 2 else None

    class Counts(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    trainer(tmp_path, max_epochs=2, callbacks=[Skips()]).fit(Counts(), loader())

    assert steps == [0, 1, 0, 1]


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

    with pytest.raises(nb.UsageError, match=r"asks for 3 arguments, but the hook on_train_start"):
        trainer(tmp_path, callbacks=[Asks()]).fit(Small(), loader(4))


def test_a_fault_of_one_of_several_callbacks_names_the_hook(tmp_path: Path) -> None:
    class Fails(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            raise ValueError("at the end")

    class Logs(nb.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, idx: int) -> None:
            self.log("from_start", 1.0)

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.log("from_end", 1.0)

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
