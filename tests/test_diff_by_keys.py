"""nightbus diff compares runs by keys: whatever two logs hold, that finds what comparing them event
by event finds.
"""

import math
import struct
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_runs import RecordedAttempt, RecordedRun

import nightbus as nb
from nightbus.bus.errors import UsageError
from nightbus.bus.events import CheckpointSaved, Resumed, Stage
from nightbus.bus.inspection import compared_log
from nightbus.bus.inspection.compare import Difference, compare_runs
from nightbus.bus.inspection.compared_log import Choice, ComparedEvent, ComparedLog

SMALL = 2700  # bytes: a segment's header, which names all types of events, and a few frames
ODD_NAN = struct.unpack("<d", bytes.fromhex("efbeadde0000f87f"))[0]
VALUES = [0.0, -0.0, 0, False, 1.0, 1, True, math.nan, ODD_NAN, math.inf, 1e-308, 2**40]


class Happening(NamedTuple):
    """What a log gets: a hook, a metric, or an event of another type, and where."""

    kind: str
    name: str
    value: float
    step: int
    stage: Stage


# Most frames hold nothing but hooks and metrics, as those of a training do.
happenings = st.builds(
    Happening,
    st.sampled_from([*["hook"] * 6, *["put"] * 6, *["bar"] * 3, "media", "other"]),
    st.sampled_from([*["on_a", "on_b"] * 4, "on_save_checkpoint"]),
    st.sampled_from(VALUES),
    st.integers(0, 1),
    st.sampled_from(["train", "validate"]),
)


short = st.lists(happenings, max_size=10)
long = st.lists(happenings, min_size=15, max_size=30)


class Recipe(NamedTuple):
    """How a log comes to be.

    Attributes:
        happenings: what it gets, in order.
        cuts: after which of them a frame ends.
        segment_bytes: when a segment ends.
        fork: before which of them it was killed and resumed, if it was.
    """

    happenings: list[Happening]
    cuts: set[int]
    segment_bytes: int
    fork: int | None


def recipes(of: list[Happening]) -> st.SearchStrategy[Recipe]:
    """Ways to record these."""
    places = st.integers(0, len(of))
    regular = st.integers(1, 5).map(lambda number: set(range(0, len(of), number)))
    sizes = st.sampled_from([SMALL, 1 << 20])
    return st.builds(Recipe, st.just(of), st.sets(places) | regular, sizes, st.none() | places)


@st.composite
def changed(draw: st.DrawFn, of: list[Happening]) -> list[Happening]:
    """The same, or with one or two differences."""
    found = list(of)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(found)))
        match draw(st.sampled_from(["drop", "add", "swap", "value", "step"])):
            case "drop":
                del found[at : at + 1]
            case "add":
                found.insert(at, draw(happenings))
            case "swap":
                found[at : at + 2] = reversed(found[at : at + 2])
            case "value":
                value = draw(st.sampled_from(VALUES))
                found[at : at + 1] = [one._replace(value=value) for one in found[at : at + 1]]
            case "step":
                found[at : at + 1] = [one._replace(step=7) for one in found[at : at + 1]]
    return found


def record(folder: Path, recipe: Recipe) -> nb.RunFolder:
    run = RecordedRun(folder)
    attempt = run.attempt(segment_bytes=recipe.segment_bytes)
    attempt.writer.flush()
    for number, one in enumerate(recipe.happenings):
        if number == recipe.fork:
            attempt = resume(run, attempt, recipe.segment_bytes)
        happen(attempt, one)
        if number in recipe.cuts:
            attempt.writer.flush()
    attempt.end()
    return run.folder


def resume(run: RecordedRun, killed: RecordedAttempt, segment_bytes: int) -> RecordedAttempt:
    """Go on in a new attempt: what this one did since is superseded."""
    fork = killed.fork()
    happen(killed, Happening("put", "on_a", 5.0, 1, "train"))
    killed.abandon()
    attempt = run.attempt(0, fork, segment_bytes=segment_bytes)
    for _ in range(2):  # set-up
        attempt.writer.flush()
        attempt.hook("on_b")
    attempt.add(Resumed)
    return attempt


def happen(attempt: RecordedAttempt, one: Happening) -> None:
    attempt.now_ns += 1_000
    place = attempt.place
    if (place.stage, place.step) != (one.stage, one.step):
        place.move(stage=one.stage, step=one.step)
    match one.kind:
        case "hook":
            attempt.hook(one.name)
        case "put":
            attempt.put(one.name, one.value)
        case "bar":
            bar = ("loss", one.value, ("progress_bar",), "")
            attempt.writer.append(attempt.writer.event(nb.Put, *bar, source="fit"))
        case "media":
            attempt.add(nb.Media, one.name, "text", repr(one.value).encode(), ("loggers",), "")
        case "other":
            attempt.add(CheckpointSaved, "checkpoints/x", "", 0)


def by_event(run: nb.RunFolder, choice: Choice) -> list[ComparedEvent]:
    stretches = ComparedLog(run, choice).stretches()
    return [event for stretch in stretches for event in stretch.events()]


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    hooks=st.booleans(),
    ignore=st.sampled_from([(), ("*_a",)]),
    stretch=st.sampled_from([1, 2, 5, compared_log.STRETCH]),
)
def test_keys_find_what_comparing_event_by_event_finds(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    hooks: bool,
    ignore: tuple[str, ...],
    stretch: int,
) -> None:
    happened = data.draw(short | long)
    other = data.draw(changed(happened))
    folder = tmp_path_factory.mktemp("runs")
    left = record(folder / "a", data.draw(recipes(happened)))
    right = record(folder / "b", data.draw(recipes(other)))

    choice = Choice(ignore, hooks)
    pairs = zip_longest(by_event(left, choice), by_event(right, choice))
    differing = (at for at in enumerate(pairs) if not are_equal(*at[1]))
    expected = next(differing, None)
    try:
        with patch.object(compared_log, "STRETCH", stretch):
            found = compare_runs(left, right, ignore=ignore, hooks=hooks)
    except UsageError:
        assert [] in (by_event(left, choice), by_event(right, choice))
        return
    assert found.missing == ()
    if expected is None:
        assert (found.equal, found.difference) == (len(by_event(left, choice)), None)
    else:
        number, pair = expected
        assert (found.equal, found.difference) == (number, Difference(number, *pair))


def are_equal(left: ComparedEvent | None, right: ComparedEvent | None) -> bool:
    return left is not None and right is not None and left.compared == right.compared


def test_an_event_right_behind_the_set_up_of_a_resumed_run_is_shown_as_it_is(
    tmp_path: Path,
) -> None:
    first, second = (Happening("put", "x", value, 1, "train") for value in (1.0, 2.0))
    resumed = record(tmp_path / "a", Recipe([first, second], set(), 1 << 20, 1))
    other = record(tmp_path / "b", Recipe([first, first], set(), 1 << 20, None))

    with patch.object(compared_log, "STRETCH", 1):  # the set-up is in other stretches too
        difference = compare_runs(resumed, other).difference

    assert difference is not None
    assert difference.left is not None
    assert (difference.number, difference.left.shown) == (1, "2.0")
