"""What has to hold of a training's folder, whatever happened to its processes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from trial_training import FINAL

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.files import last_of
from nightbus.actors.checkpoints.format import read_checkpoint
from nightbus.bus.errors import NightbusError
from nightbus.bus.inspection.compare import compare_runs
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.cursor import attempt_logs
from nightbus.bus.runs.lineage import consistent_logs
from nightbus.bus.runs.run_folder import list_runs

_STEP = re.compile(r"step=(\d+)")


def the_run(folder: Path) -> nb.RunFolder | None:
    """The newest run of a training."""
    runs = list_runs(folder / "runs")
    return runs[-1] if runs else None


def complete_checkpoints(run: nb.RunFolder) -> list[Path]:
    """The checkpoints of a run under their own names, the oldest first."""
    folder = run.path / "checkpoints"
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if not p.is_symlink() and not p.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def problems_after_a_stop(folder: Path, damaged: list[str], graceful: bool) -> list[str]:
    """Check a training that has no process now.

    Args:
        folder: its folder.
        damaged: the checkpoints that the trial itself has damaged, by path.
        graceful: whether its process ended by itself.
    """
    found: list[str] = []
    run = None
    for run in list_runs(folder / "runs"):
        found += _of_checkpoints(run, damaged)
        found += _of_logs(run)
    if graceful and run is not None:
        # A sink that was given up may have been writing: its files are looked at in the end.
        found += _left_behind(folder, run, but=("cursors/", ".metrics."))
    return found


def _of_checkpoints(run: nb.RunFolder, damaged: list[str]) -> Iterator[str]:
    """Checkpoints are complete, and the last that the log names is there, or one after it is."""
    steps = []
    for path in complete_checkpoints(run):
        if str(path) in damaged:
            continue
        try:
            steps.append(read_checkpoint(path)["global_step"])
        except NightbusError as error:
            yield f"a checkpoint does not load: {error}"
    saved = [
        event.path
        for log in attempt_logs(run)
        for event in _events(log.store)
        if isinstance(event, nb.CheckpointSaved)
    ]
    if not saved or str(run.path / saved[-1]) in damaged:
        return
    step = _step_in(saved[-1])
    if any(_step_in(path) > step for path in damaged):
        return  # it took the place of the last that the log names
    if not (run.path / saved[-1]).exists() and not any(later > step for later in steps):
        yield f"{saved[-1]} is in the log and not on disk"
    try:
        last = last_of(run)
    except NightbusError as error:
        yield f"no checkpoint to go on from: {error}"
    else:
        if last is None or last.state["global_step"] < step:
            yield f"the run would go on from {last and last.path}, after {saved[-1]} was saved"


def _step_in(path: str) -> int:
    return int(_STEP.findall(path)[-1])


def _events(store: Any) -> list[Any]:
    reader = LogReader(store)
    try:
        return list(reader.events())
    finally:
        reader.close()


def _of_logs(run: nb.RunFolder) -> Iterator[str]:
    """Every log reads from its first event to its tail, and no step is there twice or missing."""
    for log in attempt_logs(run):
        seqs = [event.seq for event in _events(log.store)]
        if seqs != list(range(len(seqs))):
            yield f"the log of attempt {log.attempt} has a gap"
    before = (-1, -1)
    for log in consistent_logs(run):
        for event in _events(log.store):
            if log.until is not None and event.seq >= log.until:
                break
            if isinstance(event, nb.Hook) and event.name == "on_train_batch_end":
                here = (event.epoch, event.batch_idx)
                if here not in ((before[0], before[1] + 1), (before[0] + 1, 0)):
                    yield f"attempt {log.attempt} goes from batch {before} to {here}"
                    return
                before = here


def _left_behind(folder: Path, run: nb.RunFolder, but: tuple[str, ...] = ()) -> Iterator[str]:
    for path in run.path.rglob("*"):
        if str(path.relative_to(run.path)).startswith(but):
            continue
        if path.name.endswith(".tmp") or path.name.startswith("."):
            yield f"a temporary file is left behind: {path.relative_to(folder)}"
        elif path.is_socket():
            yield f"a socket is left behind: {path.relative_to(folder)}"
    for path in (folder / "tmp").iterdir():
        yield f"a temporary file is left behind: {path.relative_to(folder)}"


def problems_of_completed(folder: Path, undisturbed: Path) -> list[str]:
    """Compare a training that was stopped and resumed with one that was not."""
    run, whole = the_run(folder), the_run(undisturbed)
    assert run is not None
    assert whole is not None
    found = []
    difference = compare_runs(whole, run).difference
    if difference is not None:
        found.append(
            f"nightbus diff, after {difference.number} equal events: "
            f"{difference.left} | {difference.right}"
        )
    states = read_checkpoint(folder / FINAL), read_checkpoint(undisturbed / FINAL)
    found += [f"{where} is not the same in the end" for where in _differing(*states, "state")]
    found += _of_sinks(folder, run, whole)
    return found


def _differing(left: Any, right: Any, path: str) -> list[str]:
    """Where two states differ by a bit."""
    if isinstance(left, torch.Tensor):
        same = left.dtype == right.dtype and torch.equal(left, right)
        return [] if same else [path]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [path]
        return [at for key in left for at in _differing(left[key], right[key], f"{path}.{key}")]
    if isinstance(left, list | tuple):
        pairs = list(zip(left, right, strict=True))
        return [at for n, pair in enumerate(pairs) for at in _differing(*pair, f"{path}[{n}]")]
    return [] if left == right else [path]


def _of_sinks(folder: Path, run: nb.RunFolder, whole: nb.RunFolder) -> Iterator[str]:
    """Files of sinks hold what the log says, and for each step what the whole run's hold."""
    code = main(["replay", str(run.path), "--resume"])
    if code:
        yield f"nightbus replay --resume ended with {code}"
    replayed, others = folder / "replayed", folder / "others"
    nb.replay(run, sinks=[nb.CSV(replayed), nb.JSONLines(replayed)])
    for path in sorted(replayed.iterdir()):
        written = run.path / path.name
        if not written.exists() or written.read_bytes() != path.read_bytes():
            yield f"{path.name} is not what the log says"
    nb.replay(whole, sinks=[nb.CSV(others)])
    rows, expected = (
        path.read_text().splitlines() for path in (replayed / "metrics.csv", others / "metrics.csv")
    )
    if rows != expected:
        pairs = zip(rows, expected, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        numbers = f"{len(rows)}, of the undisturbed run {len(expected)}"
        yield f"rows of metrics: {numbers}; the first that differ: {first}"
    yield from _left_behind(folder, run)
