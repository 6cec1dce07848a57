"""``trainer.save_checkpoint`` on one rank alone says what it waits for."""

import threading
from pathlib import Path
from typing import Any, cast

import pytest
from helpers import DEADLINE_S

from nightbus.actors.ranks.group import AloneGroup
from nightbus.actors.ranks.world import World
from nightbus.actors.saving import users_save
from nightbus.actors.saving.checkpointer import Checkpointer


class NobodyComes(AloneGroup):
    """A group whose others do not come, which it learns once the user has been told."""

    world = World(0, 2, 0, 2)

    def __init__(self) -> None:
        self.has_told = threading.Event()

    def meets(self, what: str, within_s: float) -> bool:
        assert self.has_told.wait(DEADLINE_S)
        return False


class SavesNothing:
    """A checkpointer without a disk."""

    def save_now(self, *_: Any, by_all: bool) -> None:
        assert not by_all


def test_a_rank_that_saves_says_which_call_waits_for_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group, told = NobodyComes(), list[str]()

    def notify(text: str) -> None:
        told.append(text)
        group.has_told.set()

    monkeypatch.setattr(users_save, "notify_user", notify)
    monkeypatch.setattr(users_save, "SAYS_SO_AFTER_S", 0.0)
    checkpointer = cast("Checkpointer", SavesNothing())
    users_save.save_for_user(checkpointer, group, Path("a.ckpt"), False, "train.py:7")

    assert told == [
        "nightbus: save_checkpoint('a.ckpt') at train.py:7 waits up to 10 s for other ranks to "
        "call it"
    ]
