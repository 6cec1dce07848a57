"""``ls`` with its options, ``compare``, and what is noted about runs from the shell."""

import json
import math
from pathlib import Path

import pytest
from msgspec import Raw, msgpack
from recorded_runs import RecordedRun
from test_runs_as_data import recorded

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.inspection.plots import smoothed
from nightbus.bus.library.differences import differences
from nightbus.bus.runs.find_run import find_run
from nightbus.bus.runs.marks import read_marks
from nightbus.bus.runs.run_summary import RunSummary, Said


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RecordedRun]:
    """Runs with learning rates 0.1, 0.01 and 0.001, below the working directory."""
    monkeypatch.chdir(tmp_path)
    given = ((0.1, 0.9), (0.01, 0.2), (0.001, 0.4))
    return [recorded(tmp_path, lr, 1.0, loss) for lr, loss in given]


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main([*arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_ls_says_which_run_had_which_learning_rate_and_which_was_best(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = lines(capsys, "ls", "--hparams", "--metric", "val_loss", "--sort", "val_loss")

    assert shown[0].split()[-2:] == ["lr", "val_loss"]
    assert [line.split()[-2:] for line in shown[1:]] == [
        ["0.01", "0.2"],
        ["0.001", "0.4"],
        ["0.1", "0.9"],
    ]


def test_ls_shows_the_first_hyperparameters_that_differ(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = lines(capsys, "ls")

    assert [line.split()[-1] for line in shown] == ["lr", "0.1", "0.01", "0.001"]


def test_ls_chooses_and_counts(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["tag", three[1].path.name, "good"])
    capsys.readouterr()
    by_condition = lines(capsys, "ls", "--where", "lr < 0.05", "--columns", "lr,ending", "-n", "1")
    by_tag = lines(capsys, "ls", "--tag", "good", "--columns", "lr")
    recent = lines(capsys, "ls", "--since", "1h", "--columns", "lr")

    assert [line.split() for line in by_condition] == [["lr", "ending"], ["0.001", "completed"]]
    assert by_tag[1:] == ["0.01"]
    assert len(recent) == 4


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--since", "yesterday"], "expected a number and a unit"),
        (["--sort", "val_los"], "did you mean val_loss"),
        (["--metric", "nothing"], "no run has 'nothing'"),
        (["--columns", "nothing"], "no run has 'nothing'"),
        (["-n", "0"], "expected 1 or more"),
        (["--where", "lr <"], "is wrong at character 5"),
    ],
)
def test_ls_refuses_what_it_does_not_know(
    three: list[RecordedRun],
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    what: str,
) -> None:
    assert main(["ls", *arguments]) == 2
    assert what in capsys.readouterr().err


def test_ls_shows_the_hyperparameters_that_differ_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recorded(tmp_path, 0.1, 1.0)
    recorded(tmp_path, 0.1, 2.0)

    assert "lr" not in lines(capsys, "ls", "--hparams")[0].split()


def test_compare_puts_differences_and_metrics_side_by_side(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = lines(capsys, "compare", three[0].path.name, three[1].path.name)

    rows = {line.split()[0]: line.split()[1:] for line in shown[1:]}
    assert rows["lr"] == ["0.1", "0.01"]
    assert rows["val_loss"][0] == "0.9"
    assert "max_epochs" not in rows  # the same in both


def test_compare_for_programs_has_everything(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--json", three[0].path.name, three[1].path.name]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["differences"] == [{"kind": "hparams", "name": "lr", "values": [0.1, 0.01]}]
    assert report["runs"][0]["config"] == {"max_epochs": 3}


def test_what_is_noted_is_kept_and_found_by(three: list[RecordedRun]) -> None:
    first, second, third = three
    main(["rename", first.path.name, "baseline"])
    main(["rename", second.path.name, "baseline"])
    main(["tag", third.path.name, "paper", "good"])
    main(["tag", third.path.name, "good", "--remove"])
    main(["note", third.path.name, "one"])
    main(["note", third.path.name, "two", "--append"])

    assert read_marks(third.folder).tags == ("paper",)
    assert read_marks(third.folder).notes == "one\ntwo"
    assert find_run("paper").path.name == third.path.name
    found = {find_run(f"baseline@-{back}").path.name for back in (1, 2)}
    assert found == {first.path.name, second.path.name}
    assert nb.open_run("baseline@-1").name == "baseline"


def test_an_ambiguous_name_says_date_ending_and_metric_of_each(three: list[RecordedRun]) -> None:
    with pytest.raises(nb.NightbusError) as refused:
        find_run("recorded")

    message = str(refused.value)
    assert "recorded@-1 for the newest" in message
    for run in three:
        assert f"{run.path.name}  20" in message
    assert "completed, val_loss 0.2" in message


def test_an_archived_run_is_listed_only_when_asked_for(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["archive", three[0].path.name])
    capsys.readouterr()

    assert len(lines(capsys, "ls")) == 3
    assert len(lines(capsys, "ls", "--archived")) == 4
    main(["archive", "--undo", three[0].path.name])
    capsys.readouterr()
    assert len(lines(capsys, "ls")) == 4


def test_rm_removes_nothing_without_an_answer(three: list[RecordedRun]) -> None:
    assert main(["rm", three[0].path.name]) == 2
    assert three[0].path.exists()


def test_rm_removes_what_it_was_told_to(three: list[RecordedRun]) -> None:
    assert main(["rm", "--yes", three[0].path.name]) == 0
    assert not three[0].path.exists()
    assert three[1].path.exists()


def test_rm_refuses_what_lies_in_a_run(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rm", "--yes", str(three[0].path / "run.json")]) == 2
    assert "rm removes whole runs" in capsys.readouterr().err
    assert three[0].path.exists()


def test_rm_removes_a_link_with_the_run_that_it_leads_to(three: list[RecordedRun]) -> None:
    link = three[0].path.with_name("link")
    link.symlink_to(three[0].path.name)

    assert main(["rm", "--yes", str(link)]) == 0
    assert not three[0].path.exists()
    assert not link.is_symlink()


def test_rm_refuses_a_run_that_goes_on(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    three[0].attempt()

    assert main(["rm", "--yes", three[0].path.name, three[1].path.name]) == 2
    assert "goes on; stop it first" in capsys.readouterr().err
    assert three[0].path.exists()
    assert three[1].path.exists()


def test_show_has_hyperparameters_and_environment(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["note", three[1].path.name, "the best"])
    capsys.readouterr()
    shown = "\n".join(lines(capsys, "show", three[1].path.name))

    assert "hyperparameters: lr 0.01" in shown
    assert "arguments: max_epochs 3" in shown
    assert "environment: host here, git.commit abc" in shown
    assert "notes the best" in shown


def test_diff_says_first_what_was_configured_differently(
    three: list[RecordedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", three[0].path.name, three[1].path.name]) == 4

    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["they were set up differently:", "  lr: 0.1 and 0.01"]
    assert shown[2].startswith("they differ after")


def test_a_package_that_one_run_has_not_loaded_is_no_difference() -> None:
    said = [
        Said(versions={"torch": "2.9", "sympy": "1"}),
        Said(versions={"torch": "2.8"}),
    ]
    runs = [RunSummary("a", "", "", encoded=Raw(msgpack.encode(each))) for each in said]

    assert [(each.kind, each.name) for each in differences(runs)] == [("versions", "torch")]


def test_plot_draws_patterns_labelled_by_what_differs(
    three: list[RecordedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [run.path.name for run in three[:2]]
    options = ["--metric", "val_*", "--x", "wall", "--log", "--smooth", "0.5"]
    assert main(["plot", *ids, "-o", str(tmp_path / "drawn.svg"), *options, "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["metrics"] == ["val_loss"]
    drawn = (tmp_path / "drawn.svg").read_text()
    assert f"{ids[0]}, lr=0.1" in drawn
    assert "time since 1970 (s)" in drawn


def test_means_begin_at_the_first_value_and_leave_gaps() -> None:
    assert smoothed([2.0, math.inf, 2.0], 0.9) == pytest.approx([2.0, math.inf, 2.0])
    assert smoothed([0.0, 1.0], 0.5) == pytest.approx([0.0, 2 / 3])
    assert smoothed([0.0, 1.0], 0.0) == [0.0, 1.0]
