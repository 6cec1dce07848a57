"""SQLite: what SQL finds."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.sinks.testing import SinkContract

METRICS = "SELECT rank, time_ns, stage, epoch, step, batch_idx, source, hook, name, value"


def ask(path: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(question).fetchall()


class TestSQLite(SinkContract):
    def make(self, folder: Path) -> nb.SQLite:
        return nb.SQLite(folder)

    def read(self, folder: Path) -> Any:
        return ask(folder / "metrics.sqlite", f"{METRICS} FROM metrics ORDER BY attempt, seq")


class Logs(Small):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "name": "small"})

    def on_train_epoch_end(self) -> None:
        self.put_dict({"nan": math.nan, "inf": math.inf})
        self.put_text("note", "hello")


def test_a_run_with_its_metrics_hyperparameters_and_media_is_there(tmp_path: Path) -> None:
    run = trainer(tmp_path, sinks=[nb.SQLite()])
    run.fit(Logs(), loader(), loader(8))
    assert run.log_dir is not None
    path = Path(run.log_dir) / "metrics.sqlite"

    ((run_id, attempt, how),) = ask(path, "SELECT run, attempt, how FROM runs")
    assert (run_id, attempt, how) == (Path(run.log_dir).name, 0, "completed")
    assert ask(path, "SELECT name, value FROM hparams") == [("name", "small"), ("rate", 0.1)]
    assert ask(path, "SELECT step, kind, data FROM media") == [(5, "text", b"hello")]
    logged = ask(path, "SELECT name, step, value FROM metrics WHERE name != 'val_loss'")
    assert logged == [("nan", 5, None), ("inf", 5, math.inf)]
    ((value,),) = ask(path, "SELECT value FROM metrics WHERE name = 'val_loss'")
    assert value == float(run.logged_metrics["val_loss"])


def test_several_runs_share_a_database(tmp_path: Path) -> None:
    for _ in range(2):
        trainer(tmp_path, sinks=[nb.SQLite(tmp_path / "all")]).fit(Logs(), loader(), loader(8))

    counts = ask(tmp_path / "all" / "metrics.sqlite", "SELECT count(*) FROM metrics GROUP BY run")
    assert counts == [(3,), (3,)]


def test_a_run_that_is_delivered_again_replaces_itself(tmp_path: Path) -> None:
    run = trainer(tmp_path, sinks=[nb.SQLite(tmp_path / "all")])
    run.fit(Logs(), loader(), loader(8))
    before = ask(tmp_path / "all" / "metrics.sqlite", "SELECT * FROM metrics")
    assert run.log_dir is not None

    nb.replay(run.log_dir, sinks=[nb.SQLite(tmp_path / "all")])

    assert ask(tmp_path / "all" / "metrics.sqlite", "SELECT * FROM metrics") == before


@pytest.mark.parametrize("content", ["database", "text"])
def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.sqlite"
    if content == "database":
        with closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE theirs (x)")
    else:
        path.write_text("This is no database at all. " * 9)
    before = path.read_bytes()

    with pytest.raises(nb.NightbusError, match=r"metrics\.sqlite"):
        nb.SQLite(tmp_path).open(False)

    assert path.read_bytes() == before


def test_integers_beyond_64_bits_are_there(tmp_path: Path) -> None:
    class LogsMuch(Logs):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"hidden": 1 << 63})

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("large", 1 << 63)
            return super().training_step(batch, batch_idx)

    run = trainer(tmp_path, sinks=[nb.SQLite()])
    run.fit(LogsMuch(), loader())

    path = Path(str(run.log_dir)) / "metrics.sqlite"
    assert ask(path, "SELECT DISTINCT value FROM metrics WHERE name = 'large'") == [(2.0**63,)]
    assert ask(path, "SELECT value FROM hparams WHERE name = 'hidden'") == [(str(1 << 63),)]
