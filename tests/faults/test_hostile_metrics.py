"""Values and names that a log could choke on: refused where they are put, or bounded."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Recording, read_to_end
from models import Small, loader, trainer

import nightbus as nb
from nightbus.actors.checkpoints.format import write_checkpoint
from nightbus.bus.errors import CheckpointError, MetricError
from nightbus.bus.log.reader import EndKind
from nightbus.bus.log.segments import FolderStore, read_footer
from nightbus.bus.log.summary import MAX_METRICS

TEN_MB = "x" * 10_000_000
NAMES: list[Any] = ["", TEN_MB, 5, None, b"bytes", ["x"], "half a pair \udcff"]
ODD_NAMES = ["größe \U0001f68c", "nul \0", "line\nbreak", "../../etc", "\u202e right to left"]
VALUES: list[Any] = ["text", TEN_MB, b"\xff", [1, 2], {}, None, object(), torch.zeros(2), 1j]
VALUES += [np.str_("text"), np.zeros(2), np.bytes_(b"x"), torch.tensor(1j)]
ODD_VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**30),
    2**64,
    1e-320,
    torch.tensor(math.nan),
]


class Hostile(Small):
    """Puts all of it in its first step, and counts what is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if batch_idx == 0:
            for name in NAMES:
                self.attempt(name, 1.0)
            for value in VALUES:
                self.attempt("value", value)
            for name in ODD_NAMES:
                self.put(name, 1.0)
            for number, value in enumerate(ODD_VALUES):
                self.put(f"odd/{number}", value)
            self.attempt_text("text", TEN_MB * 20)
        return super().training_step(batch, batch_idx)

    def attempt(self, name: Any, value: Any) -> None:
        try:
            self.put(name, value)
        except MetricError as error:
            self.refused.append(str(error))

    def attempt_text(self, name: str, text: str) -> None:
        try:
            self.put_text(name, text)
        except MetricError as error:
            self.refused.append(str(error))


def test_what_is_no_metric_is_refused_where_it_is_put_and_the_log_stays_whole(
    tmp_path: Path,
) -> None:
    module = Hostile()
    run = trainer(tmp_path, max_epochs=1, sinks=[nb.CSV(), nb.JSONLines()])

    run.fit(module, loader())

    assert len(module.refused) == len(NAMES) + len(VALUES) + 1
    assert all(len(message) < 2_000 for message in module.refused)
    assert run.run_folder is not None
    events, end = read_to_end(run.run_folder.store(0))
    puts = [event for event in events if isinstance(event, nb.Put)]
    names = [put.name for put in puts if "loggers" in put.destinations]
    assert end.kind is EndKind.SEALED
    assert [event.seq for event in events] == list(range(len(events)))
    assert [name for name in names if name.startswith("odd/")] == [
        f"odd/{number}" for number in range(len(ODD_VALUES))
    ]
    assert set(ODD_NAMES) <= set(names)
    rows = (run.run_folder.path / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == len(names)


def test_very_many_names_take_a_bounded_summary_and_are_all_in_the_log(tmp_path: Path) -> None:
    log = Recording(tmp_path / "log")
    many = MAX_METRICS * 3
    for number in range(many):
        log.put(f"metric/{number}")
    log.writer.close()

    footer = read_footer(FolderStore(tmp_path / "log"), 0)
    events, end = read_to_end(log.store)

    assert footer is not None
    assert len(footer.summary.metrics) <= MAX_METRICS
    assert footer.summary.events == {"Put": many}
    assert [event.name for event in events if isinstance(event, nb.Put)] == [
        f"metric/{number}" for number in range(many)
    ]
    assert end.kind is EndKind.SEALED


@pytest.mark.parametrize("size", [1 << 20, 10_000_000])
def test_an_event_of_ten_megabytes_is_refused_by_the_log_itself(tmp_path: Path, size: int) -> None:
    log = Recording(tmp_path / "log")
    log.steps(1)
    log.put("x" * size)

    with pytest.raises(MetricError, match="one event takes more than 1048576 bytes"):
        log.writer.flush()

    log.steps(1)
    log.writer.close()
    events, end = read_to_end(log.store)
    assert sum(isinstance(event, nb.Put) for event in events) == 2
    assert end.kind is EndKind.SEALED


@pytest.mark.parametrize("state", [object(), {"half a pair \udcff": [print]}])
def test_a_checkpoint_that_cannot_hold_the_state_is_refused_with_our_own_error(
    tmp_path: Path, state: Any
) -> None:
    with pytest.raises(CheckpointError, match=r"state\.mine.* a checkpoint cannot hold"):
        write_checkpoint(tmp_path / "checkpoint", {"mine": state})

    assert list(tmp_path.iterdir()) == []
