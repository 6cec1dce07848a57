"""Writes the golden run of this format version, once, before it is released.

    python tests/golden_log.py

A golden run is never written again: it is what users of that version have on their disks. A later
format version gets a folder of its own beside it.
"""

import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import msgspec
from helpers import encode_events

from nightbus.bus.events import (
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    ActorTotals,
    CheckpointSaved,
    CommandsDropped,
    CommandTaken,
    DeadLetter,
    Fault,
    Fork,
    Gap,
    LoopAdvanced,
    LoopEnded,
    LoopStarted,
    Media,
    Put,
    Resumed,
    RunEnded,
    RunStarted,
)
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.codes import ran
from nightbus.bus.log.format import FORMAT_MAJOR, FORMAT_MINOR, KIND_EVENTS, pack_frame
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import compress_segment
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.routes import Routes
from nightbus.bus.runs.run_folder import RunFolder

ODD_NAN = struct.unpack("<d", bytes.fromhex("efbeadde0000f87f"))[0]
VALUES = [0.1, 1e-308, -0.0, math.nan, ODD_NAN, math.inf, -math.inf, 2**63 - 1, -(2**63), True]
BEFORE_THE_STEP = (
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
)
GOLDEN = Path(__file__).parent / "golden"
OF_ANOTHER_VERSION = 99  # a tag that no version uses


def as_json(event: DecodedEvent) -> dict[str, Any]:
    """An event's type and fields; floats by their bits."""
    fields = {name: _plain(getattr(event, name)) for name in event.__struct_fields__}
    return {"type": type(event).__name__, **fields}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return {"float": struct.pack("<d", value).hex()}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, msgspec.Struct):
        return [_plain(getattr(value, name)) for name in value.__struct_fields__]
    return value


def write_run(root: Path) -> RunFolder:
    """A run with all that the format can hold: every type of event, a sealed segment, a compressed
    one, one that was cut off by a kill, and events of a type that this version does not know; hooks
    with and without marks of their own, with others at one time, and one that outlasts its frame;
    frames with metrics among the hooks, with several steps, and without hooks.
    """
    run = RunFolder.create(root, "golden")
    lock = run.begin_attempt()
    place, store = Place(), run.store(lock.attempt)
    writer = LogWriter(store, LogIdentity(run.info.id), place, segment_bytes=4000)
    routes = Routes(place)
    routes.set_handlers(
        {
            "training_step": [lambda: None],
            "backward": [writer.flush],
            "on_mine": [lambda: None],
            "on_other": [writer.flush],
        }
    )

    def emit(kind: type[Any], *fields: Any, source: str = "") -> None:
        writer.append(writer.event(kind, *fields, source=source))

    config = {"max_epochs": 2, "precision": "32", "lr": 0.1, "fast_dev_run": False, "none": None}
    fork = Fork(0, 41, "checkpoints/epoch=0")
    emit(RunStarted, run.info.id, 1, "fit", 1, config, {"torch": "2"}, fork, {"lr": 0.1, "n": 3})
    emit(ActorStarted, "CSV", 0, source="csv")
    emit(Resumed)
    routes.call("on_fit_start")
    place.move(stage="train")
    emit(LoopStarted, 10, "epoch", source="fit")
    emit(LoopStarted, None, "round", source="mine")
    emit(LoopAdvanced, 1, source="mine")
    writer.flush()
    for step in range(24):
        place.begin_batch(step)
        routes.call("on_train_batch_start")
        for number, value in enumerate(VALUES if step % 8 == 0 else VALUES[:1]):
            emit(Put, f"value/{number}", value, ("loggers", "progress_bar"), "", source="module")
        routes.call("on_train_batch_end")
        place.complete_step(step + 1)
        writer.flush()
    recorder = place.recorder
    for step in range(24, 36):
        place.begin_batch(step)
        recorder.record(recorder.clock_ns() + ran(*BEFORE_THE_STEP))
        routes.call("training_step")
        if step == 30:
            routes.call("backward")
            routes.call("on_mine")
            routes.call("on_other")
        place.complete_step(step + 1)
        recorder.record(recorder.clock_ns() + ran("on_train_batch_end", "on_batch_end"))
        if step % 4 == 3:
            writer.flush()
    with place.in_stage("validate"):
        place.move(dataloader_idx=2)
        routes.call("on_validation_start")
    writer.flush()
    emit(Put, "ünïcode \U0001f68c", 1.5, (), "on_train_batch_end", source="größe")
    for kind in ("image", "figure", "histogram", "text", "table"):
        emit(Media, kind, kind, b"\x00\xff data", ("loggers",), "validation_step", source="module")
    emit(CommandTaken, "fit", "Stop", '{"reason":"enough"}', source="control")
    emit(Fault, "ValueError", "it broke", "Traceback ...", "on_fit_start", source="csv")
    emit(ActorRestarted, 1, 0.25, source="csv")
    emit(ActorStopped, "gave up", 12, source="csv")
    emit(CommandsDropped, "csv", "Pause", "drop_oldest", 3, source="control")
    emit(ActorTotals, "CSV", "stopped", 40, 2, 1, 1, 9, 5, 3, 1, 4, source="csv")
    emit(DeadLetter, "nobody", "Pause", "there is no actor", source="control")
    emit(CheckpointSaved, "checkpoints/epoch=0", "ab" * 16, 1234, source="checkpoint")
    emit(Gap, 3, "[Errno 28] No space left on device")
    writer.flush()
    seq = writer.written_seq
    unknown = [OF_ANOTHER_VERSION, seq, "a field", {"and": [1, 2.5, None]}]
    payload = encode_events([], [], [unknown])
    frame = pack_frame(writer._mark, KIND_EVENTS, payload, 1, seq, writer.clock_ns(), 1)
    writer._file.append(frame)
    writer._flushed_seq += 1
    emit(LoopEnded, 10, source="fit")
    emit(RunEnded, "stopped", "enough")
    writer.flush()
    killed = store.path(store.indices()[-1]).read_bytes()
    writer.close()
    lock.release()
    store.path(store.indices()[-1]).write_bytes(killed.rstrip(b"\0") + bytes(64))
    compress_segment(store, 1)
    return run


def main() -> int:
    version = f"{FORMAT_MAJOR}.{FORMAT_MINOR}"
    folder = GOLDEN / version
    if folder.exists():
        print(f"{folder} is there already, and is never written again", file=sys.stderr)
        return 1
    folder.mkdir()
    run = write_run(folder)
    run.path.rename(folder / "run")
    (folder / "run" / "attempt-000" / "lock").unlink()
    reader = LogReader(RunFolder.open(folder / "run").store(0))
    lines = [json.dumps(as_json(event), sort_keys=True) for event in reader.events()]
    reader.close()
    (folder / "events.jsonl").write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
