"""CSV: what the file looks like, and that it is the same however it came about."""

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nightbus as nb
from nightbus.bus.errors import SinkError
from nightbus.bus.events import Stage
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.sinks.testing import SinkContract, record


class TestCSV(SinkContract):
    def make(self, folder: Path) -> nb.CSV:
        return nb.CSV(folder)

    def read(self, folder: Path) -> bytes:
        return (folder / "metrics.csv").read_bytes()


CONTRACT = TestCSV()


def put(
    name: str, value: float = 1, step: int = 0, epoch: int = 0, stage: Stage = "train"
) -> nb.Put:
    return nb.Put(0, 0, 0, stage, epoch, step, 0, 0, "m", name, value, ("loggers",), "h")


def text(folder: Path, *puts: nb.Put) -> str:
    data: bytes = CONTRACT.deliver(folder, list(puts))
    return data.decode()


def test_a_run_that_put_nothing_leaves_the_header(tmp_path: Path) -> None:
    assert text(tmp_path) == "epoch,step,stage\n"


def test_numbers_are_written_as_python_writes_them(tmp_path: Path) -> None:
    puts = [put("x", value, n) for n, value in enumerate((0.1, 3, 1e-300, math.nan, -math.inf))]

    cells = [line.split(",")[3] for line in text(tmp_path, *puts).splitlines()[1:]]

    assert cells == ["0.1", "3", "1e-300", "nan", "-inf"]


def test_a_bool_is_a_number(tmp_path: Path) -> None:
    written = text(tmp_path, put("a", True, 0), put("a", False, 1), put("a", 0.5, 2))

    assert written == "epoch,step,stage,a\n0,0,train,1\n0,1,train,0\n0,2,train,0.5\n"


def test_a_missing_value_is_empty(tmp_path: Path) -> None:
    written = text(tmp_path, put("a", 1, 0), put("b", 2, 1))

    assert written == "epoch,step,stage,a,b\n0,0,train,1,\n0,1,train,,2\n"


def test_validation_at_the_same_step_has_its_own_row(tmp_path: Path) -> None:
    written = text(tmp_path, put("a", 1), put("a_val", 2, stage="validate"))

    assert written == "epoch,step,stage,a,a_val\n0,0,train,1,\n0,0,validate,,2\n"


def test_a_row_that_was_begun_when_an_attempt_stopped_is_gone_on_with_by_the_next(
    tmp_path: Path,
) -> None:
    run, puts = RunFolder.create(tmp_path, "stopped"), [put("loss", 1), put("mean", 2), put("loss")]
    record(run, puts[:1], [nb.CSV(tmp_path)], how="stopped")
    after_the_stop = (tmp_path / "metrics.csv").read_text()
    record(run, puts[1:], [nb.CSV(tmp_path)])

    assert after_the_stop == "epoch,step,stage,loss\n0,0,train,1\n"
    assert (tmp_path / "metrics.csv").read_text() == text(tmp_path / "whole", *puts)


def test_a_metric_called_step_does_not_hide_the_step(tmp_path: Path) -> None:
    written = text(tmp_path, put("step", 5), put("step.1", 6))

    assert written == "epoch,step,stage,step.1,step.1.1\n0,0,train,5,6\n"


@pytest.mark.parametrize("name", ['a,"b"', "a\nb", "a\r\nb", " a ", "=1+1", "naïve 测"])
def test_any_name_comes_back_from_a_csv_reader(tmp_path: Path, name: str) -> None:
    text(tmp_path, put(name, 7), put("later", 8, 1))

    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first[name], second["later"]) == ("7", "8")


def test_a_file_with_other_columns_is_not_gone_on_with(tmp_path: Path) -> None:
    first = nb.CSV(tmp_path)
    first.open(False)
    first.write([put("a")])
    first.finish()
    first.flush()
    first.close()
    state = first.state()
    first.path.write_text("epoch,step,stage,mine\n" + "0,0,train,1\n" * 9)
    second = nb.CSV(tmp_path)
    second.load_state(state)

    with pytest.raises(SinkError, match="begins with the columns epoch, step, stage, mine"):
        second.open(True)
    assert "mine" in first.path.read_text()


def test_a_new_column_does_not_need_the_file_in_memory(tmp_path: Path) -> None:
    rows = 150_000  # more than a chunk
    puts = [put("a", n, n) for n in range(rows)]

    lines = text(tmp_path, *puts, put("b", 1, rows)).splitlines()

    assert lines[:2] == ["epoch,step,stage,a,b", "0,0,train,0,"]
    assert lines[-2:] == [f"0,{rows - 1},train,{rows - 1},", f"0,{rows},train,,1"]
    assert all(line.endswith(",") for line in lines[1:-1])


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    text(tmp_path, put("a"), put("b", step=1))

    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


NAMES = st.sampled_from(["a", "b", "c", "step", 'q"', "x,y", "l\nf"])
PUTS = st.lists(
    st.builds(put, NAMES, st.floats() | st.integers(-5, 5), st.integers(0, 2), st.integers(0, 1)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(puts=PUTS, cuts=st.tuples(st.integers(0, 25), st.integers(0, 25)))
def test_a_crash_anywhere_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, puts: list[nb.Put], cuts: tuple[int, int]
) -> None:
    kept, delivered = sorted(cuts)
    folder = tmp_path_factory.mktemp("csv")
    whole = CONTRACT.deliver(folder / "whole", puts)
    crashed = nb.CSV(folder)
    crashed.open(False)
    crashed.write(puts[:kept])
    crashed.flush()
    state = crashed.state()
    for later in puts[kept:delivered]:
        crashed.write([later])
        crashed.flush()
    crashed.close()

    resumed = nb.CSV(folder)
    resumed.load_state(state)
    resumed.open(True)
    resumed.write(puts[kept:])
    resumed.finish()
    resumed.flush()
    resumed.close()

    assert CONTRACT.read(folder) == whole


@settings(max_examples=60, deadline=None)
@given(puts=PUTS)
def test_every_put_is_in_the_table_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, puts: list[nb.Put]
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    CONTRACT.deliver(folder, puts)

    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    names = list(dict.fromkeys(each.name for each in puts))
    found = {
        name: [
            (int(row[0]), int(row[1]), float(row[3 + column])) for row in rows if row[3 + column]
        ]
        for column, name in enumerate(names)
    }
    expected = {
        name: [(each.epoch, each.step, float(each.value)) for each in puts if each.name == name]
        for name in names
    }
    assert repr(found) == repr(expected)  # as text, because nan is not equal to itself
