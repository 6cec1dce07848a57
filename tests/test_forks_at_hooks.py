"""Children that are forked at the hooks of every function, while a checkpoint is saved, too."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forking_at_hooks import EXITED, HOOKS
from forking_process import REFUSED
from helpers import DEADLINE_S, seqs
from programs import run_program

import nightbus as nb
from nightbus.bus.inspection.doctor import examine
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.run_folder import RunFolder

pytestmark = pytest.mark.long

RUNS = [
    ("fit", "all"),
    ("fit", "metrics"),
    ("fit", "off"),
    ("validate", "all"),
    ("test", "metrics"),
    ("predict", "all"),
]
# The error of the run, or of the child, or the refusal, as what came last has it.
_ON_THE_WAY_OUT = {"on_exception", "teardown"}


class Told(NamedTuple):
    """What a run told of its children, and what is left of it."""

    function: str
    recording: str
    ended: dict[str, dict[str, int]]  # exit codes, by hook and way
    notes: int
    run: RunFolder | None
    said: str  # on stderr


@pytest.fixture(scope="module", params=RUNS, ids=["-".join(run) for run in RUNS])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    function, recording = request.param
    program = Path(__file__).with_name("forking_at_hooks.py")
    done = run_program(
        str(program), str(tmp_path_factory.mktemp("run")), function, recording, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    run = RunFolder.open(found["run"]) if found["run"] else None
    return Told(function, recording, found["ended"], found["notes"], run, done.stderr)


def events(run: RunFolder) -> list[Any]:
    reader = LogReader(run.store(0))
    try:
        return list(reader.events("all"))
    finally:
        reader.close()


def test_at_each_hook_a_child_leaves_as_it_likes_and_gets_no_further_if_it_goes_on(
    told: Told,
) -> None:
    assert set(told.ended) >= set(HOOKS[told.function])
    for hook, ended in told.ended.items():
        assert ended["exits"] == EXITED, hook
        assert ended["leaves_at_once"] == 4, hook
        if hook in _ON_THE_WAY_OUT:
            assert {ended["raises"], ended["trains_on"]} <= {0, REFUSED}, hook
        else:
            assert (ended["raises"], ended["trains_on"]) == (0, REFUSED), hook


def test_the_parents_log_is_whole_whatever_its_children_did(told: Told) -> None:
    if told.run is None:
        pytest.skip("nothing is recorded")
    found = events(told.run)
    notes = [put.value for put in found if isinstance(put, nb.Put) and put.name == "note"]

    assert notes == list(range(told.notes))
    assert seqs(found) == list(range(len(found)))
    assert [type(event) for event in found].count(nb.RunEnded) == 1
    assert isinstance(found[-1], nb.RunEnded)
    assert examine(told.run).problems == []


def test_of_a_crash_the_parent_tells_once_and_its_children_nothing(told: Told) -> None:
    assert told.said.count("the run crashed") == int(told.function == "fit")
