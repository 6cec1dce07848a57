"""What every verb of the command line keeps to: options, answers for programs, exit codes."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.format import (
    DIGEST,
    STATE,
    TENSORS,
    remove_checkpoint,
    write_checkpoint,
)
from nightbus.bus.log.segments import compress_segment

Capture = pytest.CaptureFixture[str]

LOUD = """
import nightbus as nb

class Loud(nb.Actor):
    @nb.on(nb.Put, name="loss")
    async def watch(self, put):
        self.put("twice", 2 * put.value)
"""


def reported(capsys: Capture, *arguments: Any) -> tuple[int, Any]:
    """A verb's exit code and its report for programs."""
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def verbs(capsys: Capture) -> list[str]:
    with pytest.raises(SystemExit):
        main(["--help"])
    return re.findall(r"^    ([a-z][\w-]+)(?:  |$)", capsys.readouterr().out, flags=re.MULTILINE)


def test_a_name_is_that_of_one_run_though_longer_names_begin_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    runs = [nb.RunFolder.create(tmp_path / "runs", name) for name in ("digits", "digits-large")]
    monkeypatch.chdir(tmp_path)

    assert main(["show", "digits"]) == 0
    assert capsys.readouterr().out.startswith(runs[0].info.id)


def test_last_is_the_run_that_was_resumed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    resumed, newer = RecordedRun(tmp_path), RecordedRun(tmp_path)
    for run in (resumed, newer, resumed):
        run.steps(1)
    begun = [
        resumed.path / "run.json",
        resumed.path / "attempt-000/lock",
        newer.path / "run.json",
        newer.path / "attempt-000/lock",
        resumed.path / "attempt-001/lock",
    ]
    for time_s, file in enumerate(begun, start=1_000):
        os.utime(file, (time_s, time_s))
    monkeypatch.chdir(tmp_path)

    assert main(["show", "last"]) == 0
    assert capsys.readouterr().out.startswith(resumed.path.name)


def test_a_run_goes_on_while_any_process_holds_one_of_its_attempts(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path)
    assert not recorded.folder.is_running()
    first = recorded.attempt()
    first.steps(1)
    (recorded.folder.attempt_path(1)).mkdir()  # of a process that has only just begun

    assert recorded.folder.is_running()
    first.abandon()
    assert not recorded.folder.is_running()


# -- damage --------------------------------------------------------------------------------------


def flip_a_bit(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damage_of_a_compressed_segment_is_named_by_the_file_that_is_there(
    tmp_path: Path, capsys: Capture
) -> None:
    recorded = RecordedRun(tmp_path)
    run, store = recorded.steps(500), recorded.folder.store(0)
    flip_a_bit(store.path(0), store.path(0).stat().st_size // 4)
    compress_segment(store, 0)
    name = "attempt-000/rank-00000/000000.nlog.zst"

    _, examined = reported(capsys, "doctor", run)
    _, recovered = reported(capsys, "recover", run, "-o", tmp_path / "out")

    found = {finding["where"] for finding in examined["findings"]}
    assert found == {loss["where"] for loss in recovered["losses"]} == {name}
    (damage,) = [each for each in examined["findings"] if each["check"] == "damage"]
    assert re.match(r"\d+ bytes from byte [\d,]+ of the decompressed segment: ", damage["what"])
    assert damage["what"] in [loss["what"] for loss in recovered["losses"]]


@pytest.mark.parametrize("where", ["a frame of the last segment", "a footer"])
def test_show_says_what_it_cannot_read_and_who_looks_closer(
    tmp_path: Path, capsys: Capture, where: str
) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(50)
    attempt.end() if where == "a footer" else attempt.abandon()
    segment = recorded.folder.store(0).path(0)
    size = len(segment.read_bytes().rstrip(b"\0"))  # zeros were allocated ahead
    flip_a_bit(segment, size - 40 if where == "a footer" else size // 2)

    assert main(["show", str(recorded.path)]) == 3
    shown = capsys.readouterr()
    assert "nightbus: attempt 0: segment 0: " in shown.err
    assert f"look closer with: nightbus doctor {recorded.path}" in shown.err
    assert recorded.path.name in shown.out


def test_show_says_that_a_segment_it_lists_commands_of_is_damaged(
    tmp_path: Path, capsys: Capture
) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(50)
    attempt.add(nb.DeadLetter, "fit", "Stop", "it has ended")
    attempt.end()
    segment = recorded.folder.store(0).path(0)
    flip_a_bit(segment, segment.stat().st_size // 4)

    code, report = reported(capsys, "show", recorded.path)

    assert (code, len(report["attempts"][0]["damage"])) == (3, 1)
    assert report["metrics"]["loss"]["count"] == 50


@pytest.mark.parametrize("verb", ["show", "tail", "doctor"])
def test_to_look_at_a_killed_run_is_no_error_even_when_its_last_frame_is_not_whole(
    tmp_path: Path, capsys: Capture, verb: str
) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(50)
    attempt.abandon()
    _, end = attempt.writer.committed
    os.truncate(recorded.folder.store(0).path(0), end - 1)

    assert main([verb, str(recorded.path)]) == 0
    assert capsys.readouterr().err == ""


# -- checkpoints ---------------------------------------------------------------------------------


def saved(root: Path) -> tuple[Path, Path]:
    """A run without training that saved two checkpoints, and their folder."""
    recorded = RecordedRun(root)
    attempt, folder = recorded.attempt(), recorded.path / "checkpoints"
    for name in ("one", "two"):
        digest, size = write_checkpoint(folder / name, {"weight": torch.ones(300)})
        attempt.add(nb.CheckpointSaved, f"checkpoints/{name}", digest, size)
    (folder / "last").symlink_to("two")
    attempt.end()
    return recorded.path, folder


def examined(capsys: Capture, run: Path) -> list[tuple[str, str, str]]:
    """What doctor finds about checkpoints and leftovers: level, where, what."""
    code, report = reported(capsys, "doctor", run)
    levels = [finding["level"] for finding in report["findings"]]
    assert code == (1 if "problem" in levels else 0)
    return [(each["level"], each["where"], each["what"]) for each in report["findings"]]


@pytest.mark.parametrize(
    ("name", "level"), [("000000.nlog", "note"), ("000000.nlog.zst", "problem")]
)
def test_doctor_has_one_finding_for_an_empty_segment(
    tmp_path: Path, capsys: Capture, name: str, level: str
) -> None:
    run = RecordedRun(tmp_path)
    run.steps(3)
    segment = run.folder.store(0).path(0)
    segment.unlink()
    segment.with_name(name).touch(mode=0o600)

    _, report = reported(capsys, "doctor", run.path)

    (finding,) = report["findings"]
    assert finding["level"] == level
    assert finding["what"] == "the segment is empty, as after a power cut"


def test_doctor_does_not_say_again_that_an_empty_segments_events_are_missing(
    tmp_path: Path, capsys: Capture
) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt(segment_bytes=3_650)
    attempt.steps(60)
    attempt.end()
    store = run.folder.store(0)
    store.path(1).write_bytes(b"")

    _, report = reported(capsys, "doctor", run.path)

    assert len(store.indices()) > 2
    assert [finding["where"] for finding in report["findings"]] == [
        "attempt-000/rank-00000/000001.nlog"
    ]


def test_doctor_counts_the_checkpoints_that_it_found_sound(tmp_path: Path, capsys: Capture) -> None:
    run, _ = saved(tmp_path)

    assert examined(capsys, run) == []
    main(["doctor", str(run)])
    assert "read, 2 checkpoints checked; 0 problems" in capsys.readouterr().out


@pytest.mark.parametrize("name", [STATE, TENSORS, DIGEST])
def test_doctor_finds_a_flipped_bit_in_a_checkpoint(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    run, folder = saved(tmp_path)
    flip_a_bit(folder / "one" / name, 5)

    ((level, where, what),) = examined(capsys, run)

    assert (level, where) == ("problem", "checkpoints/one")
    assert "is damaged: its digest is" in what


@pytest.mark.parametrize("name", [STATE, TENSORS, DIGEST])
def test_doctor_finds_a_checkpoint_that_lacks_a_file(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    run, folder = saved(tmp_path)
    (folder / "one" / name).unlink()

    assert examined(capsys, run) == [("problem", "checkpoints/one", f"it has no {name}")]


def test_doctor_finds_another_checkpoint_in_the_place_of_the_one_that_was_saved(
    tmp_path: Path, capsys: Capture
) -> None:
    run, folder = saved(tmp_path)
    remove_checkpoint(folder / "one")
    write_checkpoint(folder / "one", {"weight": torch.zeros(300)})

    ((level, where, what),) = examined(capsys, run)

    assert (level, where) == ("problem", "checkpoints/one")
    assert "but the log says that" in what


@pytest.mark.parametrize("target", ["gone", "../../elsewhere"])
def test_doctor_finds_a_last_that_leads_to_no_checkpoint_of_the_run(
    tmp_path: Path, capsys: Capture, target: str
) -> None:
    run, folder = saved(tmp_path)
    write_checkpoint(run.parent / "elsewhere", {"weight": torch.ones(300)})
    (folder / "last").unlink()
    (folder / "last").symlink_to(target)

    ((level, where, what),) = examined(capsys, run)

    assert (level, where) == ("problem", "checkpoints/last")
    assert what.startswith(f"it leads to {target}, ")


def test_doctor_finds_checkpoints_that_killed_processes_did_not_finish(
    tmp_path: Path, capsys: Capture
) -> None:
    run, folder = saved(tmp_path)
    (folder / ".three.4711.tmp").mkdir()
    (folder / ".last.4711.tmp").symlink_to("two")

    found = examined(capsys, run)

    assert {(level, where) for level, where, _ in found} == {
        ("note", "checkpoints/.three.4711.tmp"),
        ("note", "checkpoints/.last.4711.tmp"),
    }


# -- options and answers for programs ------------------------------------------------------------


def test_every_verb_answers_programs_in_json(capsys: Capture) -> None:
    found = verbs(capsys)

    found.remove("run")  # what it writes is the script's
    found.remove("top")  # it is for people, at a terminal
    assert len(found) == 21
    for verb in found:
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        assert "--json " in capsys.readouterr().out, verb


def test_no_verb_takes_an_option_that_is_cut_short(tmp_path: Path, capsys: Capture) -> None:
    run = RecordedRun(tmp_path).steps(1)

    with pytest.raises(SystemExit):
        main(["replay", str(run), "--jso", str(tmp_path / "out")])

    assert "unrecognized arguments: --jso" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_replay_reports_what_it_delivered_and_what_actors_put(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RecordedRun(tmp_path).steps(2)
    (tmp_path / "loud.py").write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    out = tmp_path / "out"

    code, report = reported(capsys, "replay", run, "--csv", out, "--actor", "loud:Loud")

    assert code == 0
    assert report == {
        "id": run.name,
        "path": str(run),
        "actors": [{"name": "loud:Loud", "events": 6}],
        "sinks": [{"kind": "CSV", "path": str(out / "metrics.csv"), "events": 6}],
        "emitted": [
            {"put": "twice", "value": 2.0, "source": "loud"},
            {"put": "twice", "value": 4.0, "source": "loud"},
        ],
        "goes_on": False,
        "unclean": "",
        "missing": 0,
    }


def test_attach_reports_what_it_wrote_of_a_run_that_was_cut_off(
    tmp_path: Path, capsys: Capture
) -> None:
    recorded = RecordedRun(tmp_path)
    recorded.attempt().steps(3).abandon()

    code, report = reported(capsys, "attach", recorded.path, "--jsonl", tmp_path / "out")

    assert (code, report["id"]) == (3, recorded.path.name)
    assert [Path(sink["path"]).name for sink in report["sinks"]] == ["metrics.jsonl"]
    assert report["unclean"]


def test_plot_reports_what_it_drew(tmp_path: Path, capsys: Capture) -> None:
    run = RecordedRun(tmp_path).steps(3)
    figure = tmp_path / "out.svg"

    code, report = reported(capsys, "plot", run, "-o", figure, "--metric", "loss")

    drawn = {"name": run.name, "path": str(run), "points": {"loss": 3}}
    assert code == 0
    assert report == {"path": str(figure), "x": "step", "metrics": ["loss"], "runs": [drawn]}


@pytest.mark.long
def test_import_ckpt_reports_the_new_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "model.pt", tmp_path / "imported"
    torch.save({"weight": torch.ones(2)}, source)

    code, report = reported(capsys, "import-ckpt", source, "-o", out, "--trust")

    assert code == 0
    assert report == {"source": str(source), "path": str(out), "left_out": []}


# -- which run, which metric ---------------------------------------------------------------------


def test_a_run_is_found_by_its_name_as_it_was_given(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = nb.RunFolder.create(tmp_path / "runs", "Classifier v2")
    nb.RunFolder.create(tmp_path / "runs", "other")
    monkeypatch.chdir(tmp_path)

    assert main(["show", "Classifier v2"]) == 0
    assert run.info.id in capsys.readouterr().out


def test_a_name_of_several_runs_is_refused_with_their_ids(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [nb.RunFolder.create(tmp_path / "runs", "Twin").info.id for _ in range(2)]
    monkeypatch.chdir(tmp_path)

    assert main(["show", "Twin"]) == 2
    message = capsys.readouterr().err
    assert "Twin may be any of" in message
    assert [each in message for each in ids] == [True, True]


def test_tail_of_a_metric_that_was_not_recorded_says_which_were(
    tmp_path: Path, capsys: Capture
) -> None:
    run = RecordedRun(tmp_path).steps(1)

    assert main(["tail", str(run), "--metric", "nope"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no metric nope was recorded; recorded metrics: loss, lr" in shown.err


@pytest.mark.parametrize("options", [["--metric", "loss"], ["--x", "time"], ["--x", "step"]])
def test_show_refuses_what_is_for_a_plot_when_none_is_drawn(
    tmp_path: Path, capsys: Capture, options: list[str]
) -> None:
    run = RecordedRun(tmp_path).steps(1)

    assert main(["show", str(run), *options]) == 2
    assert "add --plot, or leave them out" in capsys.readouterr().err
