"""Parquet: what pyarrow reads back."""

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.sinks.testing import SinkContract, some_puts


def read(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / "metrics.parquet").to_pylist()
    return [{**row, "value": repr(row["value"])} for row in rows]  # NaN equals itself


class TestParquet(SinkContract):
    def make(self, folder: Path) -> nb.Parquet:
        return nb.Parquet(folder)

    def read(self, folder: Path) -> Any:
        return read(folder)


def test_each_put_is_a_row(tmp_path: Path) -> None:
    run = trainer(tmp_path, sinks=[nb.Parquet()])
    run.fit(Small(), loader(), loader(8))
    assert run.log_dir is not None

    (row,) = read(Path(run.log_dir))

    assert (row["name"], row["stage"], row["step"]) == ("val_loss", "validate", 5)
    assert float(row["value"]) == float(run.logged_metrics["val_loss"])
    assert not list(Path(run.log_dir).glob("*.arrows"))


def test_rows_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    sink = nb.Parquet(tmp_path)
    sink.open(False)
    sink.write(some_puts(6))
    sink.flush()

    with pa.OSFile(str(tmp_path / "metrics.parquet.arrows")) as file:
        rows = sum(batch.num_rows for batch in pa.ipc.open_stream(file))

    assert rows == 6
    sink.close()


def test_a_later_attempt_adds_to_a_finished_file(tmp_path: Path) -> None:
    puts = some_puts(30)
    first = nb.Parquet(tmp_path)
    first.open(False)
    first.write(puts[:10])
    first.finish()
    state = dict(first.state())
    first.close()
    assert len(read(tmp_path)) == 10

    second = nb.Parquet(tmp_path)
    second.load_state(state)
    second.open(True)
    second.write(puts[10:])
    second.finish()
    second.close()

    assert [float(row["value"]) for row in read(tmp_path)] == pytest.approx(
        [float(put.value) for put in puts], nan_ok=True
    )
    assert sum(math.isnan(float(row["value"])) for row in read(tmp_path)) > 0


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "metrics.parquet").write_text("mine")

    with pytest.raises(nb.NightbusError, match="exists already"):
        nb.Parquet(tmp_path).open(False)
