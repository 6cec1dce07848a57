"""SQLite: what SQL finds."""

import math
import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.sinks.sqlite import SUPER_JOURNAL
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


def with_a_journal_that_names(database: Path, victim: Path) -> Path:
    """Leave a journal beside a database, as one that was killed, which says to remove a file."""
    if os.fork() == 0:
        connection = sqlite3.connect(database, isolation_level=None)
        connection.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN;")
        connection.execute("UPDATE filled SET number = number + 1")
        os._exit(0)
    os.wait()
    journal = database.with_name(f"{database.name}-journal")
    name = os.fsencode(victim)
    with journal.open("ab") as file:  # https://www.sqlite.org/fileformat2.html#the_rollback_journal
        file.write(struct.pack(">I", (1 << 30) // 4096 + 1) + name)
        file.write(struct.pack(">II", len(name), sum(name)) + SUPER_JOURNAL)
    return journal


def filled(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE filled (number)")
        connection.executemany("INSERT INTO filled VALUES (?)", [(n,) for n in range(1000)])


def test_a_strangers_journal_cannot_have_a_file_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("notes")
    run = trainer(tmp_path, sinks=[nb.SQLite()])
    run.fit(Logs(), loader(), loader(8))
    database = Path(run.log_dir or "") / "metrics.sqlite"
    filled(database)
    journal = with_a_journal_that_names(database, mine)

    resumed = trainer(tmp_path, max_epochs=3, sinks=[nb.SQLite()])
    resumed.fit(Logs(), loader(), loader(8), ckpt_path="last")

    assert mine.read_text() == "notes"
    faults = {each.message for each in events(resumed, nb.Fault, attempt=1)}
    assert any(f"{journal} was not written by SQLite()" in message for message in faults)
