"""A replay of a run whose log lacks events says how many."""

import json
from pathlib import Path

import pytest

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.events import Gap, Put, RunEnded, RunStarted
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.run_folder import RunFolder

PUTS = 4_000


def recorded(root: Path, gap: int = 0, segment_bytes: int = 1 << 30) -> RunFolder:
    """A run of some puts, in several segments if they are small, and with a Gap if there is one."""
    run = RunFolder.create(root, "run")
    lock = run.begin_attempt()
    writer = LogWriter(
        run.store(0), LogIdentity(run.info.id, 0), Place(), segment_bytes=segment_bytes
    )
    writer.append(writer.event(RunStarted, run.info.id, 0, "fit", 1, {}, {}))
    for number in range(PUTS):
        writer.append(writer.event(Put, "loss", float(number), ("loggers",), "", source="m"))
        if number % 100 == 0:
            writer.flush()
    if gap:
        writer.append(writer.event(Gap, gap, "the disk is full", source="log"))
    writer.append(writer.event(RunEnded, "completed", ""))
    writer.close()
    lock.release()
    return run


def test_a_run_without_gaps_is_replayed_whole(tmp_path: Path) -> None:
    run = recorded(tmp_path)

    assert nb.replay(run, sinks=[nb.CSV(tmp_path)]).missing == 0
    assert main(["replay", str(run.path), "--csv", str(tmp_path / "out")]) == 0


def test_events_that_could_not_be_written_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path, gap=1_204)

    assert main(["replay", str(run.path), "--csv", str(tmp_path / "out")]) == 3

    assert "1,204 events are missing in the recording" in capsys.readouterr().err


@pytest.mark.parametrize("gone", [0, 1])
def test_events_of_a_segment_that_is_gone_are_counted_with_those_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: int
) -> None:
    run = recorded(tmp_path, segment_bytes=1 << 16)
    store = run.store(0)
    assert len(store.indices()) > 2
    store.path_there(gone).unlink()

    code = main(["replay", str(run.path), "--csv", str(tmp_path / "out"), "--json"])

    said = capsys.readouterr()
    report = json.loads(said.out)
    assert code == 3
    delivered = report["sinks"][0]["events"]
    assert report["missing"] + delivered == PUTS + 2
    assert f"{report['missing']:,} events are missing" in said.err


def test_attach_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded(tmp_path, gap=1)

    assert main(["attach", str(run.path), "--csv", str(tmp_path / "out")]) == 3

    assert "1 event is missing in the recording" in capsys.readouterr().err
