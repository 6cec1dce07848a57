"""Finds the run that an id, a name, a path or ``last`` means."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..errors import RunFolderError
from ..shown_text import plain
from ..system.paths import as_path
from .flight_file import is_flight_file, open_run
from .marks import Marks, read_marks
from .run_folder import RunFolder, newest_runs
from .run_summary import read_summary

MAX_NAMED_RUNS = 5
LAST = "last"


def find_events(given: str) -> RunFolder:
    """Return the run that ``find_run`` finds, or a file of a run's last events.

    Raises:
        RunFolderError: there is no such run, or several.
        LogFormatError: the head of the file is damaged.
    """
    path = as_path(given)
    return open_run(path) if is_flight_file(path) else find_run(given)


def find_run(given: str) -> RunFolder:
    """Return the run that a path, an id or its beginning, a name, a tag, or ``last`` means.

    Of several runs of a name, ``name@-1`` is the newest, ``name@-2`` the one before.

    Raises:
        RunFolderError: there is no such run, or several.
    """
    path = as_path(given)
    for candidate in (path, Path("runs") / given):
        if (candidate / "run.json").exists():
            return RunFolder.open(candidate)
    run = RunFolder.containing(path) if path.exists() else None
    if run is not None:
        return run
    if is_flight_file(path):
        raise RunFolderError(
            f"{path} holds the last events of a run, not a run; look at them with show, tail, plot "
            "or replay"
        )
    newest = newest_runs(Path("runs"))
    if given == LAST and newest:
        return RunFolder.open(Path("runs") / newest[0])
    found = _below_runs(given, newest)
    if len(found) == 1:
        return RunFolder.open(Path("runs") / found[0])
    if found:
        lines = "".join(f"\n  {_in_short(run_id)}" for run_id in found[:MAX_NAMED_RUNS])
        more = len(found) - MAX_NAMED_RUNS
        rest = f"\n  and {more} more" if more > 0 else ""
        is_name = bool(_marked(found[:1], lambda marks: marks.name == given))
        newest_of = f", or {given}@-1 for the newest" if is_name else ""
        raise RunFolderError(
            f"{given} may be any of {len(found)} runs; give more of the id{newest_of}:{lines}{rest}"
        )
    neither = "is neither a run's folder nor an id or a name below ./runs"
    what = "is not a run" if path.exists() else neither
    for root in (path, Path("runs")):
        if names := newest_runs(root):
            raise RunFolderError(f"{given} {what}; runs in {root}: {_some(names)}")
    raise RunFolderError(
        f"{given} {what}; give the folder that holds run.json, which a trainer makes in "
        "default_root_dir/runs"
    )


def _below_runs(given: str, newest: list[str]) -> list[str]:
    """Return the ids of the runs below ./runs that an id, its beginning, a name or a tag means.

    Args:
        given: one of these; ``name@-1`` is the newest of a name, ``name@-2`` the one before.
        newest: the ids, the last started or resumed first.
    """
    if not given:
        return []
    beginning = [name for name in newest if name.startswith(given)]
    if len(beginning) == 1:
        return beginning
    # A run named digits comes before those named digits-large.
    if named := _marked(newest, lambda marks: marks.name == given) or beginning:
        return named
    name, _, back = given.rpartition("@-")
    if name and back.isdigit() and int(back) > 0:
        named = _marked(newest, lambda marks: marks.name == name)
        return named[int(back) - 1 : int(back)]
    return _marked(newest, lambda marks: given in marks.tags)


def _marked(ids: list[str], fits: Callable[[Marks], bool]) -> list[str]:
    """Return the ids of the runs below ./runs whose marks fit; ids may spell names differently."""
    found = []
    for run_id in ids:
        try:
            if fits(read_marks(RunFolder.open(Path("runs") / run_id))):
                found.append(run_id)
        except RunFolderError:  # a damaged run is found by its id only
            continue
    return found


def _in_short(run_id: str) -> str:
    """Return a run's id, date, ending, and a metric that tells it from others."""
    run = read_summary(Path("runs") / run_id)
    date = datetime.fromtimestamp(run.created_ns / 1e9).astimezone()
    shown = next((name for name in run.metrics if "val" in name), next(iter(run.metrics), ""))
    metric = f", {plain(shown)} {run.metrics[shown].last:.4g}" if shown else ""
    return f"{run_id}  {date:%Y-%m-%d %H:%M}  {run.ending}{metric}"


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED_RUNS
    return ", ".join([*names[:MAX_NAMED_RUNS], *([f"and {more} more"] if more > 0 else [])])
