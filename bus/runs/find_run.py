"""Finds the run that an id, a name, a path or ``last`` means."""

from pathlib import Path

from ..errors import RunFolderError
from ..system.paths import as_path
from .flight_file import is_flight_file, open_run
from .run_folder import RunFolder, newest_runs

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
    """Return the run meant by a path in or of a run, an id or its beginning, a name, or ``last``.

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
    beginning = [name for name in newest if name.startswith(given)] if given else []
    if given and not beginning:
        beginning = _called(given, newest)
    if len(beginning) > 1:  # a run named digits comes before those named digits-large
        beginning = _called(given, beginning) or beginning
    if len(beginning) == 1:
        return RunFolder.open(Path("runs") / beginning[0])
    if beginning:
        raise RunFolderError(f"{given} may be any of {_some(beginning)}; give more of the id")
    neither = "is neither a run's folder nor an id or a name below ./runs"
    what = "is not a run" if path.exists() else neither
    for root in (path, Path("runs")):
        if names := newest_runs(root):
            raise RunFolderError(f"{given} {what}; runs in {root}: {_some(names)}")
    raise RunFolderError(
        f"{given} {what}; give the folder that holds run.json, which a trainer makes in "
        "default_root_dir/runs"
    )


def _called(name: str, ids: list[str]) -> list[str]:
    """Return the ids of the runs below ./runs with this name; an id may spell it differently."""
    called = []
    for run_id in ids:
        try:
            if RunFolder.open(Path("runs") / run_id).info.name == name:
                called.append(run_id)
        except RunFolderError:  # a damaged run is found by its id only
            continue
    return called


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMED_RUNS
    return ", ".join([*names[:MAX_NAMED_RUNS], *([f"and {more} more"] if more > 0 else [])])
