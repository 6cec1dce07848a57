"""Where training is: what is pending is noted before whatever is noted next, and once."""

from collections.abc import Callable

import pytest

from nightbus.bus.log.marks import Notes, begin, end, notice
from nightbus.bus.log.place import Place
from nightbus.bus.routes import Routes

PENDING = end("training_step")


class Clock:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


def noting_place(clock: Callable[[], int] | None = None) -> Place:
    place = Place()
    place.note_in(Notes(), clock or Clock())
    return place


def noted(place: Place) -> list[str]:
    assert place.notes is not None
    return [hook.name for hook in place.notes.hooks()]


@pytest.mark.parametrize(
    "do",
    [
        lambda place: place.settle(),
        lambda place: place.note_now(notice("backward")),
        lambda place: place.begin_batch(3),
        lambda place: place.complete_step(3),
        lambda place: place.move(epoch=3),
        lambda place: Routes(place).call("on_batch_start"),
        lambda place: Routes(place).call("on_epoch_start"),
    ],
    ids=["settle", "note_now", "begin_batch", "complete_step", "move", "route", "named route"],
)
def test_what_is_pending_is_noted_first(do: Callable[[Place], None]) -> None:
    place = noting_place()
    place.note_now(begin("training_step"))
    place.pending = PENDING

    do(place)

    assert noted(place)[0] == "training_step"
    assert not place.pending


def test_what_is_pending_is_noted_where_training_was_when_it_happened() -> None:
    place = noting_place()
    place.pending = PENDING
    place.complete_step(9)
    place.note_now(notice("backward"))

    assert place.notes is not None
    assert [(hook.name, hook.mark[1]) for hook in place.notes.hooks()] == [
        ("training_step", 0),
        ("backward", 9),
    ]


@pytest.mark.parametrize("hook", ["backward", "on_mine"])
def test_a_handler_finds_what_was_pending_noted_and_leaves_what_becomes_pending(hook: str) -> None:
    place = noting_place()
    routes = Routes(place)
    found = []

    def handle() -> None:
        found.extend(noted(place))
        place.pending = end("optimizer_step")

    routes.set_handlers({hook: (handle,)})
    place.pending = PENDING
    routes.call(hook)

    assert found == ["training_step"]
    assert noted(place) == ["training_step", "optimizer_step", hook]


def test_notes_that_somebody_else_takes_over_have_what_was_pending() -> None:
    place = noting_place()
    before = place.notes
    assert before is not None
    place.pending = PENDING

    place.note_in(Notes())

    assert [hook.name for hook in before.hooks()] == ["training_step"]
    assert noted(place) == []


def test_an_interrupt_never_has_it_noted_twice() -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    place = noting_place()
    place.pending, place.clock_ns = PENDING, interrupted
    with pytest.raises(KeyboardInterrupt):
        place.settle()
    place.clock_ns = Clock()
    place.settle()

    assert noted(place) == []


def test_nothing_is_pending_where_nothing_is_noted() -> None:
    place = Place()
    place.settle()
    place.note_now(PENDING)

    assert not place.pending
