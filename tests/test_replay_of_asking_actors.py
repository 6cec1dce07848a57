"""Actors that ask, in replay, where nobody replies."""

from pathlib import Path
from typing import Any

import pytest
import trio
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main


class Asks(nb.Actor):
    """Asks the run to stop at every second step, and notes how far its handler came."""

    def __init__(self) -> None:
        self.asked_at: list[int] = []
        self.went_on_at: list[int] = []

    @nb.on(nb.Put, name="loss")
    async def watch(self, put: nb.Put) -> None:
        if put.step % 2 == 0:
            self.asked_at.append(put.step)
            await self.ask("fit", nb.Stop(reason=f"step {put.step}"))
            self.went_on_at.append(put.step)


def test_what_is_asked_is_collected_and_the_replay_goes_on(tmp_path: Path) -> None:
    asks = Asks()

    replayed = nb.replay(RecordedRun(tmp_path).steps(5), actors=[asks])

    told = [(told.sender, told.target, told.command, told.asked) for told in replayed.commands]
    assert told == [
        ("asks", "fit", nb.Stop(reason="step 2"), True),
        ("asks", "fit", nb.Stop(reason="step 4"), True),
    ]
    assert (asks.asked_at, asks.went_on_at) == ([2, 4], [])


def test_a_handler_that_asks_in_a_task_of_its_own_does_not_end_the_replay(tmp_path: Path) -> None:
    class AsksBeside(nb.Actor):
        @nb.on(nb.Put, name="loss")
        async def watch(self, put: nb.Put) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.ask, "fit", nb.Stop(reason="high"))

    assert len(nb.replay(RecordedRun(tmp_path).steps(3), actors=[AsksBeside()]).commands) == 3


def test_an_ask_fails_with_what_to_do(tmp_path: Path) -> None:
    class Copes(nb.Actor):
        def __init__(self) -> None:
            self.said: list[str] = []

        @nb.on(nb.Put, name="loss")
        async def watch(self, put: nb.Put) -> None:
            try:
                await self.ask("fit", nb.Stop(reason="high"))
            except nb.DeliveryError as error:
                self.said.append(str(error))

    copes = Copes()
    nb.replay(RecordedRun(tmp_path).steps(1), actors=[copes])

    (said,) = copes.said
    assert said.startswith("Stop for 'fit' gets no reply in a replay")
    assert said.endswith("have it catch nightbus.DeliveryError")


def test_another_failure_of_a_handler_that_asks_ends_the_replay(tmp_path: Path) -> None:
    class Fails(nb.Actor):
        async def fail(self) -> None:
            raise ValueError("a mistake")

        @nb.on(nb.Put, name="loss")
        async def watch(self, put: nb.Put) -> None:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                nursery.start_soon(self.fail)
                with trio.CancelScope(shield=True):
                    await self.ask("fit", nb.Stop(reason="high"))

    with pytest.raises(nb.NightbusError, match="fails failed: ExceptionGroup"):
        nb.replay(RecordedRun(tmp_path).steps(1), actors=[Fails()])


def test_the_command_line_prints_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "asking_rules.py").write_text(
        "import nightbus as nb\n"
        "class Asks(nb.Actor):\n"
        "    @nb.on(nb.Put, name='loss')\n"
        "    async def watch(self, put):\n"
        "        await self.ask('fit', nb.Stop(reason='high'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    code = main(["replay", str(RecordedRun(tmp_path).steps(1)), "--actor", "asking_rules:Asks"])

    assert code == 0
    assert '"ask":"Stop","target":"fit"' in capsys.readouterr().out.replace(": ", ":").replace(
        ", ", ","
    )
