"""The contract every sink must pass, users' own too.

Subclass ``SinkContract`` in a test file, say how to make the sink and how to read what it left::

    class TestMySink(SinkContract):
        def make(self, folder):
            return MySink(folder)

        def read(self, folder):
            return (folder / "out").read_bytes()
"""

import math
from pathlib import Path
from typing import Any

from ..bus.cursor import PlainState
from ..bus.events import Put
from .sink import Sink


def some_puts(number: int = 60) -> list[Put]:
    """Puts of a short training: several metrics, late ones too, NaN and infinities."""
    puts = []
    for seq in range(number):
        step = seq // 3
        name = ("loss", "accuracy", 'a, "quoted" name' if step > 5 else "rate")[seq % 3]
        value: Any = (0.1 * seq, seq, math.nan if seq % 7 else math.inf)[seq % 3]
        destinations = ("progress_bar", "callbacks", "loggers")
        puts.append(
            Put(
                seq,
                1000 * seq,
                0,
                "train",
                step // 10,
                step,
                step % 10,
                0,
                "module",
                name,
                value,
                destinations,
                "training_step",
            )
        )
    return puts


class SinkContract:
    """Tests that hold for every sink; see the module."""

    def make(self, folder: Path) -> Sink:
        """A new sink that writes below ``folder``."""
        raise TypeError(f"{type(self).__name__} must define make(self, folder)")

    def read(self, folder: Path) -> Any:
        """What the sink left, in a form that can be compared."""
        raise TypeError(f"{type(self).__name__} must define read(self, folder)")

    def deliver(self, folder: Path, *batches: list[Put]) -> Any:
        """What is left after these batches and a proper end."""
        sink = self.make(folder)
        sink.open(False)
        for batch in batches:
            sink.write(batch)
            sink.flush()
        sink.finish()
        sink.flush()
        sink.close()
        return self.read(folder)

    def test_what_is_left_does_not_depend_on_how_events_are_batched(self, tmp_path: Path) -> None:
        puts = some_puts()

        at_once = self.deliver(tmp_path / "a", puts)
        one_by_one = self.deliver(tmp_path / "b", *[[put] for put in puts])

        assert at_once == one_by_one

    def test_a_sink_goes_on_from_its_state_after_a_crash(self, tmp_path: Path) -> None:
        puts, folder = some_puts(), tmp_path / "a"
        whole = self.deliver(tmp_path / "b", puts)

        crashed = self.make(folder)
        crashed.open(False)
        crashed.write(puts[:20])
        crashed.flush()
        state: PlainState = dict(crashed.state())
        crashed.write(puts[20:33])  # written, but the state was not kept: delivered once more
        crashed.flush()
        crashed.close()
        resumed = self.make(folder)
        resumed.load_state(state)
        resumed.open(True)
        resumed.write(puts[20:])
        resumed.finish()
        resumed.flush()
        resumed.close()

        assert self.read(folder) == whole

    def test_a_sink_that_gets_nothing_leaves_something_readable(self, tmp_path: Path) -> None:
        self.deliver(tmp_path / "a", [])
