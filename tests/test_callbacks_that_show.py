"""Callbacks that set the progress bar and the summary with Lightning's arguments."""

import copy
import io
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from rich.console import Console

import nightbus as nb
from nightbus.bus.errors import UsageError

SHOWS: dict[str, Any] = {"enable_progress_bar": True}


class Shows(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log_dict({"loss": loss, "v_num": 1.0}, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any: ...


def test_a_bar_among_callbacks_takes_the_place_of_the_trainers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Chooses(nb.TQDMProgressBar):
        def get_metrics(self, trainer: Any, module: Any) -> Any:
            shown = super().get_metrics(trainer, module)
            shown.pop("v_num")
            return {**shown, "module": type(module).__name__}

    run = trainer(tmp_path, callbacks=[Chooses(refresh_rate=20)], **SHOWS)
    run.fit(Shows(), loader(8))

    said = capsys.readouterr().err
    assert "loss" in said
    assert ", module Shows" in said
    assert "v_num" not in said


def test_its_theme_sets_styles_and_formats(tmp_path: Path) -> None:
    theme = nb.RichProgressBarTheme(progress_bar="#6206E0", metrics_format=".1e")
    callback = nb.RichProgressBar(leave=True, theme=theme, console_kwargs={"file": io.StringIO()})

    options = callback.bar_options()
    assert options["leave"]
    assert options["styles"] == {"progress_bar": "#6206E0", "metrics_format": ".1e"}
    run = trainer(tmp_path, callbacks=[callback], **SHOWS)
    run.fit(Shows(), loader(8))
    assert run.progress_bar is not None
    text = run.progress_bar.render(80)
    assert "v_num 1.0e+00" in text.plain


def test_a_bar_that_stays_leaves_a_line_of_each_epoch(tmp_path: Path) -> None:
    file = io.StringIO()
    options = {"file": file, "force_terminal": True, "width": 80}
    callback = nb.RichProgressBar(leave=True, console_kwargs=options)
    trainer(tmp_path, max_epochs=2, callbacks=[callback], **SHOWS).fit(Shows(), loader(8))

    assert "epoch 0" in file.getvalue()
    assert "epoch 1" in file.getvalue()


@pytest.mark.parametrize("bar", [nb.TQDMProgressBar(0), nb.RichProgressBar(refresh_rate=0)])
def test_a_rate_of_0_shows_no_bar(tmp_path: Path, bar: Any) -> None:
    assert bar.is_disabled
    assert trainer(tmp_path, callbacks=[bar], **SHOWS).progress_bar is None


def test_a_bar_may_be_switched_off_and_on(tmp_path: Path) -> None:
    bar = nb.TQDMProgressBar()
    bar.disable()
    assert trainer(tmp_path, callbacks=[bar], **SHOWS).progress_bar is None
    bar.enable()
    assert trainer(tmp_path, callbacks=[bar], **SHOWS).progress_bar is not None


@pytest.mark.parametrize(
    ("callbacks", "options"),
    [
        ([nb.TQDMProgressBar()], {"enable_progress_bar": False}),
        ([nb.TQDMProgressBar(), nb.RichProgressBar()], SHOWS),
    ],
)
def test_bars_that_contradict_each_other_are_refused(
    tmp_path: Path, callbacks: list[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"TQDMProgressBar.* among callbacks were given"):
        trainer(tmp_path, callbacks=callbacks, **options)


@pytest.mark.parametrize(
    ("kind", "method"),
    [(nb.TQDMProgressBar, "init_validation_tqdm"), (nb.RichProgressBar, "configure_columns")],
)
def test_overriding_what_is_not_called_is_said(
    kind: Any, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(self: Any) -> Any:
        raise AssertionError("is not called")

    bar = type("Older", (kind,), {method: make})()
    run = trainer(tmp_path, callbacks=[bar], max_steps=1, **SHOWS)
    run.fit(Shows(), loader(4), loader(4))

    said = capsys.readouterr().err
    assert said.count(f"Older.{method} is not called") == 1
    assert "override get_metrics" in said
    assert run.progress_bar is not None


def test_a_bar_of_lightning_is_not_said_to_override_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nb.TQDMProgressBar()
    nb.RichProgressBar()

    assert capsys.readouterr().err == ""


def test_a_bar_of_ones_own_sees_the_hooks_and_the_numbers_of_batches(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Own(nb.ProgressBarBase):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
            seen.append((batch_idx, self.total_train_batches))

        def on_validation_batch_start(
            self, trainer: Any, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            if self.has_dataloader_changed(dataloader_idx):
                seen.append(self.total_val_batches_current_dataloader)

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            self.reset_dataloader_idx_tracker()
            seen.append((self.total_val_batches, sorted(self.get_metrics(trainer, module))))

    run = trainer(tmp_path, callbacks=[Own()], num_sanity_val_steps=0, **SHOWS)
    run.fit(Shows(), loader(8), [loader(4), loader(12)])

    assert run.progress_bar is None
    assert seen == [(0, 2), (1, 2), 1, 3, (4, ["loss", "v_num"])]


def test_an_epoch_that_does_not_validate_has_no_batches_of_validation(tmp_path: Path) -> None:
    seen: list[float] = []

    class Counts(nb.ProgressBarBase):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seen.append(self.total_val_batches)

    options = {"num_sanity_val_steps": 0, "check_val_every_n_epoch": 2}
    run = trainer(tmp_path, callbacks=[Counts()], max_epochs=2, **options, **SHOWS)
    run.fit(Shows(), loader(8), loader(4))

    assert seen == [0, 1]


def test_the_trainers_own_bar_is_known_as_a_callback(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_progress_bar=True, limit_train_batches=1)
    run.fit(Shows(), loader())

    bar = run.progress_bar_callback
    assert isinstance(bar, nb.TQDMProgressBar)
    assert bar in run.callbacks
    assert bar.total_train_batches == 1
    assert bar.get_metrics(run, run.lightning_module) == run.progress_bar_metrics
    assert trainer(tmp_path, enable_progress_bar=False).progress_bar_callback is None


def test_a_bar_among_callbacks_is_the_one_of_the_trainer(tmp_path: Path) -> None:
    bar = nb.RichProgressBar()

    assert trainer(tmp_path, enable_progress_bar=True, callbacks=[bar]).progress_bar_callback is bar


def test_a_bar_says_where_its_loops_are(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Reads(nb.Callback):
        def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
            bar = trainer.progress_bar_callback.val_progress_bar
            seen.append((bar.n, bar.total, bar.desc))

    run = trainer(tmp_path, callbacks=[Reads()], num_sanity_val_steps=0, **SHOWS)
    run.fit(Shows(), loader(8), [loader(4), loader(8)])

    assert [total for _, total, _ in seen] == [1, 2, 2]
    assert seen[0][2] == "Validation DataLoader 0"
    bars: Any = run.progress_bar_callback
    training = bars.train_progress_bar
    assert (training.n, training.total, training.disable) == (2, 2, False)


def test_drawing_on_the_bar_has_no_effect_and_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Describes(nb.TQDMProgressBar):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            super().on_train_epoch_start(trainer, module)
            self.train_progress_bar.set_description(f"my epoch {trainer.current_epoch}")
            self.train_progress_bar.leave = True

    run = trainer(tmp_path, callbacks=[Describes()], max_epochs=2, **SHOWS)
    run.fit(Shows(), loader(4))

    said = capsys.readouterr().err
    assert said.count("train_progress_bar.set_description() has no effect: ") == 1
    assert said.count("train_progress_bar.leave = ... has no effect: ") == 1
    assert "override get_metrics" in said


def test_a_bar_that_is_set_is_the_one_that_hooks_find() -> None:
    class Own:
        def __bool__(self) -> bool:
            raise TypeError("of unknown length")

    bar, own = nb.TQDMProgressBar(), Own()
    bar.val_progress_bar = own

    assert bar.val_progress_bar is own
    assert bar.train_progress_bar is not own


def test_what_else_a_bar_of_tqdm_has_is_refused_with_what_to_do() -> None:
    bar = nb.TQDMProgressBar()

    with pytest.raises(AttributeError, match=r"format_dict is not there: .*override get_metrics"):
        _ = bar.train_progress_bar.format_dict
    with pytest.raises(AttributeError, match=r"RichProgressBar has no progress: the bar is drawn"):
        _ = nb.RichProgressBar().progress


def test_a_version_of_a_logger_is_among_the_metrics_of_a_bar(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=nb.CSVLogger(tmp_path, version=3), **SHOWS)
    run.fit(Small(), loader(8))

    bar: Any = run.progress_bar_callback
    assert bar.get_metrics(run, run.lightning_module)["v_num"] == 3


def test_an_unknown_number_of_batches_is_infinite(tmp_path: Path) -> None:
    class Own(nb.ProgressBarBase):
        total: float = 0

        def on_train_start(self, trainer: Any, module: Any) -> None:
            self.total = self.total_train_batches

    bar = Own()
    trainer(tmp_path, callbacks=[bar], **SHOWS).fit(Small(), iter([*loader(8)]))

    assert bar.total == math.inf


def test_a_summary_may_be_drawn_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = nb.RichModelSummary(max_depth=2, title="Layers")
    trainer(tmp_path, callbacks=[callback], enable_model_summary=True).fit(Small(), loader(4))

    said = capsys.readouterr().err
    assert "Layers" in said
    assert "net.0" in said
    assert "58 parameters" in said
    assert said.count("net.0") == 1


def test_a_rich_bar_brings_a_rich_summary(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[nb.RichProgressBar()], enable_model_summary=True, **SHOWS)

    assert any(isinstance(callback, nb.RichModelSummary) for callback in run.callbacks)


def test_a_summary_may_be_ones_own(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    class Own(nb.ModelSummary):
        @staticmethod
        def summarize(**given: Any) -> None:  # type: ignore[override]
            seen.update(given)

    trainer(tmp_path, callbacks=[Own(2, colour="red")]).fit(Small(), loader(4))

    titles = [title for title, _ in seen["summary_data"]]
    assert titles == [" ", "Name", "Type", "Params", "Mode", "FLOPs"]
    assert (seen["total_parameters"], seen["trainable_parameters"]) == (58, 58)
    assert seen["total_training_modes"] == {"train": 4, "eval": 0}
    assert seen["colour"] == "red"


def test_a_summary_of_lightning_1_is_told_what_it_takes(tmp_path: Path) -> None:
    seen: list[int] = []

    class Own(nb.ModelSummary):
        @staticmethod
        def summarize(  # type: ignore[override]
            summary_data: Any, total_parameters: int, trainable_parameters: int, model_size: float
        ) -> None:
            seen.append(total_parameters)

    trainer(tmp_path, callbacks=[Own()]).fit(Small(), loader(4))

    assert seen == [58]


def test_styles_reach_the_parts_of_a_drawn_bar() -> None:
    bar = nb.ProgressBar(Console(file=io.StringIO()), styles={"progress_bar": "blue"})

    assert bar.render(80).plain.endswith("is starting")


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda bar: pickle.loads(pickle.dumps(bar))]
)
def test_the_bar_of_a_loop_can_be_copied_and_pickled(
    copied: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = nb.TQDMProgressBar()
    bar.disable()

    found = copied(bar.val_progress_bar)

    assert found.disable
    with pytest.raises(AttributeError, match=r"val_progress_bar\.format_dict is not there"):
        _ = found.format_dict
    assert "has no effect" not in capsys.readouterr().err


def test_a_property_in_place_of_what_makes_a_bar_is_said_not_to_be_called(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Own(nb.TQDMProgressBar):
        @property
        def init_train_tqdm(self) -> Any:
            return None

    Own()

    assert "Own.init_train_tqdm is not called: " in capsys.readouterr().err
