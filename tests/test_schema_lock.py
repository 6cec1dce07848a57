"""What lies on disk changes only in ways that old logs and old readers survive."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
from schema_lock import Field, Lock, Schema, broken_rules, current, read_lock, schema_of

from nightbus.bus.log.codes import ACTIONS, SHIFT, begin, end, ran


def test_nothing_that_is_locked_was_changed() -> None:
    assert broken_rules(read_lock(), current()) == []


def test_all_that_is_written_is_locked() -> None:
    lock, now = read_lock(), current()
    now.retired = lock.retired

    assert lock == now, "run: python tests/schema_lock.py --extend"


def _set_field(lock: Lock, tag: int, number: int, **change: Any) -> None:
    field = lock.types[tag].fields[number]
    lock.types[tag].fields[number] = msgspec.structs.replace(field, **change)


BREAKING: dict[str, tuple[Callable[[Lock], object], str]] = {
    "a field removed": (lambda lock: lock.types[2].fields.pop(), r"Put\.hook is gone"),
    "a field moved": (
        lambda lock: lock.types[2].fields.insert(9, lock.types[2].fields.pop()),
        "field 9 of Put was name: str, is hook: str",
    ),
    "a field renamed": (
        lambda lock: _set_field(lock, 2, 9, name="metric"),
        "field 9 of Put was name: str, is metric: str",
    ),
    "a field of another type": (
        lambda lock: _set_field(lock, 1, 10, type="float"),
        "field 10 of Hook was duration_ns: int, is duration_ns: float",
    ),
    "another default": (
        lambda lock: _set_field(lock, 3, -1, default="None"),
        "was environment: .* = {}, is environment: .* = None",
    ),
    "a default taken away": (
        lambda lock: _set_field(lock, 3, -1, default=""),
        "RunStarted was environment",
    ),
    "a choice removed": (
        lambda lock: _set_field(lock, 4, 9, choices=["completed"]),
        r"RunEnded\.how no longer takes all of",
    ),
    "a field without a default": (
        lambda lock: lock.types[2].fields.append(Field("unit", "str")),
        r"Put\.unit is new and has no default",
    ),
    "a type removed": (lambda lock: lock.types.pop(16), "LoopAdvanced is gone; its tag 16"),
    "a tag used again": (
        lambda lock: lock.types.update({16: Schema("Other", lock.types[16].fields)}),
        "LoopAdvanced is called Other now",
    ),
    "a record removed": (lambda lock: lock.records.pop(), "MetricTotal is gone"),
    "a record changed": (
        lambda lock: lock.records[0].fields.pop(),
        r"PlaceRecord\.stage is gone",
    ),
    "a code removed": (lambda lock: lock.words.codes.pop(10), "code 10 was .*, is gone"),
    "a code used again": (
        lambda lock: lock.words.codes.update({24: "on_other ran"}),
        "code 24 was 'on_train_batch_start ended', is 'on_other ran'",
    ),
    "codes moved by a hook among those that are there": (
        lambda lock: lock.words.codes.update(
            {code + 1: meaning for code, meaning in lock.words.codes.items() if code >= 96}
        ),
        "code 97 was",
    ),
    "another hook among those that a code is of": (
        lambda lock: lock.words.codes.update({97: lock.words.codes[97] + ", on_other ran"}),
        "code 97 was 'on_before_batch_transfer ran, on_after_batch_transfer ran', is",
    ),
    "a part of the place with another code": (
        lambda lock: lock.words.codes.update({2: "batch_idx", 3: "step"}),
        "code 2 was 'step', is 'batch_idx'",
    ),
    "a stage of another number": (
        lambda lock: lock.words.stages.update({1: "validate", 2: "train"}),
        "stage 1 was 'train', is 'validate'",
    ),
    "a stage removed": (lambda lock: lock.words.stages.pop(5), "stage 5 was .*, is gone"),
    "another head of words": (
        lambda lock: setattr(lock.words, "head", "<BBIHBxQQQQ"),
        "the head of words was 0xc1 <BBHHBxQQQQ, is 0xc1 <BBIHBxQQQQ",
    ),
    "another beginning of words": (
        lambda lock: setattr(lock.words, "begin", 0xC2),
        "the head of words was 0xc1",
    ),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_change_that_breaks_logs_is_found(change: str) -> None:
    break_it, expected = BREAKING[change]
    now = deepcopy(current())
    break_it(now)

    with pytest.raises(AssertionError, match=expected):
        assert broken_rules(current(), now) == []


def test_a_retired_tag_is_not_used_again() -> None:
    lock = current()
    lock.retired = {16: lock.types.pop(16).name}

    assert broken_rules(lock, current()) == [
        "tag 16 was that of LoopAdvanced; take another for LoopAdvanced"
    ]


def test_what_is_appended_breaks_nothing() -> None:
    now = deepcopy(current())
    now.types[2].fields.append(Field("unit", "str", "''"))
    now.types[90] = Schema("New", [])
    now.types[4].fields[9].choices.append("evicted")
    now.records.append(Schema("Other", []))
    now.words.codes[max(now.words.codes) + 1] = "on_other ran"
    now.words.stages[max(now.words.stages) + 1] = "calibrate"

    assert broken_rules(current(), now) == []


def test_the_lock_sees_names_types_defaults_and_choices() -> None:
    class Example(msgspec.Struct):
        number: int
        texts: list[str] = msgspec.field(default_factory=list)
        end: "float | None" = None

    assert schema_of(Example).fields == [
        Field("number", "int"),
        Field("texts", "list[str]", "[]"),
        Field("end", "float | None", "None"),
    ]


def test_the_lock_sees_each_code_that_a_hook_can_be_recorded_with() -> None:
    recorded = read_lock().words.codes

    assert set(ACTIONS) <= set(recorded)
    assert recorded[code_at(ran("on_after_backward", "on_before_optimizer_step"))] == (
        "on_after_backward ran, on_before_optimizer_step ran"
    )
    assert recorded[code_at(begin("backward", "on_before_backward"))] == (
        "on_before_backward ran, backward began"
    )
    assert recorded[code_at(end("optimizer_step"))] == "optimizer_step ended"


def code_at(code: int) -> int:
    """A code as it stands in a word's high byte."""
    return code >> SHIFT
