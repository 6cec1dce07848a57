"""Values on a GPU are recorded without a wait for them, and none is lost, whatever happens."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, events, loader, trainer
from ranks import run_alone
from torch.utils.data import DataLoader
from torchmetrics import SumMetric

import nightbus as nb
from nightbus.actors.metrics.pending_scalar import PendingScalar

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]

LONG = 1 << 31  # cycles: about a second


def on_gpu(folder: Path, **arguments: Any) -> nb.Trainer:
    return trainer(folder, **{"accelerator": "gpu", **arguments})


def pinned() -> DataLoader[Any]:
    return DataLoader(dataset(), 4, pin_memory=True)


class Logs(Small):
    """Logs values of the GPU in all ways."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = SumMetric(nan_strategy="disable")  # others look for NaN, and wait

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("both", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict({"most": loss, "half": loss.detach() / 2}, on_epoch=True, reduce_fx="max")
        self.sum.update(loss.detach())
        self.log("metric", self.sum, on_step=False, on_epoch=True)
        self.put("put", loss)
        return loss


class NoWait(nb.Callback):
    """Makes each wait of the host for the GPU an error while batches are trained on."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch:  # in the first one, kernels are loaded
            torch.cuda.set_sync_debug_mode("error")

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture(autouse=True)
def _waits_are_allowed_afterwards() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("recording", ["default", "all", "off"])
def test_no_step_waits_for_the_gpu(tmp_path: Path, recording: Any) -> None:
    options: dict[str, Any] = {} if recording == "default" else {"recording": recording}
    run = on_gpu(
        tmp_path,
        max_epochs=3,
        callbacks=[NoWait(), nb.DeviceStatsMonitor(), nb.LearningRateMonitor()],
        enable_progress_bar=True,
        gradient_clip_val=0.5,
        logger=recording != "off",
        log_every_n_steps=1,
        **options,
    )
    run.fit(Logs(), pinned())

    assert run.global_step == 18


@pytest.mark.parametrize("averaging", [nb.EMA, nb.WeightAveraging])
def test_no_step_waits_for_an_average_of_weights(tmp_path: Path, averaging: Any) -> None:
    on_gpu(tmp_path, max_epochs=3, callbacks=[NoWait(), averaging()]).fit(Small(), pinned())


@pytest.mark.parametrize("recording", ["all", "off"])
def test_steps_go_on_while_the_gpu_is_at_an_earlier_one(tmp_path: Path, recording: Any) -> None:
    was_there = []

    class Slow(Logs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            if self.trainer.current_epoch and batch_idx == 1:
                torch.cuda._sleep(LONG)
                self.slept = torch.cuda.Event()
                self.slept.record()
            elif self.trainer.current_epoch and batch_idx > 1:
                was_there.append(self.slept.query())
            return loss

    run = on_gpu(tmp_path, max_epochs=2, recording=recording, enable_progress_bar=True)
    run.fit(Slow(), pinned())

    assert was_there == [False] * 4


def test_all_values_are_recorded_in_their_order(tmp_path: Path) -> None:
    losses: list[float] = []

    class Keeps(Logs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            torch.cuda._sleep(LONG // 100)
            losses.append(loss.detach())
            return loss

    run = on_gpu(tmp_path, max_epochs=2)
    run.fit(Keeps(), loader())

    known = [float(loss) for loss in losses]
    assert [put.value for put in events(run, nb.Put) if put.name == "both_step"] == known
    assert [put.value for put in events(run, nb.Put) if put.name == "put"] == known
    recorded = events(run)
    assert [event.seq for event in recorded] == list(range(len(recorded)))
    means = [put.value for put in events(run, nb.Put) if put.name == "both_epoch"]
    assert means == pytest.approx([sum(known[:6]) / 6, sum(known[6:]) / 6])
    most = [put.value for put in events(run, nb.Put) if put.name == "most_epoch"]
    assert most == [max(known[:6]), max(known[6:])]


def test_values_of_an_epoch_do_not_pile_up(tmp_path: Path) -> None:
    most = 0

    class Counts(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.log("loss", loss, on_step=False, on_epoch=True)
            self.log("most", loss, on_step=False, on_epoch=True, reduce_fx="max")
            return loss

        def on_train_epoch_end(self) -> None:
            nonlocal most
            most = sum(type(each) is PendingScalar for each in gc.get_objects())

    on_gpu(tmp_path).fit(Counts(), DataLoader(dataset(2000), 1))

    assert most < 200


def test_a_value_that_is_not_finite_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Diverges(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.put("bad", loss * float("nan"))
            self.put("good", loss)
            return loss

    on_gpu(tmp_path).fit(Diverges(), loader())

    said = capfd.readouterr().err
    assert said.count("the metric bad is NaN") == 1
    assert "good" not in said


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_a_value_may_have_any_type(tmp_path: Path, dtype: torch.dtype) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put("one", torch.ones(1, 1, dtype=dtype, device=self.device))

    run = on_gpu(tmp_path)
    run.fit(Puts(), loader())

    (put,) = (put for put in events(run, nb.Put) if put.name == "one")
    assert put.value == 1


def test_a_plain_handler_gets_the_number(tmp_path: Path) -> None:
    found: list[Any] = []

    class Takes(nb.Actor):
        @nb.on(nb.Put)
        def take(self, put: nb.Put) -> None:
            found.append(put.value)

    on_gpu(tmp_path, actors=[Takes()]).fit(Logs(), loader())

    assert {type(value) for value in found} == {float}


def test_callbacks_read_what_the_step_has_logged(tmp_path: Path) -> None:
    class Reads(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            assert float(trainer.callback_metrics["both"]) == float(outputs["loss"])

    on_gpu(tmp_path, callbacks=[Reads()]).fit(Logs(), loader())


def test_a_run_out_of_memory_keeps_what_was_recorded_and_another_one_can_train(
    tmp_path: Path,
) -> None:
    class Grows(Logs):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 3:
                torch.empty(1 << 50, device=self.device)
            return loss

    run = on_gpu(tmp_path)
    with pytest.raises(torch.OutOfMemoryError):
        run.fit(Grows(), loader())

    assert len([put for put in events(run, nb.Put) if put.name == "put"]) == 4
    (ended,) = events(run, nb.RunEnded)
    assert (ended.how, ended.reason.partition(":")[0]) == ("failed", "OutOfMemoryError")
    on_gpu(tmp_path).fit(Small(), loader())


BROKEN = """
from pathlib import Path
import torch
from models import Small, loader, trainer

class Breaks(Small):
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        if batch_idx == 3:
            torch.zeros(2, device=self.device)[torch.full((1,), 5, device=self.device)]
            self.put("after", loss)
        return loss

trainer(Path("."), accelerator="gpu", run_name="broken", recording={recording!r}).fit(
    Breaks(), loader()
)
"""


@pytest.mark.long
@pytest.mark.parametrize("recording", ["all", "off"])
def test_a_gpu_that_fails_ends_the_run_with_what_was_recorded_before(
    tmp_path: Path, recording: str
) -> None:
    ended = run_alone(tmp_path, BROKEN.format(recording=recording))

    assert ended.code == 1
    assert "device-side assert" in ended.err
    if recording == "all":
        (folder,) = tmp_path.glob("runs/broken*/attempt-000/rank-00000")
        from helpers import read_log

        found = read_log(folder)
        assert len([e for e in found if isinstance(e, nb.Put) and e.name == "loss_step"]) >= 3
        assert isinstance(found[-1], nb.RunEnded)
        assert found[-1].how == "failed"
