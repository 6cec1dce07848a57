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


class _Recording:
    """A log that is being written, the place in training, and hooks.

    Args:
        run: where the log is.
        attempt: its number.
    """

    def __init__(self, run: RunFolder, attempt: int) -> None:
        self.run = run
        self.place, self.store = Place(), run.store(attempt)
        self.writer = LogWriter(
            self.store, LogIdentity(run.info.id), self.place, segment_bytes=4000
        )
        self.routes = Routes(self.place)
        self.routes.set_handlers(
            {
                "training_step": [lambda: None],
                "backward": [self.writer.flush],
                "on_mine": [lambda: None],
                "on_other": [self.writer.flush],
            }
        )

    def emit(self, kind: type[Any], *fields: Any, source: str = "") -> None:
        self.writer.append(self.writer.event(kind, *fields, source=source))

    def record_at_once(self, *hooks: str) -> None:
        recorder = self.place.recorder
        recorder.record(recorder.clock_ns() + ran(*hooks))


def write_run(root: Path) -> RunFolder:
    """A run with all that the format can hold: every type of event, a sealed segment, a compressed
    one, one that was cut off by a kill, and events of a type that this version does not know.
    """
    run = RunFolder.create(root, "golden")
    lock = run.begin_attempt()
    log = _Recording(run, lock.attempt)
    _begin(log)
    _steps_with_metrics(log)
    _steps_of_hooks(log)
    _validation(log)
    _other_events(log)
    _event_of_another_version(log)
    log.emit(LoopEnded, 10, source="fit")
    log.emit(RunEnded, "stopped", "enough")
    log.writer.flush()
    last = log.store.path(log.store.indices()[-1])
    killed = last.read_bytes()
    log.writer.close()
    lock.release()
    last.write_bytes(killed.rstrip(b"\0") + bytes(64))
    compress_segment(log.store, 1)
    return run


def _begin(log: _Recording) -> None:
    """Frames without hooks, and a hook without a code of its own."""
    emit, run = log.emit, log.run.info.id
    config = {"max_epochs": 2, "precision": "32", "lr": 0.1, "fast_dev_run": False, "none": None}
    fork = Fork(0, 41, "checkpoints/epoch=0")
    emit(RunStarted, run, 1, "fit", 1, config, {"torch": "2"}, fork, {"lr": 0.1, "n": 3})
    emit(ActorStarted, "CSV", 0, source="csv")
    emit(Resumed)
    log.routes.call("on_fit_start")
    log.place.move(stage="train")
    emit(LoopStarted, 10, "epoch", source="fit")
    emit(LoopStarted, None, "round", source="mine")
    emit(LoopAdvanced, 1, source="mine")
    log.writer.flush()


def _steps_with_metrics(log: _Recording) -> None:
    """Frames of a step each, with metrics among the hooks."""
    for step in range(24):
        log.place.begin_batch(step)
        log.routes.call("on_train_batch_start")
        for number, value in enumerate(VALUES if step % 8 == 0 else VALUES[:1]):
            labels = ("loggers", "progress_bar")
            log.emit(Put, f"value/{number}", value, labels, "", source="module")
        log.routes.call("on_train_batch_end")
        log.place.complete_step(step + 1)
        log.writer.flush()


def _steps_of_hooks(log: _Recording) -> None:
    """Frames of several steps: hooks with others at one time, with and without codes of their own,
    and one that outlasts its frame.
    """
    for step in range(24, 36):
        log.place.begin_batch(step)
        log.record_at_once(*BEFORE_THE_STEP)
        log.routes.call("training_step")
        if step == 30:
            log.routes.call("backward")
            log.routes.call("on_mine")
            log.routes.call("on_other")
        log.place.complete_step(step + 1)
        log.record_at_once("on_train_batch_end", "on_batch_end")
        if step % 4 == 3:
            log.writer.flush()


def _validation(log: _Recording) -> None:
    """Another stage, with a dataloader that is not the first."""
    with log.place.in_stage("validate"):
        log.place.move(dataloader_idx=2)
        log.routes.call("on_validation_start")
    log.writer.flush()


def _other_events(log: _Recording) -> None:
    """A frame with the other types of events, and a name beyond ASCII."""
    emit = log.emit
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
    log.writer.flush()


def _event_of_another_version(log: _Recording) -> None:
    writer = log.writer
    seq = writer.written_seq
    unknown = [OF_ANOTHER_VERSION, seq, "a field", {"and": [1, 2.5, None]}]
    payload = encode_events([], [], [unknown])
    frame = pack_frame(writer._mark, KIND_EVENTS, payload, 1, seq, writer.clock_ns(), 1)
    writer._file.append(frame)
    writer._flushed_seq += 1


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
