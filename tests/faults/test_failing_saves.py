"""A disk that fails at any call of a save: what the log names loads, or what came before."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from failing_saves import Left, answer_of, disk_below
from faulty_disk import faulty_disk
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.actors.checkpoints.files import last_of
from nightbus.actors.checkpoints.format import link_checkpoint, read_checkpoint, write_checkpoint
from nightbus.bus.log.reader import LogReader

SAVES = 3
WAYS: list[Left] = ["all", "synced", *(random.Random(seed) for seed in range(2))]


def saved_step(event: nb.CheckpointSaved) -> int:
    return int(re.findall(r"step=(\d+)", event.path)[-1])


def assert_what_the_log_names_loads(run: nb.RunFolder) -> None:
    """The last that it names is there, or a later one; and the run goes on from it."""
    reader = LogReader(run.store(0))
    recorded = list(reader.events())
    reader.close()
    saved = [event for event in recorded if isinstance(event, nb.CheckpointSaved)]
    last = last_of(run)
    for path in (run.path / "checkpoints").glob("[!.]*"):
        assert not path.exists() or read_checkpoint(path)  # whole, or not there
    if saved:
        assert last is not None
        assert last.state["global_step"] >= saved_step(saved[-1])
        if last.path.name == Path(saved[-1].path).name:
            assert read_checkpoint(run.path / saved[-1].path)
    if last is not None:
        assert last.state["seq"] < len(recorded), "the log lacks what the checkpoint stands on"


def test_an_error_at_any_call_is_recorded_and_costs_at_most_one_checkpoint(tmp_path: Path) -> None:
    """Save 0 fails at its first call, save 2 at its second, and so on; those between do not."""
    root = tmp_path / "disk"
    root.mkdir()
    failed = Counter[str]()
    run = trainer(root, max_epochs=66)

    with disk_below(root) as disk:

        def fail(name: str) -> None:
            save = disk.calls[-1][0]
            index = sum(of == save for of, _ in disk.calls) - 1
            if index == 0 and save % 2 and run.run_folder is not None:
                assert_what_the_log_names_loads(run.run_folder)
            if 2 * index == save:
                failed[name] += 1
                raise answer_of(name)

        disk.before_call = fail
        run.fit(Small(), loader(4))

    saved = events(run, nb.CheckpointSaved)
    faults = [event for event in events(run, nb.Fault) if event.source == "checkpointer"]
    assert run.global_step == 66
    assert run.run_folder is not None
    assert_what_the_log_names_loads(run.run_folder)
    assert {event.error for event in faults} == {"CheckpointError"}
    assert len(saved) + len(faults) == 66
    assert failed.total() < 33, "a save has more calls than were made to fail"
    # Where only a former checkpoint is removed, an error is no reason not to name the new one.
    assert set(failed) > {"mkdir", "save_file", "write_bytes", "fsync", "rename", "symlink"}


def test_a_checkpoint_is_there_after_a_power_cut_wherever_it_was_saved(tmp_path: Path) -> None:
    root, cut = tmp_path / "disk", tmp_path / "cut"
    (root / "elsewhere").mkdir(parents=True)

    with faulty_disk(root) as disk:
        write_checkpoint(root / "elsewhere" / "one", {"x": torch.ones(2)})
        link_checkpoint(root / "elsewhere" / "one", root / "elsewhere" / "two")
        disk.after_power_cut(cut)

    for name in ("one", "two"):
        assert torch.equal(read_checkpoint(cut / "elsewhere" / name)["x"], torch.ones(2))


@pytest.mark.parametrize("save_last", [False, True])
def test_power_that_goes_out_before_any_call_leaves_what_the_log_names(
    tmp_path: Path, save_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise the log is synced each second, and nobody sees whether a save does it.
    monkeypatch.setattr("nightbus.bus.housekeeping.SYNC_EVERY_S", 3600.0)
    root = tmp_path / "disk"
    root.mkdir()
    cuts = 0

    with disk_below(root) as disk:

        def cut(_: str) -> None:
            nonlocal cuts
            for left in WAYS:
                cuts += 1
                target = tmp_path / f"{cuts}"
                disk.leave(left, target)
                for found in sorted(target.glob("runs/*/run.json")):
                    assert_what_the_log_names_loads(nb.RunFolder.open(found.parent))

        callbacks: list[Any] = []
        if save_last:
            callbacks.append(nb.ModelCheckpoint(every_n_train_steps=1, save_last=True))
        run = trainer(root, max_epochs=SAVES, callbacks=callbacks)
        disk.before_call = cut
        run.fit(Small(), loader(4))
        cut("the end")

    assert events(run, nb.Fault) == []
    assert len(events(run, nb.CheckpointSaved)) >= SAVES
    assert cuts > 100
