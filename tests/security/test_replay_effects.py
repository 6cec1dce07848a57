"""Replay changes nothing and reaches nobody unless it is told to."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hostile
import pytest
from helpers import DEADLINE_S, eventually

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.errors import NightbusError, UsageError
from nightbus.bus.runs.cursor import Cursor, CursorFile
from nightbus.bus.runs.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return hostile.make_run(tmp_path, steps=2)


class Listening:
    """A server of this machine that counts who connects, and hangs up."""

    def __init__(self) -> None:
        self.visitors = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.visitors += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # close alone does not wake who accepts
        self._socket.close()
        self._thread.join(DEADLINE_S)


@pytest.fixture
def server() -> Iterator[Listening]:
    listening = Listening()
    yield listening
    listening.close()


class Phones(nb.Sink):
    """Connects to a server when it is opened."""

    destination = None
    uses_network = True
    port: ClassVar[int] = 0

    def open(self, resumed: bool) -> None:
        socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE_S).close()

    def write(self, batch: list[Any]) -> None:
        pass


class Watches(nb.Actor):
    """Asks for things to be done."""

    @nb.on(nb.Put)
    async def look(self, put: nb.Put) -> None:
        self.tell("fit", nb.Stop(reason="enough"))
        self.put("seen", 1.0)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_replay_without_a_sink_changes_no_file(run: RunFolder) -> None:
    before = contents(run.path.parent)

    replayed = nb.replay(run, actors=[Watches()])

    assert replayed.commands
    assert contents(run.path.parent) == before


def test_a_replay_into_a_sink_changes_only_where_it_writes(run: RunFolder, tmp_path: Path) -> None:
    before = contents(run.path)

    nb.replay(run, sinks=[nb.CSV(tmp_path / "out")])

    assert contents(run.path) == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("given_as", ["sinks", "actors"])
def test_a_sink_that_uses_the_network_is_refused_before_it_is_opened(
    run: RunFolder, server: Listening, monkeypatch: pytest.MonkeyPatch, given_as: str
) -> None:
    monkeypatch.setattr(Phones, "port", server.port)

    with pytest.raises(UsageError, match=r"Phones would send.*allow_network=True"):
        nb.replay(run, **{given_as: [Phones()]})  # type: ignore[arg-type]

    assert server.visitors == 0


def test_a_sink_that_uses_the_network_is_served_when_that_is_allowed(
    run: RunFolder, server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Phones, "port", server.port)

    nb.replay(run, sinks=[Phones()], allow_network=True)

    assert eventually(lambda: server.visitors) == 1  # counted by another thread


def test_mlflow_with_a_server_is_reached_only_when_that_is_allowed(
    run: RunFolder, server: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{server.port}"

    with pytest.raises(UsageError, match="MLflow would send"):
        nb.replay(run, sinks=[nb.MLflow(tracking_uri=uri)])
    assert server.visitors == 0

    with pytest.raises(NightbusError, match=r"[Mm][Ll]flow"):  # which hangs up
        nb.replay(run, sinks=[nb.MLflow(tracking_uri=uri)], allow_network=True)
    assert server.visitors > 0


@pytest.mark.parametrize(
    ("uri", "is_network"),
    [
        ("mlruns", False),
        ("file:///tmp/mlruns", False),
        ("sqlite:///mlflow.db", False),
        ("http://localhost:5000", True),
        ("https://host", True),
        ("databricks", True),
        ("databricks://profile", True),
        ("postgresql://host/db", True),
    ],
)
def test_mlflow_uses_the_network_unless_it_writes_files(uri: str, is_network: bool) -> None:
    pytest.importorskip("mlflow")

    assert nb.MLflow(tracking_uri=uri).uses_network is is_network


@pytest.mark.parametrize(
    ("mode", "environment", "is_network"),
    [
        (None, None, True),
        ("online", "offline", True),
        (None, "online", True),
        ("offline", None, False),
        ("disabled", None, False),
        (None, "offline", False),
    ],
)
def test_wandb_uses_the_network_unless_it_is_offline(
    monkeypatch: pytest.MonkeyPatch, mode: Any, environment: str | None, is_network: bool
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)

    assert nb.WandB(mode=mode).uses_network is is_network


@pytest.mark.parametrize(
    "sink", [nb.CSV, nb.JSONLines, nb.SQLite, nb.Parquet, nb.TensorBoard, Watches]
)
def test_sinks_that_write_files_do_not_use_the_network(sink: Any) -> None:
    assert sink().uses_network is False


def test_the_command_line_replays_into_files_alone(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    CursorFile(run, "csv").commit(Cursor(0, 0, "WandB", {}))

    assert main(["replay", str(run.path), "--resume"]) == 3

    assert "allow_network=True" in capsys.readouterr().err
