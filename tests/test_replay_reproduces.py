"""What replay writes is what the run wrote, and what it reads stays as it is."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from programs import Program
from recorded_runs import RecordedRun

import nightbus as nb

PROCESS = Path(__file__).parent / "faults" / "training_process.py"
FILES = (nb.CSV, nb.JSONLines, nb.TensorBoard)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that wrote files and ended by itself."""
    folder = tmp_path_factory.mktemp("ended")
    run = trainer(folder, max_epochs=2, sinks=[kind() for kind in FILES], log_every_n_steps=1)
    run.fit(Small(), loader(), loader(8))
    run.test(Small(), loader(8), verbose=False)
    assert run.run_folder is not None
    return run.run_folder.path


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed while it wrote files; the rest of what it recorded was delivered."""
    folder = tmp_path_factory.mktemp("killed")
    with Program([PROCESS, folder, "--files"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "batch 60\n":
                process.send_signal(signal.SIGKILL)
    (run,) = (path.parent for path in (folder / "runs").glob("*/run.json"))
    assert nb.replay(run, sinks=[kind() for kind in FILES], resume=True).unclean
    return run


def file_of(kind: Any, folder: Path) -> bytes:
    return bytes((folder / kind.default_name).read_bytes())


@pytest.mark.long
@pytest.mark.parametrize("arguments", [{}, {"rate": "x50"}, {"rate": 100, "clock": "wall"}])
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("which", ["ended", "killed"])
def test_a_file_comes_out_the_same_to_the_byte(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    which: str,
    kind: Any,
    arguments: dict[str, Any],
) -> None:
    run: Path = request.getfixturevalue(which)

    nb.replay(run, sinks=[kind(tmp_path)], **arguments)

    assert len(file_of(kind, run)) > 500
    assert file_of(kind, tmp_path) == file_of(kind, run)


@pytest.mark.parametrize("kind", FILES)
def test_the_files_of_a_resumed_run_come_out_the_same(tmp_path: Path, kind: Any) -> None:
    first = trainer(tmp_path, sinks=[kind()], log_every_n_steps=1)
    first.fit(Small(), loader())
    assert first.run_folder is not None
    run = first.run_folder.path
    second = trainer(tmp_path, max_epochs=2, sinks=[kind()], log_every_n_steps=1)
    second.fit(Small(), loader(), ckpt_path=run / "checkpoints" / "last")

    nb.replay(run, sinks=[kind(tmp_path)])

    assert file_of(kind, tmp_path) == file_of(kind, run)


def test_replay_leaves_the_recorded_run_as_it_is(tmp_path: Path, ended: Path) -> None:
    class Acts(nb.Callback):
        """Does all that an actor can do."""

        def on_validation_end(self, trainer: nb.Trainer, module: Any) -> None:
            self.put("mine", 1.0)
            self.put_text("words", "mine")
            self.tell("fit", nb.Stop(reason="enough"))
            trainer.should_stop = True

    def everything() -> dict[Path, tuple[int, bytes]]:
        files = sorted(path for path in ended.rglob("*") if path.is_file())
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = everything()
    result = nb.replay(ended, actors=[Acts()], sinks=[nb.CSV(tmp_path)])
    nb.replay(ended, actors=[Acts()], rate=1000, start="epoch=1", metrics=["val*"])

    assert result.puts
    assert result.commands
    assert len(before) > 4
    assert everything() == before


def test_without_a_sink_replay_writes_nothing_anywhere(
    tmp_path: Path, ended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Puts(nb.Actor):
        @nb.on(nb.RunEnded)
        async def end(self, event: nb.RunEnded) -> None:
            self.put("mine", 1.0)

    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    opened: list[tuple[str, Any]] = []
    sys.addaudithook(lambda event, given: _note_writing(opened, event, given))

    is_watching.append(True)
    try:
        result = nb.replay(ended, actors=[Puts()])
    finally:
        is_watching.clear()

    assert result.puts == [("puts", "mine", 1.0)] * 2
    assert opened == []
    assert list(empty.iterdir()) == []


is_watching: list[bool] = []


def _note_writing(opened: list[tuple[str, Any]], event: str, given: Any) -> None:
    """An audit hook, which cannot be taken away again: it notes files that are opened to be
    written, connections, and processes.
    """
    if not is_watching:
        return
    if event == "open":
        path, mode, flags = given
        is_written = any(sign in (mode or "") for sign in "wax+") or (flags or 0) & 3
        if is_written and isinstance(path, str | Path):
            opened.append((event, str(path)))
    elif event in ("socket.connect", "subprocess.Popen", "os.remove", "os.rename", "os.mkdir"):
        opened.append((event, given))


# -- rules over a recorded run -------------------------------------------------------------------


def test_one_actor_and_one_sink_need_no_list(tmp_path: Path) -> None:
    path = scripted(tmp_path, [3.0, 2.0, 2.5])
    values: list[float] = []

    result = nb.replay(
        path,
        actors=nb.EarlyStopping("val_loss", patience=1),
        sinks=nb.FunctionSink(lambda put: values.append(put.value)),
        metrics=["val_loss"],
    )

    assert len(result.commands) == 1
    assert values == [10.0, 20.0, 30.0]


def test_a_function_needs_no_list(tmp_path: Path) -> None:
    values: list[float] = []

    def keep(put: nb.Put) -> None:
        values.append(put.value)

    nb.replay(scripted(tmp_path, [3.0, 2.0]), sinks=keep, metrics=["val_loss"])

    assert values == [10.0, 20.0]


@pytest.mark.parametrize("which", ["id", "beginning", "name", "last"])
def test_a_run_is_found_as_the_command_line_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    run = RecordedRun(tmp_path)
    run.steps(3)
    info = run.folder.info
    given = {"id": info.id, "beginning": info.id[:-1], "name": info.name, "last": "last"}[which]
    monkeypatch.chdir(tmp_path)
    values: list[float] = []

    nb.replay(given, sinks=lambda put: values.append(put.value), metrics=["loss"])

    assert len(values) == 3


class KeepsBest(nb.Callback):
    """Chooses checkpoints as ModelCheckpoint does: the best k, by a metric."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.best: list[tuple[float, int]] = []

    def on_validation_end(self, trainer: nb.Trainer, module: Any) -> None:
        value = float(trainer.callback_metrics["val_loss"])
        self.best = sorted([*self.best, (value, trainer.global_step)])[: self.k]


def scripted(tmp_path: Path, losses: list[float]) -> Path:
    """A run with these validation losses, one each ten steps."""
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    attempt.hook("on_pretrain_routine_start")
    attempt.hook("on_train_start")
    for loss in losses:
        attempt.steps(9)
        attempt.put("val_loss", loss, ("callbacks",))
        attempt.step()
    attempt.hook("on_train_end")
    attempt.end()
    return run.path


def test_early_stopping_is_tried_with_several_patiences_at_once(tmp_path: Path) -> None:
    path = scripted(tmp_path, [3.0, 2.0, 2.5, 1.0, 1.5, 1.6, 1.7, 0.5])
    rules = [nb.EarlyStopping("val_loss", patience=patience) for patience in (1, 2, 4)]

    commands = nb.replay(path, actors=rules).commands

    assert [(told.sender, told.command) for told in commands] == [
        ("earlystopping", _stop("1 check", 2.0)),
        ("earlystopping-2", _stop("2 checks", 1.0)),
    ]


def test_a_command_says_at_which_epoch_and_step_it_was_told(tmp_path: Path) -> None:
    path = scripted(tmp_path, [3.0, 2.0, 2.5, 1.0])

    (told,) = nb.replay(path, actors=[nb.EarlyStopping("val_loss", patience=1)]).commands

    assert (told.epoch, told.step) == (2, 30)


def _stop(checks: str, best: float) -> nb.Stop:
    return nb.Stop(reason=f"val_loss did not improve in the last {checks}; best: {best:g}")


def test_a_rule_that_chooses_checkpoints_chooses_in_replay(tmp_path: Path) -> None:
    best = KeepsBest(2)

    nb.replay(scripted(tmp_path, [3.0, 2.0, 2.5, 1.0, 1.5]), actors=[best])

    assert best.best == [(1.0, 40), (1.5, 50)]
