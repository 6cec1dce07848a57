"""FastLogWriter: writes steps in which the same happens as in earlier ones on a fast path.

A logged value is written at once, so a run that logs in each step writes at the end of each step.
There the fast path saves a quarter of a step (a tiny model, three values a step: 236 us a step
instead of 311). A run with only hooks writes every 50 ms, and saves nothing.

It writes the same bytes as ``LogWriter``, with less work: the codes of a step's words tell how many
hooks there are, where their times are, and that no hook is open at the end.
"""

import sys
from array import array
from typing import Any
from zlib import crc32

from ..system.uninterrupted import uninterrupted
from .codec import UNENCODABLE, encode_records
from .codes import BATCH_IDX, NAME, NUMBER, SHIFT, STAGE_NUMBERS
from .event_buffer import MAX_BUFFERED_NS
from .flight_recorder import MAX_STEP_NS
from .format import FRAME_HEAD, HAS_RECORDS, KIND_EVENTS, MAX_EVENTS_A_FRAME
from .layout import MAX_HOOKS, MAX_WORDS, PAYLOAD_HEAD, WORDS_BEGIN, Layout
from .trace import count_hooks
from .writer import COUNT_EVENTS_AT_ONCE, LogWriter

COUNT_FRAMES_AT_ONCE = 128
MAX_SHAPES = 64  # maximum number of known shapes, of steps, validation batches and so on

_HEAD_BYTES = FRAME_HEAD.size
_PAYLOAD_HEAD_BYTES = PAYLOAD_HEAD.size
_MAX_FAST_BYTES = PAYLOAD_HEAD.size + 8 * MAX_WORDS
_CODE_AT = 7 if sys.byteorder == "little" else 0


class StepShape:
    """The properties of steps in which the same happens.

    Args:
        codes: of the words.

    Attributes:
        codes: the same.
        number: of words.
        count: hooks that ran or ended.
        hooks: name, which words are the times of its end and its begin, and by how much the two
            differ because of their codes.
        rows: words of steps that are written, to be counted.
    """

    __slots__ = ("codes", "count", "hooks", "number", "rows")

    def __init__(self, codes: bytes) -> None:
        layout = Layout(codes)
        self.codes = codes
        self.number = len(codes)
        self.count = len(layout.names)
        self.hooks = [
            (name, at, begun, codes[at] - codes[begun] << SHIFT)
            for name, at, begun in zip(layout.names, layout.times, layout.begun, strict=True)
        ]
        self.rows: list[bytes] = []


_NO_SHAPE = StepShape(bytes([BATCH_IDX >> SHIFT]))  # without a hook: not for the fast path


class FastLogWriter(LogWriter):
    """Writes like ``LogWriter``, and steps of known shapes faster.

    Args:
        *args: as for ``LogWriter``.
        **kwargs: as for ``LogWriter``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._shapes: dict[bytes, StepShape] = {}  # of steps so far, by their codes
        self._shape = _NO_SHAPE  # of the last
        self._begin = array("Q", [0])  # of a frame: its segment's tag and its checksum,
        self._head = array("Q", [0] * 8)  # and what lies between those and the words
        super().__init__(*args, **kwargs)

    def leave_to_parent(self) -> None:
        super().leave_to_parent()
        self._forget_shapes()  # so that the ordinary flush refuses to write

    def flush(self, wait: bool = False) -> None:
        # The processor's caches are full of other things at a step's end, so what counts is how
        # many functions and objects this takes: hence arrays all the way, and nothing of struct.
        trace, shape = self.trace, self._shape
        row = trace.words.tobytes()
        codes = row[_CODE_AT::8]
        steps = len(codes) // shape.number
        if codes != shape.codes * steps:
            shape, steps = self._shape_of(codes)
        if not (steps and shape.count) or self._underway is not None or self._pending:
            self._flush_and_learn(wait, codes)
            return
        records = self.records
        count, size = shape.count * steps, _PAYLOAD_HEAD_BYTES + len(row)
        head = self._head
        stage, head[4], head[5], head[6], head[7] = trace.origin
        head[3] = WORDS_BEGIN | len(codes) << 16 | stage << 48
        head[2] = time_ns = self.recorder.clock_ns()
        head[1] = self._flushed_seq
        head[0] = size | count << 32 | KIND_EVENTS << 48
        body: array[int] | bytes = head + trace.words
        if records:
            try:
                tail = encode_records(records)
            except UNENCODABLE:
                super().flush(wait)
                return
            count += len(records)
            size += len(tail)
            head[0] = size | count << 32 | KIND_EVENTS << 48 | HAS_RECORDS << 56
            body = (head + trace.words).tobytes() + tail
        self._begin[0] = self._mark | crc32(body) << 32
        end = self._file.size - self._file.base + _HEAD_BYTES + size
        if end > self._file.room or size > _MAX_FAST_BYTES or count > MAX_EVENTS_A_FRAME:
            super().flush(wait)
            return
        self._commit_known(body, end, count, len(codes), time_ns, row, shape)
        if len(shape.rows) > COUNT_FRAMES_AT_ONCE:
            self._count_rows(shape)
        if len(self._uncounted) > COUNT_EVENTS_AT_ONCE:
            self._count()
        if self._file.size >= self._rotate_at:
            self._rotate()

    @uninterrupted
    def _commit_known(
        self,
        body: "array[int] | bytes",
        end: int,
        count: int,
        words: int,
        time_ns: int,
        row: bytes,
        shape: StepShape,
    ) -> None:
        """Write a frame and remove its content from the buffers.

        Args:
            body: of the frame, behind its tag and checksum, which are in ``_begin``.
            end: of the frame, in the file's window.
            count: events in it.
            words: number of words in it.
            time_ns: of the frame.
            row: its words.
            shape: of each of its steps.
        """
        file, trace, place, records = self._file, self.trace, self.place, self.records
        recorder, begin = self.recorder, file.size - file.base
        file.window[begin + 8 : end] = body
        file.window[begin : begin + 8] = self._begin
        file.size = file.base + end
        self._flushed_seq = self._readable_seq = self._flushed_seq + count
        self.committed = (self._index, file.size)
        self._written_ns = time_ns
        self._shape = shape
        recorder.flush_due_ns = time_ns + MAX_BUFFERED_NS
        recorder.flush_latest_ns = time_ns + MAX_STEP_NS
        trace.origin = (
            STAGE_NUMBERS[place.stage],
            place.epoch,
            place.step,
            place.batch_idx & NUMBER,
            place.dataloader_idx,
        )
        trace.removed += words
        del trace.words[:]
        self._counted_words = self._counted_hooks = 0
        shape.rows += (row,)
        self._uncounted += records
        del records[:]

    # -- which steps are known -----------------------------------------------------------------

    def _shape_of(self, codes: bytes) -> tuple[StepShape, int]:
        """Return the shape of one of several alike steps, and their number."""
        for shape in self._shapes.values():
            steps = len(codes) // shape.number
            if codes == shape.codes * steps:
                return shape, steps
        return _NO_SHAPE, 0

    def _flush_and_learn(self, wait: bool, codes: bytes) -> None:
        """Flush without the fast path; the shape of the step is known from then on."""
        super().flush(wait)
        if self.trace.base_ns or sys.byteorder != "little":
            return
        if self.trace.words or NAME >> SHIFT in codes or not 0 < count_hooks(codes) <= MAX_HOOKS:
            return  # a hook has not ended, or needs a name
        step = codes[: (codes + codes).find(codes, 1)]  # the shortest that they are repeated of
        if step in self._shapes:
            return  # it was written the plain way for another reason, and has steps to be counted
        if len(self._shapes) >= MAX_SHAPES:
            self._count_all_rows()
            self._forget_shapes()
        self._shapes[step] = StepShape(step)

    def _forget_shapes(self) -> None:
        self._shape = _NO_SHAPE
        self._shapes.clear()

    # -- the summary ---------------------------------------------------------------------------

    def _count_rows(self, shape: StepShape) -> None:
        rows, width = shape.rows, shape.number
        words = array("Q", b"".join(rows))
        number = len(words) // width
        if not number:
            return
        totals = self._totals_with(
            (name, number, sum(words[at::width]) - sum(words[begun::width]) - number * codes)
            if at != begun
            else (name, number, 0)
            for name, at, begun, codes in shape.hooks
        )
        self._hook_totals = totals
        del rows[:]

    def _count_all_rows(self) -> None:
        for shape in self._shapes.values():
            self._count_rows(shape)

    def _complete_summary(self) -> None:
        self._count_all_rows()
        super()._complete_summary()
