"""The board: runs compared, in their set-ups, their metrics, and event by event."""

from pathlib import Path

import pytest
from board_asked import Asked, begun, put, recorded

from nightbus.sinks.board import compared, moments


def test_runs_are_compared_by_what_differs_and_by_their_metrics(tmp_path: Path) -> None:
    one, other = recorded(tmp_path, 0.1, 3.0, 1.0), recorded(tmp_path, 0.2)

    said = Asked(tmp_path).said("/api/compare", run=[one.path.name, other.path.name])

    assert said["differences"] == [{"kind": "hparams", "name": "lr", "values": [0.1, 0.2]}]
    assert said["metrics"] == [{"name": "val_loss", "totals": [[1.0, 1.0, 3.0], None]}]


def test_metrics_that_are_too_many_to_be_listed_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, attempt = begun(tmp_path, {})
    for name in ("one", "two", "three"):
        put(attempt, name, 1.0)
    attempt.end()
    board = Asked(tmp_path)
    monkeypatch.setattr(compared, "MAX_METRICS", 2)
    monkeypatch.setattr(moments, "MAX_METRICS", 1)

    side_by_side = board.said(
        "/api/compare", run=[run.path.name, recorded(tmp_path, 0.1).path.name]
    )
    board.said(f"/api/history/{run.path.name}")
    then = board.said(f"/api/moment/{run.path.name}", time=100)

    assert (len(side_by_side["metrics"]), side_by_side["more_metrics"]) == (2, 1)
    assert (len(then["metrics"]), then["more_metrics"]) == (1, 2)


def test_the_first_event_that_differs_is_told_in_words(tmp_path: Path) -> None:
    one, other = recorded(tmp_path, 0.1, 3.0, 1.0), recorded(tmp_path, 0.1, 3.0, 2.0)
    board = Asked(tmp_path)

    for _ in range(2):  # the second time from memory
        said = board.said("/api/first-difference", run=[one.path.name, other.path.name])
        assert said["equal"] == 1
        assert said["left"].startswith("val_loss = 1.0  (train, epoch 0, step 1,")
        assert said["right"].startswith("val_loss = 2.0  (")


def test_runs_that_did_the_same_have_no_such_event_and_what_goes_on_is_compared_again(
    tmp_path: Path,
) -> None:
    one = recorded(tmp_path, 0.1, 3.0)
    other, attempt = begun(tmp_path, {"lr": 0.1})
    put(attempt, "val_loss", 3.0)
    board = Asked(tmp_path)
    asked = {"run": [one.path.name, other.path.name]}

    before = board.said("/api/first-difference", **asked)
    put(attempt, "val_loss", 3.0)
    after = board.said("/api/first-difference", **asked)
    attempt.end()

    assert (before["equal"], before["left"], before["right"]) == (1, None, None)
    assert (after["left"], after["right"] is None) == (None, False)


def test_fewer_or_other_than_two_runs_are_refused(tmp_path: Path) -> None:
    key = recorded(tmp_path, 0.1, 3.0).path.name
    board = Asked(tmp_path)

    answers = [
        board.get(f"/api/compare?run={key}"),
        board.get(f"/api/first-difference?run={key}"),
        board.get(f"/api/compare?run={key}&run=missing"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 404]
