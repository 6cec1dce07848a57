"""What is noted of a step: words say what happened, when and where, however they are divided."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noted_steps import CODED, NAMED, noted_steps

from nightbus.bus.log import codes
from nightbus.bus.log.codes import (
    ACTIONS,
    BATCH_IDX,
    BEGIN,
    DATALOADER_IDX,
    END,
    EPOCH,
    NUMBER,
    RAN,
    SHIFT,
    STAGE,
    STEP,
    PlaceTuple,
    begin,
    code_of,
    ran,
)
from nightbus.bus.log.trace import (
    HookAt,
    HookTrace,
    Walk,
    count_hooks,
    may_be_open,
    place_of,
    shape_of,
    words_of_hooks,
)

NOWHERE: PlaceTuple = (0, 0, -1, 0, "")
FULL_RANGE = 1 << SHIFT


def hooks_of(
    *words: int, names: tuple[str, ...] = (), base_ns: int = 0
) -> list[tuple[str, int, int]]:
    """Name, time and duration of what words say."""
    walk = Walk(HookTrace().origin, names, base_ns)
    return [hook[:3] for hook in walk.hooks(words)]


def alone(action: int, hook: str) -> int:
    """The code of a hook that has one."""
    code = code_of(action, hook)
    assert code is not None
    return code


# -- what words say ------------------------------------------------------------------------------


def test_a_hook_without_handlers_takes_no_time() -> None:
    assert hooks_of(7 | ran("on_batch_start")) == [("on_batch_start", 7, 0)]


def test_a_hook_lasts_from_its_begin_to_its_end() -> None:
    words = 5 | begin("backward"), 9 | alone(END, "backward")

    assert hooks_of(*words) == [("backward", 9, 4)]


def test_hooks_in_each_other_are_told_as_they_end() -> None:
    words = (
        1 | begin("optimizer_step"),
        2 | begin("training_step"),
        5 | alone(END, "training_step"),
        9 | alone(END, "optimizer_step"),
    )

    assert hooks_of(*words) == [("training_step", 5, 3), ("optimizer_step", 9, 8)]


def test_hooks_that_are_noted_together_ran_one_after_the_other_at_that_time() -> None:
    word = 7 | begin("backward", "on_before_backward")

    assert hooks_of(word, 9 | alone(END, "backward")) == [
        ("on_before_backward", 7, 0),
        ("backward", 9, 2),
    ]


def test_a_hook_that_begins_anew_was_left_by_an_exception_and_counts_from_its_last_begin() -> None:
    words = 1 | begin("training_step"), 6 | begin("training_step"), 9 | alone(END, "training_step")

    assert hooks_of(*words) == [("training_step", 9, 3)]


def test_a_hook_that_ends_a_second_time_takes_no_time() -> None:
    words = 1 | begin("backward"), 3 | alone(END, "backward"), 8 | alone(END, "backward")

    assert hooks_of(*words) == [("backward", 3, 2), ("backward", 8, 0)]


@pytest.mark.parametrize("hook", ["backward", "on_mine"])
def test_an_appender_records_a_hook_whether_it_has_a_code_or_a_name(hook: str) -> None:
    notes = HookTrace()
    notes.appender(BEGIN, hook)(3)
    notes.appender(END, hook)(8)
    notes.appender(RAN, hook)(9)

    assert list(notes.hooks()) == [HookAt(hook, 8, 5, NOWHERE), HookAt(hook, 9, 0, NOWHERE)]


def test_a_name_is_kept_once() -> None:
    notes = HookTrace()
    for hook in ("on_mine", "on_other", "on_mine"):
        notes.appender(RAN, hook)(1)

    assert notes.names == ["on_mine", "on_other"]


def test_a_hook_is_where_training_was_moved_to_before_it() -> None:
    words = (STAGE | 1, EPOCH | 2, STEP | 3, BATCH_IDX | 4, DATALOADER_IDX | 5)
    notes = HookTrace()
    notes.appender(RAN, "backward")(1)
    notes.words.extend(words)
    notes.appender(RAN, "backward")(2)

    assert [hook.place for hook in notes.hooks()] == [NOWHERE, (2, 3, 4, 5, "train")]


def test_a_batch_idx_of_minus_one_goes_through_a_word() -> None:
    assert place_of((1, 0, 0, -1 & NUMBER, 0)) == (0, 0, -1, 0, "train")


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no stage of the number 6"):
        place_of((6, 0, 0, 0, 0))


@pytest.mark.parametrize("code", sorted({*range(256)} - {*range(10)} - set(ACTIONS)))
def test_a_code_that_there_is_not_is_refused(code: int) -> None:
    with pytest.raises(ValueError, match=f"no code of the number {code}"):
        hooks_of(code << SHIFT)


@pytest.mark.parametrize("make", [ran, begin], ids=["ran", "begin"])
def test_hooks_that_have_no_code_together_cannot_be_recorded_together(
    make: Callable[..., int],
) -> None:
    with pytest.raises(KeyError):
        make("backward", "on_batch_start")


FULL_STEP = (
    # In numbers, because they are what logs have.
    105 << SHIFT | 10,
    106 << SHIFT | 20,
    107 << SHIFT | 25,
    108 << SHIFT | 50,
    110 << SHIFT | 60,
)


def test_five_words_are_a_step_that_nobody_handles_anything_in() -> None:
    notes = HookTrace((1, 2, 7, NUMBER, 0))
    notes.words.extend(FULL_STEP)

    begun: PlaceTuple = (2, 7, 0, 0, "train")
    over: PlaceTuple = (2, 8, 0, 0, "train")
    assert list(notes.hooks()) == [
        HookAt("on_before_batch_transfer", 10, 0, begun),
        HookAt("on_after_batch_transfer", 10, 0, begun),
        HookAt("on_batch_start", 10, 0, begun),
        HookAt("on_train_batch_start", 10, 0, begun),
        HookAt("training_step", 20, 10, begun),
        HookAt("on_before_zero_grad", 20, 0, begun),
        HookAt("optimizer_zero_grad", 25, 5, begun),
        HookAt("on_before_backward", 25, 0, begun),
        HookAt("backward", 50, 25, begun),
        HookAt("on_after_backward", 50, 0, begun),
        HookAt("on_before_optimizer_step", 50, 0, begun),
        HookAt("optimizer_step", 60, 50, begun),
        HookAt("on_train_batch_end", 60, 0, over),
        HookAt("on_batch_end", 60, 0, over),
    ]


def test_training_goes_on_by_one_from_wherever_it_was_moved_to() -> None:
    notes = HookTrace()
    notes.words.extend((FULL_STEP[0], STEP | 70, BATCH_IDX | 30, *FULL_STEP, FULL_STEP[-1]))

    places = [hook.place[1:3] for hook in notes.hooks() if hook.name == "on_batch_end"]

    assert places == [(71, 31), (72, 31)]


# -- how many they are ---------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(notes=noted_steps())
def test_hooks_are_counted_by_their_codes(notes: HookTrace) -> None:
    assert count_hooks(shape_of(notes.words)) == len(list(notes.hooks()))


def test_a_shape_is_a_byte_for_each_word_and_no_times() -> None:
    notes = HookTrace()
    notes.words.extend((STEP | 3, 70 | ran("backward")))
    later = HookTrace()
    later.words.extend((STEP | 4, 99 | ran("backward")))

    assert shape_of(notes.words) == bytes((2, ran("backward") >> SHIFT))
    assert shape_of(notes.words) == shape_of(later.words)


# -- dividing them -------------------------------------------------------------------------------


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(data=st.data(), high=st.sampled_from((0, 1)))
def test_both_parts_say_what_the_whole_says_wherever_it_is_cut(
    data: st.DataObject, high: int
) -> None:
    notes = data.draw(noted_steps(high=high))
    whole = list(notes.hooks())
    number = data.draw(st.integers(0, len(whole)))

    first, hooks, rest = notes.cut(number)

    assert hooks == list(first.hooks()) == whole[:number]
    assert list(rest.hooks()) == whole[number:]


@settings(max_examples=100, deadline=None)
@given(notes=noted_steps())
def test_notes_that_are_cut_at_each_hook_say_the_same_with_one_hook_a_part(
    notes: HookTrace,
) -> None:
    whole = list(notes.hooks())
    found = []

    rest = notes
    for _ in whole:
        _, hooks, rest = rest.cut(1)
        found += hooks

    assert found == whole
    assert count_hooks(shape_of(rest.words)) == 0


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_cutting_leaves_the_notes_as_they_were(data: st.DataObject) -> None:
    notes = data.draw(noted_steps())
    before = notes.words[:], notes.origin
    notes.cut(data.draw(st.integers(0, len(list(notes.hooks())))))

    assert (notes.words, notes.origin) == before


def test_the_rest_begins_with_hooks_that_go_on() -> None:
    notes = HookTrace()
    notes.appender(BEGIN, "backward")(3)
    notes.appender(BEGIN, "on_mine")(4)
    notes.appender(RAN, "on_batch_start")(5)

    rest = notes.cut(1).rest
    rest.appender(END, "on_mine")(8)
    rest.appender(END, "backward")(9)

    assert [hook[:3] for hook in rest.hooks()] == [("on_mine", 8, 4), ("backward", 9, 6)]


def test_the_rest_knows_where_training_is() -> None:
    notes = HookTrace()
    notes.words.extend((STAGE | 1, STEP | 7))
    notes.appender(RAN, "backward")(1)

    assert place_of(notes.cut(1).rest.origin) == (0, 7, -1, 0, "train")


@settings(max_examples=200, deadline=None)
@given(notes=noted_steps())
def test_of_what_begins_before_it_ends_the_codes_tell_that_nothing_is_open(
    notes: HookTrace,
) -> None:
    trace = notes.rest(notes.origin)
    begun = set[str]()
    walk = Walk(notes.origin, notes.names)
    for word in notes.words:
        actions = walk.actions(word)
        if all(action != END or name in begun for action, name in actions):
            trace.words.append(word)
            begun |= {name for action, name in actions if action == BEGIN}
            begun -= {name for action, name in actions if action == END}

    assert may_be_open(shape_of(trace.words)) or not begun


@settings(max_examples=100, deadline=None)
@given(notes=noted_steps())
def test_there_are_no_fewer_hooks_than_words_of_hooks(notes: HookTrace) -> None:
    shape = shape_of(notes.words)
    number = words_of_hooks(shape)

    assert bool(number) == bool(count_hooks(shape))
    assert number <= count_hooks(shape)


# -- some of them --------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(notes=noted_steps(), wanted=st.none() | st.sets(st.sampled_from(CODED + NAMED)))
def test_what_is_selected_is_what_was_noted_of_these_hooks(
    notes: HookTrace, wanted: set[str] | None
) -> None:
    expected = [hook for hook in notes.hooks() if wanted is None or hook.name in wanted]

    assert list(notes.selected(wanted).hooks()) == expected


# -- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("now_ns", [0, 12_345, FULL_RANGE - 1, FULL_RANGE, 3 * FULL_RANGE + 17])
def test_a_time_comes_back_however_long_the_machine_has_been_up(now_ns: int) -> None:
    notes = HookTrace()
    clock_ns = notes.clock(lambda: now_ns)
    notes.appender(RAN, "backward")(clock_ns())

    assert [hook.time_ns for hook in notes.hooks()] == [now_ns]


@pytest.mark.parametrize("action", [RAN, BEGIN, END])
def test_a_hook_without_code_or_name_is_refused(action: int) -> None:
    with pytest.raises(ValueError, match="without a name"):
        hooks_of(codes.NAMED + action << SHIFT)


def test_parts_and_selections_count_from_the_same_time() -> None:
    notes = HookTrace()
    notes.clock(lambda: 5 * FULL_RANGE)
    notes.appender(RAN, "backward")(1)

    first, _, rest = notes.cut(1)

    assert {first.base_ns, rest.base_ns, notes.selected(None).base_ns} == {5 * FULL_RANGE}


def test_a_clock_that_outgrows_a_word_leaves_the_codes_as_they_are() -> None:
    now_ns = NUMBER - 5
    notes = HookTrace()
    clock_ns = notes.clock(lambda: now_ns)
    now_ns += 10
    notes.words.append(clock_ns() | ran("on_train_batch_end", "on_batch_end"))
    assert [hook.name for hook in notes.hooks()] == ["on_train_batch_end", "on_batch_end"]
