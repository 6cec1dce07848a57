"""Functions as sinks."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer
from recorded_runs import RecordedRun

import nightbus as nb


def fit(tmp_path: Path, *sinks: Any) -> nb.Trainer:
    run = trainer(tmp_path, sinks=sinks)
    run.fit(Small(), loader(), loader(8))
    return run


def test_a_function_is_called_with_each_put(tmp_path: Path) -> None:
    seen: list[nb.Put] = []

    run = fit(tmp_path, seen.append)

    assert [put.name for put in seen] == ["val_loss"]
    assert seen[0].value == float(run.logged_metrics["val_loss"])


def test_a_coroutine_function_is_awaited(tmp_path: Path) -> None:
    seen: list[str] = []

    async def note(put: nb.Put) -> None:
        seen.append(put.name)

    fit(tmp_path, note)

    assert seen == ["val_loss"]


def test_it_may_take_other_events(tmp_path: Path) -> None:
    seen: list[Any] = []

    fit(tmp_path, nb.FunctionSink(seen.append, events=(nb.RunStarted, nb.RunEnded)))

    assert [type(event) for event in seen] == [nb.RunStarted, nb.RunEnded]


def test_a_call_that_failed_is_repeated_and_no_other(tmp_path: Path) -> None:
    calls: list[int] = []

    def fails_once(put: nb.Put) -> None:
        calls.append(put.step)
        if len(calls) == 3:
            raise OSError("away")

    run = trainer(
        tmp_path, sinks=[nb.FunctionSink(fails_once, destination="callbacks")], max_epochs=1
    )
    run.fit(Small(), loader())

    assert calls == [0, 1, 2, 2, 3, 4, 5]


def test_it_sees_a_replayed_run(tmp_path: Path) -> None:
    run = fit(tmp_path)
    seen: list[nb.Put] = []
    assert run.log_dir is not None

    nb.replay(run.log_dir, sinks=[nb.FunctionSink(seen.append)])

    assert [put.name for put in seen] == ["val_loss"]


def test_a_replayed_run_takes_a_plain_function_as_a_trainer_does(tmp_path: Path) -> None:
    run = fit(tmp_path)
    seen: list[nb.Put] = []
    assert run.log_dir is not None

    nb.replay(run.log_dir, sinks=[seen.append])

    assert [put.name for put in seen] == ["val_loss"]


def test_what_a_function_had_not_got_is_delivered_to_it_later(tmp_path: Path) -> None:
    away: list[str] = []

    def fails(put: nb.Put) -> None:
        away.append(put.name)
        raise OSError("away")

    run = fit(tmp_path, fails)
    seen: list[nb.Put] = []
    assert run.log_dir is not None

    nb.replay(run.log_dir, sinks=[seen.append], resume=True)

    assert away == ["val_loss", "val_loss"]  # once more after a restart
    assert [put.name for put in seen] == ["val_loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sinks": [3]}, "sinks has int; expected a nightbus.Sink, or a function"),
        ({"sinks": [nb.CSV]}, r"sinks has the class CSV; pass an instance: CSV\(\)"),
        ({"actors": [print]}, r"actors has builtin_function_or_method; .* nb.FunctionSink\("),
        ({"actors": [nb.Timer]}, "actors has the class Timer; .* pass an instance of it"),
    ],
)
def test_what_a_replay_cannot_read_the_run_to_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    run = RecordedRun(tmp_path).steps(1)

    with pytest.raises(nb.UsageError, match=message):
        nb.replay(run, **arguments)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sinks": [nb.CSV]}, r"sinks has the class CSV; pass an instance: CSV\(\)"),
        ({"sinks": [3]}, "sinks has int; expected a nightbus.Sink, or a function"),
        ({"logger": "csv"}, r"logger has str; expected True, False, a logger with log_metrics"),
        ({"logger": [print]}, "logger has builtin_function_or_method"),
    ],
)
def test_what_is_no_sink_is_refused(tmp_path: Path, given: Any, said: str) -> None:
    with pytest.raises(nb.UsageError, match=said):
        trainer(tmp_path, **given)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="expects a function of one event, not int"):
        nb.FunctionSink(3)  # type: ignore[arg-type]
