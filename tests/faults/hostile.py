"""Run folders and checkpoints as a stranger might send them, made from sound ones.

Sound ones are made once; then each mutant differs from one of them in what a seeded chance picks:
bits, cuts, pieces copied over others, lengths that claim too much, frames whose checksum is right
though what they hold is not, compressed bombs, deep nesting.
"""

import argparse
import contextlib
import io
import json
import math
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from nightbus.__main__ import _parser, main
from nightbus.bus.errors import NightbusError
from nightbus.bus.events import EVENT_TYPES, PlainUserEvent
from nightbus.bus.inspection.report import summarise
from nightbus.bus.log.codes import ran
from nightbus.bus.log.format import (
    FRAME_HEAD,
    KIND_EVENTS,
    KIND_FOOTER,
    KIND_HEADER,
    MAGIC,
    TRAILER,
    Footer,
    SegmentHeader,
    pack_frame,
)
from nightbus.bus.log.layout import MAX_WORDS, PAYLOAD_HEAD, WORDS_BEGIN
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import compress_segment
from nightbus.bus.log.summary import Summary
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.replay.replay import replay
from nightbus.bus.runs.cursor import Cursor, CursorFile, RunReader, attempt_logs, list_cursors
from nightbus.bus.runs.run_folder import RunFolder

LOG = "attempt-000/rank-00000/000000.nlog"
COMPRESSED = LOG + ".zst"
OTHER_LOG = "attempt-001/rank-00000/000000.nlog.zst"


def example(kind: Any, seed: int = 0) -> Any:
    """A value of a type, the same for the same seed."""
    import types
    import typing

    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return arguments[-1 - seed % len(arguments)]
    if origin in (typing.Union, types.UnionType):
        return example(next(a for a in arguments if a is not type(None)), seed)
    if origin is tuple:
        return tuple(example(a, seed) for a in arguments if a is not Ellipsis)
    if origin is dict:
        return {f"{seed}-{i}": example(arguments[1], seed + i) for i in range(2)}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return kind(*(example(field.type, seed + i) for i, field in enumerate(fields)))
    plain: dict[Any, Any] = {
        bool: True,
        int: seed + 1,
        float: seed + 0.5,
        str: f"text {seed}",
        bytes: bytes(range(seed % 256)),
    }
    return plain[kind]


def make_run(root: Path, steps: int = 12) -> RunFolder:
    """A run of two attempts: every type of event, hooks with and without marks; and a cursor."""
    run = RunFolder.create(root, "sample")
    for _ in range(2):
        lock = run.begin_attempt()
        place, store = Place(), run.store(lock.attempt)
        identity = LogIdentity(run.info.id, lock.attempt)
        writer = LogWriter(store, identity, place)
        for number in range(steps):
            place.complete_step(number)
            writer.add_hook("on_train_batch_end", writer.clock_ns(), 5)
            if number % 2:
                writer.add_hook("on_mine", writer.clock_ns(), 5)
            for kind in EVENT_TYPES.values():
                fields = msgspec.structs.fields(kind)[9:]
                if kind.__name__ != "Hook":
                    values = [example(field.type, number + i) for i, field in enumerate(fields)]
                    writer.append(writer.event(kind, *values, source="sample"))
            seen = msgspec.msgpack.encode({"path": "a.png", "scores": [0.5, 1.5], "raw": b"x"})
            writer.append(writer.event(PlainUserEvent, "", "team.Seen", seen, source="sample"))
            writer.flush()
        writer.close()
        lock.release()
    compress_segment(run.store(1), 0)
    CursorFile(run, "csv").commit(Cursor(1, 5, "CSV", {"size": 10, "name": "metrics.csv"}))
    return run


# -- mutants of bytes ----------------------------------------------------------------------------


def flip_bits(data: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        if mutant:
            mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
    return bytes(mutant)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def drop_piece(data: bytes, chance: random.Random) -> bytes:
    begin = chance.randrange(len(data) + 1)
    return data[:begin] + data[begin + chance.randrange(64) :]


def copy_piece(data: bytes, chance: random.Random) -> bytes:
    source, target = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
    return data[:target] + data[source : source + chance.randrange(512)] + data[target:]


def fill_block(data: bytes, chance: random.Random) -> bytes:
    """A block of the disk is zeroes, or anything."""
    begin, size = chance.randrange(len(data) + 1), chance.choice((16, 512, 4096))
    block = bytes(size) if chance.random() < 0.5 else chance.randbytes(size)
    return data[:begin] + block[: len(data) - begin] + data[begin + size :]


def claim_much(data: bytes, chance: random.Random) -> bytes:
    """Four bytes anywhere that are a large number."""
    begin = chance.randrange(max(1, len(data) - 4))
    number = chance.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 1 << 20, (1 << 20) + 1, 0))
    layout = chance.choice(("<I", ">I"))
    return data[:begin] + struct.pack(layout, number) + data[begin + 4 :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits,
    cut,
    drop_piece,
    copy_piece,
    fill_block,
    claim_much,
)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """One or two mutations."""
    for _ in range(chance.choice((1, 1, 1, 2))):
        data = chance.choice(MUTATIONS)(data, chance)
    return data


def mutate_inside(data: bytes, chance: random.Random) -> bytes:
    """A log with a mutated frame whose checksum is right all the same."""
    frames = list(frames_of(data))
    at, end = chance.choice(frames)
    mark, _, _, count, kind, flags, first_seq, time_ns = FRAME_HEAD.unpack_from(data, at)
    payload = data[at + FRAME_HEAD.size : end]
    choice = chance.randrange(9)
    if choice == 0:
        payload = nest(chance)
    elif choice == 1:
        count = chance.choice((0, 1, 0xFFFF))
    elif choice == 2:
        first_seq = chance.choice((0, 1, 1 << 63, (1 << 64) - 1))
    elif choice == 3:
        kind = chance.randrange(256)
    elif choice == 4:
        payload = mutate_words(payload, chance)
    else:
        payload = mutate(payload, chance)
    frame = pack_frame(mark, kind, payload, count, first_seq, time_ns, flags)
    return data[:at] + frame + data[end:]


def mutate_words(payload: bytes, chance: random.Random) -> bytes:
    """A payload that claims any number of words and names, or whose words have any marks."""
    if len(payload) <= PAYLOAD_HEAD.size or payload[0] != WORDS_BEGIN:
        return mutate(payload, chance)
    head = list(PAYLOAD_HEAD.unpack_from(payload))
    number, words_end = head[2], PAYLOAD_HEAD.size + 8 * head[2]
    words = bytearray(payload[PAYLOAD_HEAD.size : words_end])
    field = chance.randrange(1, len(head) + 4)
    if field in (2, 3):
        head[field] = chance.choice((0, 1, head[field] + 1, 0x7FFF, 0xFFFF))
    elif field < len(head):
        head[field] = chance.choice((0, 1, 5, 6, 0xFF))
    else:
        for _ in range(chance.choice((1, 1, 4))):
            words[8 * chance.randrange(number) + 7] = chance.randrange(256)
    return PAYLOAD_HEAD.pack(*head) + bytes(words) + payload[words_end:]


HOSTILE_VALUES: tuple[bytes, ...] = (
    b"null",
    b"-1",
    b"0",
    b"1e400",
    b"-1e308",
    b"99999999999999999999999999",
    b"9223372036854775807",
    b"true",
    b'""',
    b'"../../../../etc/passwd"',
    b'"/dev/zero"',
    b'"a\\u0000b"',
    b'"\\ud800"',
    b'"\xff\xfe"',
    b'"os.system"',
    b'{"__reduce__": ["os.system", "true"]}',
    b'"' + b"a" * 100_000 + b'"',
    b"[" * 100_000,
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 100_000,
)


def mutate_json(data: bytes, chance: random.Random) -> bytes:
    """JSON in which some value is another one; or a mutant like any other."""
    values = list(re.finditer(rb'(?<=[:\[,])\s*("[^"]*"|[-\d.e]+|true|false|null)', data))
    if not values or chance.random() < 0.4:
        return mutate(data, chance)
    begin, end = chance.choice(values).span(1)
    return data[:begin] + chance.choice(HOSTILE_VALUES) + data[end:]


# Numbers that are right where one is expected, and names that nobody expects.
STRANGE_NUMBERS: tuple[float, ...] = (
    0, 1, -1, 1 << 31, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), 1 << 63, (1 << 64) - 1,
    0.5, -0.0, 5e-324, -5e-324, 2.2e-308, 1e-300, 1e300, 1e308, 1.7e308, -1.7e308,
    math.inf, -math.inf, math.nan,
)  # fmt: skip
STRANGE_NAMES = (
    "loss",
    "",
    " ",
    "-o",
    "$\\frac{1}{",
    "$a^{b$ and $\\sqrt{$",
    "_hidden",
    "\x1b]0;title\x07",
    "\x7f\x85\x9b31m",
    "\u202eback\u2066",
    "zero\u200bwidth\ufeff",
    "two\nlines\u2028three",
    "[bold]marked[/bold]",
    "%s {0} {name}",
    "a" * 5_000,
    "\u0303" * 50,
    "\U0001f600",
)
_UNPRINTABLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def strange_log(data: bytes, chance: random.Random) -> bytes:
    """A log after the head of a sound one, whose events have numbers and names that a log may have
    but nobody expects.
    """
    head_end = next(end for _, end in frames_of(data))
    mark = FRAME_HEAD.unpack_from(data, next(begin for begin, _ in frames_of(data)))[0]

    def number(whole: bool = True) -> Any:
        found = chance.choice(STRANGE_NUMBERS)
        return (
            int(found)
            if whole and math.isfinite(found) and abs(found) < 2e19
            else (0 if whole else found)
        )

    def text(_: Any = None) -> str:
        return chance.choice(STRANGE_NAMES)

    events: list[Any] = []
    values = [number(whole=False) for _ in range(chance.choice((1, 2, 30)))]
    if chance.random() < 0.3:
        values = values[:1] * len(values)
    name = text()
    for value in values:
        name = name if chance.random() < 0.7 else text()
        step = len(events) if chance.random() < 0.7 else number()
        place = [0, "train", chance.choice((0, number())), step, -1, 0]
        events.append([2, len(events), number(), *place, "m", name, value, ["loggers"], ""])
    if chance.random() < 0.5:
        fork = None
        at = [number(), 0, "", 0, 0, -1, 0]
        started = [text(), number(), text(), number(), {text(): text()}, {}, fork, {text(): 1.0}]
        events.insert(0, [3, 0, *at, "", *started])
        events.append([4, len(events), *at, "", "failed", text()])
        events.append([6, len(events), *at, text(), text(), text(), text(), text()])
        for seq, event in enumerate(events):
            event[1] = seq
    if chance.random() < 0.5:
        held = chance.choice(
            (number(whole=False), text(), [text()], {text(): b"x"}, nested(chance))
        )
        fields = msgspec.msgpack.encode({text(): held, text(): None})
        data = mutate(fields, chance) if chance.random() < 0.5 else fields
        place = [0, "train", 0, 0, -1, 0]
        events.append([20, len(events), number(), *place, "m", text(), text(), data])
    payload = msgspec.msgpack.encode([[], [], events])
    return data[:head_end] + pack_frame(mark, KIND_EVENTS, payload, len(events), 0, 0, 1)


def nested(chance: random.Random) -> Any:
    """Lists and dicts in one another, fewer or more than anyone shows."""
    found: Any = 1
    for number in range(chance.choice((3, 31, 32, 33, 200))):
        found = {number: found} if chance.random() < 0.5 else [found]
    return found


def strange_json(chance: random.Random) -> bytes:
    """A run.json that is no run's, or hardly."""
    number = chance.choice((-(1 << 63), -1, (1 << 63) - 1, (1 << 64) - 1, 1 << 70, 1e308))
    info: dict[str, Any] = {"id": "sample-1", "name": "sample", "created_ns": 0, "argv": []}
    choice = chance.randrange(8)
    if choice == 0:
        return chance.choice((b"[]", b"null", b"3", b"{}", b"", b"\xff\xfe", b'"run"'))
    if choice == 1:
        return b"[" * 100_000
    if choice == 2:
        return b'{"id":' * 100_000
    if choice == 3:
        info["created_ns"] = number
    elif choice == 4:
        info[chance.choice(list(info))] = chance.choice(([], {}, None, 1.5, "text", [[1]]))
    elif choice == 5:
        info["name"] = chance.choice(STRANGE_NAMES)
    elif choice == 6:
        info["id"] = chance.choice(STRANGE_NAMES)
    else:
        info["argv"] = [chance.choice(STRANGE_NAMES) for _ in range(3)]
    return json.dumps(info).encode("utf-8" if chance.random() < 0.9 else "utf-16")


def nest(chance: random.Random) -> bytes:
    """Arrays in arrays, or maps in maps, far deeper than anything means."""
    depth = chance.choice((100, 1_000, 10_000, 200_000))
    return chance.choice((b"\x91", b"\x93", b"\x81\xa1a", b"\x81")) * depth


def frames_of(data: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each frame."""
    at = len(MAGIC)
    while at + FRAME_HEAD.size <= len(data):
        end = at + FRAME_HEAD.size + FRAME_HEAD.unpack_from(data, at)[2]
        if end > len(data):
            return
        yield at, end
        at = end


def compressed(body: bytes, footer: bytes = b"", hide_size: bool = False) -> bytes:
    """A compressed segment with these bytes behind its magic."""
    if hide_size:
        packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
        packed = packer.compress(body) + packer.flush()
    else:
        packed = zstandard.ZstdCompressor().compress(body)
    footer = footer or pack_frame(7, KIND_FOOTER, msgspec.msgpack.encode(Footer(0, 0, Summary())))
    return MAGIC + packed + footer + TRAILER.pack(len(MAGIC) + len(packed), MAGIC)


def crafted_logs() -> list[tuple[str, bytes]]:
    """Logs that are made to hurt: name of the file, and its bytes."""
    header = pack_frame(
        7, KIND_HEADER, msgspec.msgpack.encode(SegmentHeader((1, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0))
    )
    huge = struct.pack(">BI", 0xDD, 0xFFFFFFFF)  # an array of 4 G entries
    four_hooks = ran(
        "on_before_batch_transfer",
        "on_after_batch_transfer",
        "on_batch_start",
        "on_train_batch_start",
    )
    return [
        (COMPRESSED, compressed(bytes(100 << 20))),
        (COMPRESSED, compressed(bytes(100 << 20), hide_size=True)),
        (COMPRESSED, compressed(header + bytes((64 << 20) - 200))),
        (LOG, MAGIC + header + FRAME_HEAD.pack(7, 0, 0xFFFFFFFF, 1, KIND_EVENTS, 0, 0, 0)),
        *(
            (LOG, MAGIC + header + pack_frame(7, kind, payload, 1, 0, 0, 1))
            for kind in (KIND_EVENTS, KIND_FOOTER, 99)
            for payload in (
                huge,
                b"\x93" + huge * 3,
                b"\x93\x90\x90" + huge,
                b"\x93\x90\x90\xdd" + struct.pack(">I", (1 << 20) - 8) + b"\x90" * ((1 << 20) - 8),
                b"\x93\x90\xdd" + struct.pack(">I", (1 << 18) - 8) + b"\x93\xa0\0\0" * (1 << 18),
                b"\x91" * (1 << 20),
                b"\x81\xa1a" * 300_000,
                b"\x93\x90\x90\x91\xc6\xff\xff\xff\xff",
                words_claimed(MAX_WORDS, 0xFFFF),
                words_claimed(MAX_WORDS, 0, struct.pack("<Q", four_hooks) * MAX_WORDS),
                words_claimed(MAX_WORDS, 0, struct.pack("<QQ", 0, four_hooks) * MAX_WORDS),
                words_claimed(MAX_WORDS, 5, struct.pack("<Q", four_hooks) * MAX_WORDS + huge),
                words_claimed(1, 0xFFFF, bytes(8) + b"\xdc\xff\xfc" + b"\xa0" * 0xFFFC),
                words_claimed(1, 0xFFFF, bytes(8) + b"\x91" * 0xFFFF),
                words_claimed(1, 0, struct.pack("<Q", four_hooks) + huge),
            )
        ),
    ]


def words_claimed(number: int, names_bytes: int, rest: bytes = b"") -> bytes:
    """A payload that says it holds so many words and bytes of names."""
    return PAYLOAD_HEAD.pack(WORDS_BEGIN, 0, number, names_bytes, 1, 0, 0, 0, 0) + rest


# -- reading, in every way there is --------------------------------------------------------------


def read_run(path: Path) -> str:
    """Open a run folder in every way there is, and catch only our own errors.

    Returns:
        Our errors; empty if there were none.
    """
    refused = []
    for way in (_read_events, _summarise, _read_cursors, _replay):
        try:
            way(path)
        except NightbusError as error:
            refused.append(f"{type(error).__name__}: {error}")
    return "; ".join(refused)


def _read_events(path: Path) -> None:
    reader = RunReader(attempt_logs(RunFolder.open(path)))
    try:
        while True:
            before = reader.position
            if not reader.read("all") and reader.position == before:
                return
    finally:
        reader.close()


def _summarise(path: Path) -> None:
    summarise(RunFolder.open(path))


def _read_cursors(path: Path) -> None:
    run = RunFolder.open(path)
    for name in list_cursors(run):
        CursorFile(run, name).load()


def _replay(path: Path) -> None:
    replay(path)


OUT = "OUT"
PICTURE = "OUT.png"
# How verbs are called that do little without options; any other is called with those that it needs.
_FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "show": ((), ("--plot",), ("--plot", "--x", "time", "--all-attempts")),
    "plot": ((), ("-o", PICTURE), ("-o", PICTURE, "--x", "time")),
    "tail": (("-n", "40", "--kind", "all"), ("-f", "-n", "1")),
    "replay": (("--csv", OUT), ("--jsonl", OUT), ("--resume",)),
    "attach": (("--csv", OUT),),
    "send": (("status",),),
    "tag": (("strange",),),
    "note": ((), ("strange",)),
    "rename": (("strange",),),
    "archive": (("--undo",),),
    "rm": ((),),  # without a terminal it refuses, once it has looked at the run
}


def _reading_verbs() -> Iterator[tuple[str, ...]]:
    """Each verb that the command line has, in each form, for people and for programs."""
    actions = _parser()._actions
    verbs = next(action for action in actions if isinstance(action, argparse._SubParsersAction))
    for name, verb in verbs.choices.items():
        if name in ("run", "board"):  # run the script that they are given, serve until stopped
            continue
        needed = [a.option_strings[0] for a in verb._actions if a.required and a.option_strings]
        for form in _FORMS.get(name, (tuple(word for each in needed for word in (each, OUT)),)):
            yield (name, *form)
            if "--json" in verb._option_string_actions and "--plot" not in form:
                yield (name, *form, "--json")


READING_VERBS = tuple(_reading_verbs())
# Verbs that take more than one run.
_TAKES_TWO = frozenset(["diff", "compare"])


def read_with_verb(verb: tuple[str, ...], path: Path) -> str:
    """Give a run folder to a verb of the command line, in this process.

    Returns:
        What the verb said to people if it was not done; else nothing.
    """
    code, _, said = _call(verb, path)
    return said if code else ""


def shown_by_verb(verb: tuple[str, ...], path: Path) -> str:
    """All that a verb says of a run folder."""
    return "".join(_call(verb, path)[1:])


def _call(verb: tuple[str, ...], path: Path) -> tuple[int, str, str]:
    out = path.parent / "out"
    picture = path.parent / "picture.png"
    files = {OUT: str(out), PICTURE: str(picture)}
    name, *options = [files.get(part, part) for part in verb]
    run = str(path.parent if name == "ls" else path)
    runs = [run, run] if name in _TAKES_TWO else [run]
    shown, said = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
            code = main([name, *runs, *options])
    finally:
        shutil.rmtree(out, ignore_errors=True)
        picture.unlink(missing_ok=True)
    if found := _UNPRINTABLE.search(shown.getvalue() + said.getvalue()):
        raise AssertionError(f"{name} shows {found[0]!r} as it is")
    return code, shown.getvalue(), said.getvalue()
