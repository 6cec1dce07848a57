"""What every verb of the command line keeps to: options, answers for programs, exit codes."""

from pathlib import Path

from recorded_runs import RecordedRun


def test_a_run_goes_on_while_any_process_holds_one_of_its_attempts(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path)
    assert not recorded.folder.goes_on()
    first = recorded.attempt()
    first.steps(1)
    (recorded.folder.attempt_path(1)).mkdir()  # of a process that has only just begun

    assert recorded.folder.goes_on()
    first.abandon()
    assert not recorded.folder.goes_on()
