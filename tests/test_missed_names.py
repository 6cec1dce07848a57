"""A handler of a metric that nobody put: most often a typo, which is said when a fit is over."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb

Capture = pytest.CaptureFixture[str]


def waits_for(name: str) -> nb.Actor:
    class Waits(nb.Actor):
        @nb.on(nb.Put, name=name)
        async def take(self, put: nb.Put) -> None: ...

    return Waits()


class WaitsInTheStep(nb.Actor):
    @nb.on(nb.Put, name="trainloss")
    def take(self, put: nb.Put) -> None: ...


@pytest.mark.parametrize("actor", [waits_for("trainloss"), WaitsInTheStep()])
def test_a_typo_is_said_with_the_name_that_is_near(
    tmp_path: Path, capsys: Capture, actor: nb.Actor
) -> None:
    trainer(tmp_path, limit_val_batches=0, actors=[actor]).fit(Small(), loader())

    assert capsys.readouterr().err == (
        f"nightbus: {type(actor).__name__}.take waits for the metric 'trainloss', which nobody put "
        "in this run; did you mean 'train_loss'?\n"
    )


def test_a_name_that_is_like_no_other_is_said_too(tmp_path: Path, capsys: Capture) -> None:
    trainer(tmp_path, limit_val_batches=0, actors=[waits_for("qqq")]).fit(Small(), loader())

    assert capsys.readouterr().err.endswith("'qqq', which nobody put in this run\n")


class PutsElsewhere(Small):
    def on_train_end(self) -> None:
        self.put("mine", 1.0, destinations=("my_sink",))


@pytest.mark.parametrize("name", ["train_loss", "mine", "test_loss"])
def test_what_was_put_anywhere_or_comes_in_a_test_is_not_said(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    takes = nb.FunctionSink(lambda put: None)
    takes.destination = "my_sink"

    trainer(tmp_path, limit_val_batches=0, actors=[waits_for(name)], sinks=[takes]).fit(
        PutsElsewhere(), loader()
    )

    assert capsys.readouterr().err == ""


class Stops(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.trainer.should_stop = True
        return super().training_step(batch, batch_idx)


def test_of_a_run_that_was_stopped_nothing_is_known(tmp_path: Path, capsys: Capture) -> None:
    trainer(tmp_path, limit_val_batches=0, actors=[waits_for("trainloss")]).fit(Stops(), loader())

    assert capsys.readouterr().err == ""


def test_validating_alone_says_nothing(tmp_path: Path, capsys: Capture) -> None:
    run = trainer(tmp_path, limit_val_batches=0, actors=[waits_for("train_loss")])
    run.validate(Small(), loader(), verbose=False)

    assert capsys.readouterr().err == ""


def test_a_resumed_run_says_nothing(tmp_path: Path, capsys: Capture) -> None:
    trainer(tmp_path, limit_val_batches=0).fit(Small(), loader())
    more = trainer(tmp_path, limit_val_batches=0, max_epochs=2, actors=[waits_for("trainloss")])
    more.fit(Small(), loader(), ckpt_path="last")

    assert capsys.readouterr().err == ""
