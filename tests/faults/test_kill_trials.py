"""Recording processes that are killed at random moments; many more rounds with kill_trials.py."""

import kill_trials


def test_a_process_killed_at_any_moment_leaves_all_that_was_told_without_a_gap() -> None:
    trials = kill_trials.run_trials(rounds=12, seed=7)

    assert [trial.problem for trial in trials if trial.problem] == []
    assert all(trial.events > trial.told for trial in trials)


def test_the_trials_find_out_a_log_that_keeps_a_step_in_memory() -> None:
    trials = kill_trials.run_trials(rounds=4, seed=7, file="buffered")

    # Not each kill shows it: at the end of a segment nothing is kept.
    assert any("was told, the log ends at" in trial.problem for trial in trials)
