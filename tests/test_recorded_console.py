"""Trainer(record_console=True) records what is printed within a run."""

import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import eventually
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.__main__ import main


class Prints(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        print(f"batch {batch_idx}")
        if batch_idx == 1:
            print("password=canary17", file=sys.stderr)
            raise RuntimeError("broken")
        return super().training_step(batch, batch_idx)


def test_lines_are_events_of_the_run_and_the_streams_are_restored_after_an_exception(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, record_console=True)
    with pytest.raises(RuntimeError, match="broken"):
        run.fit(Prints(), loader())
    print("after the run")

    assert "batch 0\nbatch 1\nafter the run\n" in capsys.readouterr().out
    lines = events(run, nb.ConsoleLine)
    assert [line.text for line in lines if line.stream == "stdout"] == ["batch 0", "batch 1"]
    assert "password=***" in [line.text for line in lines]
    assert run.run_folder is not None
    path = str(run.run_folder.path)
    assert main(["tail", "--console", path]) == 0
    assert "batch 0\nbatch 1\n" in capsys.readouterr().out
    assert main(["show", path]) == 0
    assert "tail --console" in capsys.readouterr().out


def test_nothing_is_recorded_without_asking(tmp_path: Path) -> None:
    class Says(Small):
        def on_train_start(self) -> None:
            print("hello")

    run = trainer(tmp_path)
    run.fit(Says(), loader())

    assert not events(run, nb.ConsoleLine)


@pytest.mark.parametrize("at_end", [False, True])
def test_what_cannot_be_recorded_is_a_fault_and_neither_training_nor_sinks_suffer(
    at_end: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> str:
        raise ValueError("no text of this kind")

    monkeypatch.setattr("nightbus.bus.console_recording.without_secrets", fail)
    monkeypatch.setattr("nightbus.bus.console_recording.TAKE_EVERY_S", 1e6 if at_end else 0)

    class Says(Small):
        def on_train_start(self) -> None:
            print("hello")
            own = vars(sys.stdout)
            eventually(lambda: at_end or "write" not in own)  # it has given up

    run = trainer(tmp_path, record_console=True, sinks=[nb.CSV()], log_every_n_steps=1)
    run.fit(Says(), loader())

    (fault,) = events(run, nb.Fault)
    assert (fault.source, fault.error, fault.message) == (
        "console",
        "ValueError",
        "no text of this kind",
    )
    assert run.run_folder is not None
    rows = (run.run_folder.path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + run.global_step
    assert not events(run, nb.ConsoleLine)
