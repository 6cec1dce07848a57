"""nightbus diff: whether two runs did the same, or where they first differ."""

import math
import random
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small, loader, trainer
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.events import Gap, Resumed
from nightbus.bus.inspection.compare import compare_runs
from nightbus.bus.inspection.compared_log import Choice, ComparedLog
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter


class Draws(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.put("draw", random.random())
        return super().training_step(batch, batch_idx)


def fitted(folder: Path, seed: int = 1, **options: Any) -> nb.RunFolder:
    nb.seed_everything(seed)
    run = trainer(folder, **options)
    run.fit(Draws(), loader(), loader(8))
    assert run.run_folder is not None
    return run.run_folder


def test_two_runs_of_the_same_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = fitted(tmp_path / "a"), fitted(tmp_path / "b")

    assert main(["diff", str(left.path), str(right.path)]) == 0
    number = sum(len(stretch.keys) for stretch in ComparedLog(left, Choice()).stretches())
    assert capsys.readouterr().out == f"equal: {number} events compared\n"


def test_the_first_value_that_differs_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = fitted(tmp_path / "a"), fitted(tmp_path / "b", seed=2)

    assert main(["diff", str(left.path), str(right.path)]) == 4
    out = capsys.readouterr().out
    assert "they differ after" in out
    assert "draw = 0.13436424411240122  (train, epoch 0, step 0, batch 0" in out
    assert "draw = 0.9560342718892494" in out


def test_a_run_that_goes_on_differs_from_one_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Short(nb.LightningModule):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            return None

        def configure_optimizers(self) -> None:
            return None

    def run(name: str, epochs: int) -> nb.RunFolder:
        made = trainer(tmp_path / name, max_epochs=epochs)
        made.fit(Short(), loader())
        assert made.run_folder is not None
        return made.run_folder

    left, right = run("a", 1), run("b", 2)

    _, difference, _ = compare_runs(left, right)
    assert difference is not None
    assert difference.left is not None
    assert difference.left.name == "on_train_end"
    assert difference.right is not None
    assert difference.right.name == "on_epoch_start"


def test_metrics_that_measure_time_can_be_left_out(tmp_path: Path) -> None:
    class Timed(Draws):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            import time

            self.put("step_seconds", time.perf_counter())
            return super().training_step(batch, batch_idx)

    runs = []
    for name in ("a", "b"):
        nb.seed_everything(1)
        made = trainer(tmp_path / name)
        made.fit(Timed(), loader())
        assert made.run_folder is not None
        runs.append(str(made.run_folder.path))

    assert main(["diff", *runs]) == 4
    assert main(["diff", *runs, "--ignore", "*_seconds"]) == 0


def test_hooks_can_be_left_out(tmp_path: Path) -> None:
    class Quiet(nb.Callback):
        def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
            trainer.fit_loop.hook("on_my_own")

    left, right = fitted(tmp_path / "a"), fitted(tmp_path / "b", callbacks=[Quiet()])

    assert main(["diff", str(left.path), str(right.path)]) == 4
    assert main(["diff", str(left.path), str(right.path), "--metrics"]) == 0


def test_programs_get_the_difference_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = fitted(tmp_path / "a"), fitted(tmp_path / "b", seed=2)

    main(["diff", str(left.path), str(right.path), "--json"])

    found = msgspec.json.decode(capsys.readouterr().out)
    assert not found["equal"]
    assert found["left"]["name"] == "draw"
    assert (found["left"]["epoch"], found["left"]["step"]) == (0, 0)


def test_saving_more_often_is_no_difference(tmp_path: Path) -> None:
    seldom, often = nb.ModelCheckpoint(), nb.ModelCheckpoint(every_n_train_steps=1)
    left, right = (
        fitted(tmp_path / "a", callbacks=[seldom]),
        fitted(tmp_path / "b", callbacks=[often]),
    )

    assert compare_runs(left, right).difference is None


def written(folder: Path, puts: list[nb.Put]) -> nb.RunFolder:
    """A run that recorded these."""
    run = nb.RunFolder.create(folder, "run")
    lock = run.begin_attempt()
    writer = LogWriter(run.store(lock.attempt), LogIdentity(run.info.id), Place())
    for seq, put in enumerate(puts):
        writer.append(msgspec.structs.replace(put, seq=seq, time_ns=seq))
        writer.flush()
    writer.close()
    lock.release()
    return run


def put(number: int) -> nb.Put:
    said = ("module", "loss", float(number), ("loggers",), "training_step")
    return nb.Put(0, 0, 0, "train", 0, number, number, 0, *said)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), number=st.integers(2, 60))
def test_whatever_one_event_is_changed_that_event_is_the_first_that_differs(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, number: int
) -> None:
    puts = [put(n) for n in range(number)]
    at = data.draw(st.integers(0, number - 2))
    how = data.draw(st.sampled_from(["value", "bit", "drop", "swap", "double", "step", "name"]))
    changed = list(puts)
    if how == "drop":
        del changed[at]
    elif how == "swap":
        changed[at], changed[at + 1] = changed[at + 1], changed[at]
    elif how == "double":
        changed.insert(at, puts[at])
        at += 1
    else:
        new: dict[str, Any] = {
            "value": {"value": -1.0},
            "bit": {"value": math.nextafter(float(at), math.inf)},
            "step": {"step": 99},
            "name": {"name": "lost"},
        }
        changed[at] = msgspec.structs.replace(puts[at], **new[how])
    folder = tmp_path_factory.mktemp("runs")
    left, right = written(folder / "a", puts), written(folder / "b", changed)

    _, difference, _ = compare_runs(left, right)

    assert difference is not None
    assert difference.number == at
    assert main(["diff", str(left.path), str(right.path)]) == 4


PUT = nb.Put(0, 0, 0, "train", 0, 2, 2, 0, "module", "loss", 1.0, ("loggers",), "training_step")
IMAGE = nb.Media(0, 0, 0, "train", 0, 2, 2, 0, "module", "seen", "image", b"1", ("loggers",), "x")
PLACE: dict[str, Any] = {
    "stage": "validate",
    "epoch": 1,
    "step": 7,
    "batch_idx": 7,
    "dataloader_idx": 1,
}
OF_BOTH = {**PLACE, "name": "other", "source": "a_sink", "destinations": ("csv",), "hook": "other"}
NAN_WITH_ANOTHER_BIT = struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0]


def recorded(folder: Path, *events: nb.Event) -> nb.RunFolder:
    """A run with these events alone."""
    run = RecordedRun(folder)
    attempt = run.attempt()
    for event in events:
        attempt.writer.append(msgspec.structs.replace(event, seq=attempt.writer.next_seq()))
    attempt.end()
    return run.folder


@pytest.mark.parametrize(
    ("event", "part", "value"),
    [
        *((PUT, part, value) for part, value in OF_BOTH.items()),
        *((IMAGE, part, value) for part, value in OF_BOTH.items()),
        (IMAGE, "kind", "figure"),
        (IMAGE, "data", b"2"),
    ],
)
def test_no_part_of_what_was_put_may_differ(
    tmp_path: Path, event: nb.Event, part: str, value: Any
) -> None:
    left = recorded(tmp_path / "a", event)
    right = recorded(tmp_path / "b", msgspec.structs.replace(event, **{part: value}))

    assert compare_runs(left, left).difference is None
    assert compare_runs(left, right).difference is not None


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, -0.0), (math.nan, NAN_WITH_ANOTHER_BIT), (1, 1.0), (True, 1)]
)
def test_values_are_compared_by_type_and_bit(tmp_path: Path, one: float, other: float) -> None:
    left = recorded(tmp_path / "a", msgspec.structs.replace(PUT, value=one))
    right = recorded(tmp_path / "b", msgspec.structs.replace(PUT, value=other))

    assert compare_runs(left, right).difference is not None


@pytest.mark.parametrize(("part", "value"), PLACE.items())
def test_a_hook_somewhere_else_is_another_one(tmp_path: Path, part: str, value: Any) -> None:
    runs = []
    for name, place in (("a", {}), ("b", {part: value})):
        run = RecordedRun(tmp_path / name)
        attempt = run.attempt()
        attempt.place.move(**place)
        attempt.hook("on_train_batch_end")
        attempt.end()
        runs.append(run.folder)

    assert compare_runs(*runs).difference is not None


def test_the_loss_that_the_progress_bar_shows_when_it_is_time_is_not_compared(
    tmp_path: Path,
) -> None:
    bar = msgspec.structs.replace(PUT, source="fit", destinations=("progress_bar",), hook="")
    shown, not_shown = recorded(tmp_path / "a", bar, PUT), recorded(tmp_path / "b", PUT)

    assert compare_runs(shown, not_shown) == (1, None, ())


def cut_off(folder: Path, number: int, how: str) -> nb.RunFolder:
    """A run of so many steps that is not all there."""
    recorded = RecordedRun(folder)
    attempt = recorded.attempt().steps(number)
    attempt.abandon() if how == "killed" else attempt.end()
    segment = recorded.folder.store(0).path(0)
    data = bytearray(segment.read_bytes())
    if how == "damaged":
        data[len(data) // 2] ^= 1
    elif how == "torn":
        del data[len(data) // 2 :]
    segment.write_bytes(data)
    return recorded.folder


@pytest.mark.parametrize("how", ["killed", "damaged", "torn"])
@pytest.mark.parametrize("of", ["one", "both"])
def test_what_a_run_lacks_is_said_and_keeps_it_from_being_equal_or_different(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, of: str
) -> None:
    whole = RecordedRun(tmp_path / "whole").steps(200)
    lossy = cut_off(tmp_path / "lossy", 200, how)
    other = cut_off(tmp_path / "other", 200, how).path if of == "both" else whole

    assert main(["diff", str(lossy.path), str(other)]) == 3
    shown = capsys.readouterr()
    assert f"{lossy.path} attempt 0: ends before event " in shown.err
    assert (f"{whole} attempt" in shown.err) is False
    if of == "both":
        assert "equal as far as both can be read: " in shown.out


def test_a_run_whose_first_segments_are_missing_is_not_equal(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt(segment_bytes=4096).steps(60)
    attempt.end()
    store = recorded.folder.store(0)
    store.path(store.indices()[0]).unlink()
    first = store.indices()[0]

    _, _, missing = compare_runs(recorded.folder, recorded.folder)

    assert [f"segments before {first} are missing" in line for line in missing] == [True, True]


def test_what_was_killed_after_the_checkpoint_a_run_went_on_from_is_not_missed(
    tmp_path: Path,
) -> None:
    recorded = RecordedRun(tmp_path / "resumed")
    killed = recorded.attempt().steps(3)
    fork = killed.fork()
    killed.steps(2).abandon()
    resumed = recorded.attempt(3, fork)
    resumed.add(Resumed)
    resumed.steps(2).end()

    assert compare_runs(recorded.folder, recorded.folder).missing == ()


def test_a_resumed_run_that_is_damaged_before_its_checkpoint_is_not_equal(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path / "resumed")
    killed = recorded.attempt().steps(100)
    fork = killed.fork()
    killed.abandon()
    recorded.attempt(100, fork).steps(2).end()
    segment = recorded.folder.store(0).path(0)
    data = bytearray(segment.read_bytes())
    data[len(data.rstrip(b"\0")) // 2] ^= 1  # zeros were allocated ahead
    segment.write_bytes(data)

    assert main(["diff", str(recorded.path), str(recorded.path)]) == 3


def test_events_that_could_not_be_written_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(2)
    attempt.add(Gap, 7, "No space left on device")
    attempt.end()

    assert main(["diff", str(recorded.path), str(recorded.path)]) == 3
    assert "7 events were not written: No space left on device" in capsys.readouterr().err


def test_a_run_that_goes_on_is_compared_as_far_as_it_has_got(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(2)

    code = main(["diff", str(recorded.path), str(recorded.path)])

    attempt.end()
    assert code == 3
    assert "goes on; this is what it had recorded" in capsys.readouterr().err


def test_runs_that_recorded_nothing_are_not_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = fitted(tmp_path / "a", recording="off")

    assert main(["diff", str(silent.path), str(silent.path)]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"{silent.path} recorded no hooks" in shown.err


def test_a_difference_before_what_a_run_lacks_is_a_difference(tmp_path: Path) -> None:
    killed = cut_off(tmp_path / "killed", 3, "killed")
    other = written(tmp_path / "other", [put(0)])

    assert main(["diff", str(killed.path), str(other.path)]) == 4
