"""What is in the log's files, as ``schemas.lock`` holds it, and which changes it allows.

    python tests/schema_lock.py           what differs from the lock; exit code 1 if anything does
    python tests/schema_lock.py --extend  put what is new into the lock

A log is read by versions that are years older and younger than the one that wrote it. So a field
may only be appended, with a default; it keeps its name, place, type and default; the number of a
type is never used again. The same goes for the codes of words and the numbers of stages: they are
only appended to. ``--extend`` refuses anything else. A type that is not written any more
goes from ``types`` to ``retired`` by hand, and its number stays there.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from nightbus.bus.events import EVENT_TYPES, Fork
from nightbus.bus.log import codes
from nightbus.bus.log.codec import HookRecord, PlaceRecord
from nightbus.bus.log.format import Footer, SegmentHeader
from nightbus.bus.log.layout import PAYLOAD_HEAD, WORDS_BEGIN
from nightbus.bus.log.summary import HookTotal, MetricTotal, Summary

PATH = Path(__file__).parents[1] / "schemas.lock"
RECORDS: list[type[msgspec.Struct]] = [
    PlaceRecord,
    HookRecord,
    Fork,
    SegmentHeader,
    Footer,
    Summary,
    HookTotal,
    MetricTotal,
]


_ACTION_NAMES = {codes.RAN: "ran", codes.BEGIN: "began", codes.END: "ended"}
_MEANINGS = {**_ACTION_NAMES, codes.NEXT: "is the next"}


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """One field: ``default`` is empty if it has none; ``choices`` are a Literal's."""

    name: str
    type: str
    default: str = ""
    choices: list[str] = []


class Schema(msgspec.Struct, frozen=True):
    """One struct: its name, and its fields in their order."""

    name: str
    fields: list[Field]


class Words(msgspec.Struct):
    """What lies in a frame of words.

    Attributes:
        begin: the first byte of its payload.
        head: layout of the payload's head, as the module struct writes it.
        stages: by number.
        codes: what the number in a word is, or what happened at that time, by the word's code.
    """

    begin: int
    head: str
    stages: dict[int, str]
    codes: dict[int, str]


class Lock(msgspec.Struct):
    """All that lies on disk.

    Attributes:
        types: events by tag.
        records: other structs.
        words: what is noted of a step as it goes.
        retired: names of events that are not written any more, by tag.
    """

    types: dict[int, Schema]
    records: list[Schema]
    words: Words
    retired: dict[int, str] = {}


def schema_of(kind: type[msgspec.Struct]) -> Schema:
    """A struct as the lock holds it."""
    return Schema(kind.__name__, [_field_of(field) for field in msgspec.structs.fields(kind)])


def _field_of(field: msgspec.structs.FieldInfo) -> Field:
    default = ""
    if field.default is not msgspec.NODEFAULT:
        default = repr(field.default)
    elif field.default_factory is not msgspec.NODEFAULT:
        default = repr(field.default_factory())
    if get_origin(field.type) is Literal:
        return Field(field.name, "Literal", default, [str(each) for each in get_args(field.type)])
    return Field(field.name, _type_name(field.type), default)


def _type_name(kind: Any) -> str:
    if not get_args(kind):
        return str(getattr(kind, "__name__", kind))
    return re.sub(r"typing\.|nightbus\.bus\.(log\.)?", "", str(kind))


def _current_words() -> Words:
    fixed = {
        codes.STAGE: "stage",
        codes.EPOCH: "epoch",
        codes.STEP: "step",
        codes.BATCH_IDX: "batch_idx",
        codes.DATALOADER_IDX: "dataloader_idx",
        codes.NAME: "name",
    }
    meanings = {code >> codes.SHIFT: meaning for code, meaning in fixed.items()}
    for action, did in _ACTION_NAMES.items():
        meanings[codes.NAMED + action] = f"the named hook {did}"
    for code, actions in codes.ACTIONS.items():
        meanings[code] = ", ".join(f"{name} {_MEANINGS[action]}" for action, name in actions)
    return Words(
        WORDS_BEGIN,
        str(PAYLOAD_HEAD.format),
        {number: stage for stage, number in codes.STAGE_NUMBERS.items()},
        dict(sorted(meanings.items())),
    )


def current() -> Lock:
    """What this version writes."""
    return Lock(
        {tag: schema_of(kind) for tag, kind in sorted(EVENT_TYPES.items())},
        [schema_of(kind) for kind in RECORDS],
        _current_words(),
    )


def broken_rules(lock: Lock, now: Lock) -> list[str]:
    """What a log that was written by the locked version, or is read by it, does not survive."""
    found = []
    for tag, name in lock.retired.items():
        if tag in now.types:
            found.append(f"tag {tag} was that of {name}; take another for {now.types[tag].name}")
    for tag, old in lock.types.items():
        if tag in now.types:
            found += _broken_in(old, now.types[tag])
        else:
            found.append(f"{old.name} is gone; its tag {tag} belongs to 'retired'")
    records = {schema.name: schema for schema in now.records}
    for old in lock.records:
        found += (
            _broken_in(old, records[old.name]) if old.name in records else [f"{old.name} is gone"]
        )
    return found + _broken_words(lock.words, now.words)


def _broken_words(old: Words, new: Words) -> list[str]:
    found = []
    if (old.begin, old.head) != (new.begin, new.head):
        found.append(
            f"the head of words was {old.begin:#x} {old.head}, is {new.begin:#x} {new.head}"
        )
    for what, before, after in (
        ("code", old.codes, new.codes),
        ("stage", old.stages, new.stages),
    ):
        found += [
            f"{what} {number} was '{meaning}', is {_quoted(after.get(number))}"
            for number, meaning in before.items()
            if after.get(number) != meaning
        ]
    return found


def _quoted(meaning: str | None) -> str:
    return "gone" if meaning is None else f"'{meaning}'"


def _broken_in(old: Schema, new: Schema) -> list[str]:
    found = []
    if old.name != new.name:
        found.append(f"{old.name} is called {new.name} now: a tag keeps its type")
    for number, field in enumerate(old.fields):
        if number >= len(new.fields):
            found.append(f"{old.name}.{field.name} is gone")
            continue
        other = new.fields[number]
        same = msgspec.structs.replace(other, choices=field.choices)
        if same != field:
            found.append(f"field {number} of {old.name} was {_tell(field)}, is {_tell(other)}")
        elif other.choices[: len(field.choices)] != field.choices:
            found.append(f"{old.name}.{field.name} no longer takes all of {field.choices}")
    found += [
        f"{new.name}.{field.name} is new and has no default: older logs lack it"
        for field in new.fields[len(old.fields) :]
        if not field.default
    ]
    return found


def _tell(field: Field) -> str:
    default = f" = {field.default}" if field.default else ""
    return f"{field.name}: {field.type}{default}"


def read_lock(path: Path = PATH) -> Lock:
    return msgspec.json.decode(path.read_bytes(), type=Lock)


def write_lock(lock: Lock, path: Path = PATH) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(lock), indent=1) + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--extend", action="store_true", help="put what is new into the lock")
    options = parser.parse_args()
    lock, now = read_lock(), current()
    for problem in broken_rules(lock, now):
        print(f"breaks logs: {problem}", file=sys.stderr)
    if broken_rules(lock, now):
        return 1
    now.retired = lock.retired
    if lock == now:
        return 0
    if options.extend:
        write_lock(now)
        return 0
    print(f"{PATH.name} lacks what is new; python tests/schema_lock.py --extend", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
