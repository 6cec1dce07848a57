"""Children that a program forks within fit: the run stays its parent's, whatever they do."""

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from forking_process import REFUSED, STEPS
from helpers import DEADLINE_S, seqs
from programs import run_program

import nightbus as nb
from nightbus.bus.inspection.doctor import examine
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.run_folder import RunFolder

pytestmark = pytest.mark.long

LEAVE = {"raises": 0, "exits": 3, "forks_again": 0}
GO_ELSEWHERE = {"leaves_at_once": 4, "becomes_another_program": 5, "thread_forks": 4}
TRAIN = {"trains_another": 0, "trains_the_same": 0}
ARE_REFUSED = dict.fromkeys(
    ("trains_on", "puts", "logs", "puts_a_text", "tells", "saves", "attaches"), REFUSED
)
OF_OTHER_MAKERS = {
    "multiprocessing_returns": 0,
    "multiprocessing_raises": 1,
    "multiprocessing_puts": 1,
    "multiprocessing_is_ended": -15,
    "multiprocessing_pool": 0,
    "multiprocessing_subprocess": 6,
}
WAYS = {**LEAVE, **GO_ELSEWHERE, **TRAIN, **ARE_REFUSED, **OF_OTHER_MAKERS}


class Parent(NamedTuple):
    """What is left of a training whose steps forked."""

    run: RunFolder
    ended: dict[str, int]  # exit codes of the children, by way
    steps: int
    events: list[Any]
    said: str  # on stderr


def train(folder: Path, ways: list[str], workers: int = 0) -> Parent:
    """A training of STEPS steps, the first of which fork children that go these ways."""
    program = Path(__file__).with_name("forking_process.py")
    done = run_program(str(program), str(folder), str(workers), *ways, timeout=2 * DEADLINE_S)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    run = RunFolder.open(told["run"])
    reader = LogReader(run.store(0))
    events = list(reader.events("all"))
    reader.close()
    return Parent(run, told["ended"], told["steps"], events, done.stderr)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    return train(tmp_path_factory.mktemp("forking"), list(WAYS))


def values(events: list[Any], name: str) -> list[Any]:
    return [event.value for event in events if isinstance(event, nb.Put) and event.name == name]


@pytest.mark.long
@pytest.mark.parametrize(("way", "code"), WAYS.items(), ids=list(WAYS))
def test_a_child_ends_as_its_way_has_it(parent: Parent, way: str, code: int) -> None:
    assert parent.ended[way] == code


def test_whatever_children_did_their_parents_log_has_every_put_and_no_gap(parent: Parent) -> None:
    assert parent.steps == STEPS
    assert values(parent.events, "before") == list(range(STEPS))
    assert values(parent.events, "after") == list(range(STEPS))
    assert seqs(parent.events) == list(range(len(parent.events)))


def test_the_parents_run_ends_as_completed_once_and_is_sound(parent: Parent) -> None:
    ends = [event for event in parent.events if isinstance(event, nb.RunEnded)]

    assert [end.how for end in ends] == ["completed"]
    assert parent.events[-1] is ends[0]
    assert examine(parent.run).problems == []


def test_nothing_of_a_child_is_in_its_parents_log(parent: Parent) -> None:
    assert values(parent.events, "of_a_child") == []
    assert [event for event in parent.events if isinstance(event, nb.Fault)] == []


def test_a_child_saves_no_checkpoint_into_its_parents_run(parent: Parent) -> None:
    assert not (parent.run.path / "of-a-child").exists()


def test_the_parents_sinks_have_each_put_once(parent: Parent) -> None:
    lines = (parent.run.path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with sqlite3.connect(parent.run.path / "metrics.sqlite") as database:
        found = database.execute("SELECT value FROM metrics WHERE name = 'after'").fetchall()

    assert [row["value"] for row in rows if row["name"] == "after"] == list(range(STEPS))
    assert sorted(value for (value,) in found) == list(range(STEPS))


def test_a_child_that_leaves_fit_tells_nothing_of_the_run(parent: Parent) -> None:
    assert parent.said.count("nightbus: sinks got no value of train_loss") == 1  # the parent does
    assert "crash" not in parent.said


@pytest.mark.long
def test_a_child_that_leaves_fit_ends_no_worker_of_its_parents_loader(tmp_path: Path) -> None:
    parent = train(tmp_path, ["raises", "exits", "trains_on", "multiprocessing_raises"], workers=1)

    assert values(parent.events, "after") == list(range(STEPS))
    assert [event.how for event in parent.events if isinstance(event, nb.RunEnded)] == ["completed"]
