"""JSON lines: what a line holds."""

import json
from pathlib import Path

import pytest

import nightbus as nb
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.sinks.testing import SinkContract, record, some_puts


class TestJSONLines(SinkContract):
    def make(self, folder: Path) -> nb.JSONLines:
        return nb.JSONLines(folder)

    def read(self, folder: Path) -> bytes:
        return (folder / "metrics.jsonl").read_bytes()


def test_a_line_says_when_where_and_what(tmp_path: Path) -> None:
    put = nb.Put(9, 1_500, 0, "train", 1, 2, 3, 0, "module", "a\nb", 0.5, ("loggers",), "h")

    written: bytes = TestJSONLines().deliver(tmp_path, [put])

    assert written.decode() == (
        '{"time":"1970-01-01T00:00:00.000001Z","epoch":1,"step":2,"stage":"train",'
        '"name":"a\\nb","value":0.5,"source":"module"}\n'
    )


@pytest.mark.parametrize(("value", "written"), [(True, "1"), (False, "0")])
def test_a_bool_is_a_number(tmp_path: Path, value: bool, written: str) -> None:
    put = nb.Put(0, 0, 0, "train", 0, 0, 0, 0, "m", "x", value, ("loggers",), "h")

    line: bytes = TestJSONLines().deliver(tmp_path, [put])

    assert f'"value":{written},' in line.decode()


def test_times_are_those_of_the_run_also_in_its_second_attempt(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "times")
    record(run, some_puts(3), [nb.JSONLines(tmp_path)])
    record(run, some_puts(3), [nb.JSONLines(tmp_path)])

    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    times = [json.loads(line)["time"] for line in lines]
    assert len(times) == 6
    assert times == sorted(times)
    assert all(time.startswith("20") for time in times)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 5e-324, 1.7976931348623157e308])
def test_numbers_at_the_edge_come_back_to_the_bit(tmp_path: Path, value: float) -> None:
    put = nb.Put(0, 0, 0, "train", 0, 0, 0, 0, "m", "x", value, ("loggers",), "h")

    written: bytes = TestJSONLines().deliver(tmp_path, [put])

    assert json.loads(written)["value"] == value
