"""The library's own messages: quiet, and when they speak, they say where the run is."""

import re

import pytest

import nightbus as nb
from nightbus.bus.log.place import Place
from nightbus.bus.system.logging_setup import bind_rank, bind_run, get_logger


def test_nightbus_is_quiet_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("test").info("nothing to see")

    assert capfd.readouterr().err == ""


def test_a_warning_names_the_run_and_where_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    place = Place()
    place.move(epoch=3, step=77)
    bind_run("digits-7f3a", place)
    try:
        get_logger("test").warning("careful", reason="a test")
    finally:
        bind_run("", None)

    said = capfd.readouterr().err
    assert "careful" in said
    for part in ("run=digits-7f3a", "epoch=3", "step=77", "rank=0"):
        assert part in said
    assert re.search("reason='?a test", said)  # structlog 24.4 does not quote it


def test_more_is_said_on_request(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTBUS_LOG", "debug")

    get_logger("test").debug("details")

    assert "details" in capfd.readouterr().err


def test_a_level_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBUS_LOG", "loud")

    with pytest.raises(nb.UsageError, match="expected one of debug, info, warning"):
        nb.Trainer()


def test_what_all_ranks_find_is_said_by_rank_0_alone(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        for rank in (0, 1):
            bind_rank(rank)
            get_logger("test", of_all_ranks=True).warning(f"of all, said by rank {rank}")
            get_logger("test").warning(f"of its own, said by rank {rank}")
    finally:
        bind_rank(0)

    said = capfd.readouterr().err
    assert "of all, said by rank 0" in said
    assert "of all, said by rank 1" not in said
    assert "of its own, said by rank 1" in said
