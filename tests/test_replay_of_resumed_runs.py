"""Of a run that was resumed, what was done again is read once."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.events import Fork
from nightbus.bus.inspection.metric_series import read_curves
from nightbus.bus.inspection.report import summarise
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.lineage import consistent_logs


class Collects(nb.Actor):
    """Keeps metrics as (name, step, value)."""

    def __init__(self) -> None:
        self.puts: list[tuple[str, int, Any]] = []

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        self.puts.append((put.name, put.step, put.value))

    def loss(self) -> list[float]:
        return [value for name, _, value in self.puts if name == "loss"]


def replayed(run: Path, **arguments: Any) -> Collects:
    collects = Collects()
    nb.replay(run, actors=[collects], **arguments)
    return collects


def loss_in(run: Path, **arguments: Any) -> list[float]:
    """The values of loss that replay gives; each reader has to agree. A value is its step, and in
    tenths its attempt.
    """
    values = replayed(run, **arguments).loss()
    folder = nb.RunFolder.open(run)
    curves = read_curves(folder, **arguments)
    assert list(curves["loss"].values) == values
    report = summarise(folder, **arguments)
    shown = report.metrics["loss"]
    assert (shown.count, shown.last) == (len(values), values[-1])
    assert (shown.low, shown.high) == (min(values), max(values))
    assert report.hooks["on_train_batch_end"].count == len(values)  # one a step, as of the loss
    return values


def steps_of(attempt: int, first: int, last: int) -> list[float]:
    return [step + attempt / 10 for step in range(first, last + 1)]


# -- forks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("segment_bytes", [16 << 20, 2048])
def test_a_resumed_attempt_takes_the_place_of_what_came_after_its_checkpoint(
    tmp_path: Path, segment_bytes: int
) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt(segment_bytes=segment_bytes).steps(60)
    fork = first.fork()
    first.steps(40).abandon()
    run.attempt(60, fork).steps(30).end()

    assert loss_in(run.path) == steps_of(0, 1, 60) + steps_of(1, 61, 90)
    assert loss_in(run.path, all_attempts=True) == steps_of(0, 1, 100) + steps_of(1, 61, 90)


def test_forks_can_be_several_deep(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(10)
    fork_0 = first.fork()
    first.steps(5).abandon()
    second = run.attempt(10, fork_0).steps(10)
    fork_1 = second.fork()
    second.steps(5).end()
    third = run.attempt(20, fork_1).steps(10)
    fork_2 = third.fork()
    third.steps(5).abandon()
    run.attempt(30, fork_2).steps(5).end()

    expected = steps_of(0, 1, 10) + steps_of(1, 11, 20) + steps_of(2, 21, 30) + steps_of(3, 31, 35)
    assert loss_in(run.path) == expected


def test_a_second_fork_from_an_earlier_checkpoint_takes_the_place_of_the_first(
    tmp_path: Path,
) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    early = first.fork()
    first.steps(5)
    late = first.fork()
    first.steps(5).end()
    run.attempt(10, late).steps(5).end()
    run.attempt(5, early).steps(3).end()

    assert loss_in(run.path) == steps_of(0, 1, 5) + steps_of(2, 6, 8)


def test_what_was_superseded_holds_again_when_the_run_goes_on_from_there(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    early = first.fork()
    first.steps(5)
    late = first.fork()
    first.steps(5).end()
    run.attempt(5, early).steps(3).end()
    run.attempt(10, late).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 10) + steps_of(2, 11, 12)


def test_a_fork_from_a_resumed_attempt_keeps_its_parents_up_to_their_forks(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    fork_0 = first.fork()
    first.steps(5).end()
    second = run.attempt(5, fork_0).steps(5)
    fork_1 = second.fork()
    second.steps(5).end()
    run.attempt(5, fork_0).steps(9).end()
    run.attempt(10, fork_1).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 5) + steps_of(1, 6, 10) + steps_of(3, 11, 12)


def test_an_attempt_that_was_not_resumed_from_a_checkpoint_supersedes_nothing(
    tmp_path: Path,
) -> None:
    run = RecordedRun(tmp_path)
    run.attempt().steps(3).end()
    run.attempt(3).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 3) + steps_of(1, 4, 5)


def test_a_checkpoint_of_an_attempt_that_is_not_here_supersedes_nothing(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.attempt().steps(3).end()
    run.attempt(3, Fork(7, 2, "checkpoints/x")).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 3) + steps_of(1, 4, 5)


def test_a_test_of_a_state_that_holds_is_kept_and_of_one_that_does_not_is_left_out(
    tmp_path: Path,
) -> None:
    def tested(root: Path, at_step: int) -> set[str]:
        run = RecordedRun(root)
        first = run.attempt().steps(5)
        fork = first.fork()
        first.steps(at_step - 5).end()
        test = run.attempt(at_step, fn="test")
        test.put("test_loss", 1.0)
        test.end()
        run.attempt(5, fork).steps(5).end()
        return {name for name, _, _ in replayed(run.path).puts}

    assert tested(tmp_path / "a", at_step=5) == {"loss", "lr", "test_loss", "val_loss"}
    assert tested(tmp_path / "b", at_step=9) == {"loss", "lr", "val_loss"}


# -- unclean ends --------------------------------------------------------------------------------


def test_an_attempt_that_was_killed_before_it_recorded_its_start_changes_nothing(
    tmp_path: Path,
) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    fork = first.fork()
    first.steps(5).abandon()
    run.attempt(is_silent=True).abandon()
    run.attempt(5, fork).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 5) + steps_of(2, 6, 7)


def test_an_attempt_whose_start_is_lost_may_have_trained_and_is_superseded(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    fork = first.fork()
    first.steps(5).abandon()
    run.attempt(is_silent=True).steps(3).abandon()
    run.attempt(5, fork).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 5) + steps_of(2, 6, 7)


def test_a_parent_that_lost_its_end_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(5)
    (segment,) = (run.path / "attempt-000").rglob("*.nlog")
    size = first.writer.committed[1]
    first.steps(5)
    fork = first.fork()
    first.abandon()
    with open(segment, "rb+") as file:
        file.truncate(size + 20)
    run.attempt(10, fork).steps(2).end()

    assert loss_in(run.path) == steps_of(0, 1, 5) + steps_of(1, 11, 12)


# -- who reads it --------------------------------------------------------------------------------


def test_a_disk_that_took_the_resumed_attempts_start_does_not_bring_back_what_was_superseded(
    tmp_path: Path,
) -> None:
    run = nb.RunFolder.create(tmp_path, "run")
    for attempt in (0, 1):
        lock = run.begin_attempt()
        writer = LogWriter(run.store(attempt), LogIdentity(run.info.id, attempt), Place())
        for _ in range(5):
            writer.append(writer.event(nb.Put, "loss", float(attempt), (), "", source="module"))
        writer.close()
        lock.release()
    run.keep_fork(1, Fork(0, 2, "checkpoints/x"))

    assert [log.until for log in consistent_logs(run)] == [3, None]


def forked(tmp_path: Path) -> Path:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(10)
    fork = first.fork()
    first.steps(5).abandon()
    run.attempt(10, fork).steps(4).end()
    return run.path


def test_a_sink_writes_one_value_for_each_metric_and_step(tmp_path: Path) -> None:
    path = forked(tmp_path)

    nb.replay(path, sinks=[nb.CSV(tmp_path / "once")])
    nb.replay(path, sinks=[nb.CSV(tmp_path / "all")], all_attempts=True)

    once, both = (
        [line.split(",")[1] for line in (tmp_path / name / "metrics.csv").read_text().splitlines()]
        for name in ("once", "all")
    )
    assert once == ["step", *map(str, [*range(1, 11), 10, *range(11, 15)])]  # 10 has a validation
    assert both == ["step", *map(str, [*range(1, 11), 10, *range(11, 16), *range(11, 15)])]


def test_replay_on_the_command_line_reads_all_attempts_when_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = forked(tmp_path)

    assert main(["replay", str(path), "--csv", str(tmp_path / "once")]) == 0
    assert main(["replay", str(path), "--csv", str(tmp_path / "all"), "--all-attempts"]) == 0

    rows = [len((tmp_path / n / "metrics.csv").read_text().splitlines()) for n in ("once", "all")]
    assert rows == [1 + 15, 1 + 20]


def test_show_counts_what_holds_and_says_what_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = forked(tmp_path)

    main(["show", str(path)])
    once = capsys.readouterr().out
    main(["show", str(path), "--all-attempts"])
    both = capsys.readouterr().out

    assert "superseded from event 33 on, where a later attempt went on" in once
    assert [line.split()[1] for line in once.splitlines() if line.startswith("loss")] == ["14"]
    assert [line.split()[1] for line in both.splitlines() if line.startswith("loss")] == ["19"]
    hook = "on_train_batch_end"
    assert [line.split()[1] for line in once.splitlines() if line.startswith(hook)] == ["14"]
    assert [line.split()[1] for line in both.splitlines() if line.startswith(hook)] == ["19"]


def test_a_sink_that_goes_on_gets_what_holds_as_it_does_live(tmp_path: Path) -> None:
    path = forked(tmp_path)

    nb.replay(path, sinks=[nb.CSV(tmp_path / "rest")], resume=True)
    nb.replay(path, sinks=[nb.CSV(tmp_path / "once")])

    rest, once = (tmp_path / name / "metrics.csv" for name in ("rest", "once"))
    assert rest.read_bytes() == once.read_bytes()


# -- runs that were trained ----------------------------------------------------------------------


class FailsAt(nb.Callback):
    """Ends a run as a crash does, after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: nb.Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crash")


def saves(folder: Path) -> nb.ModelCheckpoint:
    return nb.ModelCheckpoint(
        dirpath=folder, every_n_train_steps=4, save_top_k=-1, filename="{step}"
    )


def crashed_twice(tmp_path: Path) -> tuple[nb.RunFolder, list[tuple[str, int, Any]]]:
    """A run that crashed at step 11 and 15, resumed from 8 and 12; and its metrics without that."""

    def fit(root: Path, crash_at: int, checkpoint: Path | None = None) -> nb.RunFolder:
        options: dict[str, Any] = {"max_epochs": 3, "val_check_interval": 3, "log_every_n_steps": 1}
        options["callbacks"] = [FailsAt(crash_at), saves(root / "saved")]
        run = trainer(root, **options)
        if checkpoint is not None:
            (folder,) = (path.parent for path in (root / "runs").glob("*/run.json"))
            (folder / "saved").mkdir(exist_ok=True)
            checkpoint = checkpoint.rename(folder / "saved" / checkpoint.name)
        try:
            run.fit(Small(), loader(24), loader(4), ckpt_path=checkpoint)
        except RuntimeError as error:
            assert str(error) == "crash"  # noqa: PT017
        assert run.run_folder is not None
        return run.run_folder

    whole = replayed(fit(tmp_path / "whole", crash_at=-1).path).puts
    root = tmp_path / "crashed"
    saved = root / "saved"
    fit(root, crash_at=11)
    fit(root, 15, saved / "step=8")
    return fit(root, -1, saved / "step=12"), whole


def test_a_run_that_crashed_twice_replays_as_if_it_had_not(tmp_path: Path) -> None:
    run, whole = crashed_twice(tmp_path)

    once = replayed(run.path).puts
    both = replayed(run.path, all_attempts=True).puts

    assert run.attempts() == [0, 1, 2]
    assert once == whole
    assert max(Counter(both).values()) > 1
    assert set(both) == set(whole)
