"""CSV and JSON lines: the contract, the formats, and live equals replay."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.errors import SinkError
from nightbus.sinks.testing import SinkContract, some_puts


class TestCSVContract(SinkContract):
    def make(self, folder: Path) -> nb.Sink:
        return nb.CSV(folder)

    def read(self, folder: Path) -> Any:
        return (folder / "metrics.csv").read_bytes()


class TestJSONLinesContract(SinkContract):
    def make(self, folder: Path) -> nb.Sink:
        return nb.JSONLines(folder)

    def read(self, folder: Path) -> Any:
        return (folder / "metrics.jsonl").read_bytes()


def put(seq: int, name: str, value: float, step: int, epoch: int = 0) -> nb.Put:
    return nb.Put(seq, seq, 0, "train", epoch, step, 0, 0, "m", name, value, ("loggers",), "h")


def written(folder: Path, puts: list[nb.Put]) -> list[dict[str, str]]:
    TestCSVContract().deliver(folder, puts)
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_puts_of_one_place_share_a_row(tmp_path: Path) -> None:
    rows = written(tmp_path, [put(0, "a", 1, 0), put(1, "b", 2, 0), put(2, "a", 3, 1)])

    assert rows == [
        {"epoch": "0", "step": "0", "stage": "train", "a": "1", "b": "2"},
        {"epoch": "0", "step": "1", "stage": "train", "a": "3", "b": ""},
    ]


def test_a_name_that_comes_twice_begins_a_row(tmp_path: Path) -> None:
    rows = written(tmp_path, [put(0, "a", 1, 0), put(1, "a", 2, 0)])

    assert [row["a"] for row in rows] == ["1", "2"]


def test_a_new_column_fills_up_the_rows_before_it(tmp_path: Path) -> None:
    rows = written(tmp_path, [put(n, "a", n, n) for n in range(5)] + [put(5, "late", 9, 9)])

    assert [row["late"] for row in rows] == ["", "", "", "", "", "9"]


@settings(max_examples=30, deadline=None)
@given(values=st.lists(st.floats(), max_size=20), name=st.text(min_size=1, max_size=20))
def test_numbers_come_back_to_the_bit_under_any_name(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], name: str
) -> None:
    name = "metric " + name.encode("utf-8", "ignore").decode().replace("\r", "")
    puts = [put(n, name, value, n) for n, value in enumerate(values)]

    rows = written(tmp_path_factory.mktemp("csv"), puts)

    found = [float(row[name]) for row in rows]
    assert all(
        a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, values, strict=True)
    )


def test_json_lines_are_json_also_for_nan_and_infinity(tmp_path: Path) -> None:
    values = [math.nan, math.inf, -math.inf, 0.5, 3]
    puts = [put(n, "x", value, n) for n, value in enumerate(values)]

    TestJSONLinesContract().deliver(tmp_path, puts)

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line, parse_constant=refuse)["value"] for line in lines]
    assert found == ["NaN", "Infinity", "-Infinity", 0.5, 3]


@pytest.mark.parametrize("sink", [nb.CSV, nb.JSONLines])
def test_an_existing_file_is_never_overwritten(tmp_path: Path, sink: Any) -> None:
    first = sink(tmp_path)
    first.open(False)
    first.close()

    with pytest.raises(SinkError, match="exists already and is not overwritten"):
        sink(tmp_path).open(False)


@pytest.mark.parametrize("sink", [nb.CSV, nb.JSONLines])
def test_a_file_that_was_cut_is_not_gone_on_with(tmp_path: Path, sink: Any) -> None:
    first = sink(tmp_path)
    first.open(False)
    first.write(some_puts())
    first.finish()
    first.close()
    state = first.state()
    first.path.write_bytes(b"")
    second = sink(tmp_path)
    second.load_state(state)

    with pytest.raises(SinkError, match="were delivered before"):
        second.open(True)


def test_replay_gives_the_same_bytes_as_the_run_did(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3, sinks=[nb.CSV(), nb.JSONLines()], log_every_n_steps=2)
    run.fit(Small(), loader(), loader(8))
    run.test(Small(), loader(8), verbose=False)
    assert run.log_dir is not None
    again = tmp_path / "again"

    nb.replay(run.log_dir, sinks=[nb.CSV(again), nb.JSONLines(again)])

    for name in ("metrics.csv", "metrics.jsonl"):
        live = (Path(run.log_dir) / name).read_bytes()
        assert live
        assert (again / name).read_bytes() == live


def test_a_sink_in_ten_lines(tmp_path: Path) -> None:
    class Lowest(nb.Sink):
        def __init__(self) -> None:
            self.lowest: dict[str, float] = {}

        def write(self, batch: list[nb.Put]) -> None:
            for put in batch:
                self.lowest[put.name] = min(put.value, self.lowest.get(put.name, math.inf))

    live, replayed = Lowest(), Lowest()
    run = trainer(tmp_path, sinks=[live])
    run.fit(Small(), loader(), loader(8))
    assert run.log_dir is not None
    nb.replay(run.log_dir, sinks=[replayed])

    assert set(live.lowest) == {"val_loss"}
    assert replayed.lowest == live.lowest


def test_a_coroutine_may_write(tmp_path: Path) -> None:
    class Async(nb.Sink):
        destination = "callbacks"

        def __init__(self) -> None:
            self.steps: list[int] = []

        async def write(self, batch: list[nb.Put]) -> None:
            self.steps += [put.step for put in batch]

    sink = Async()
    trainer(tmp_path, sinks=[sink]).fit(Small(), loader())

    assert sink.steps == [0, 1, 2, 3, 4, 5]
