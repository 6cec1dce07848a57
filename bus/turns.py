"""Whose turn it is on the bus thread: one task runs at a time, until it awaits."""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import trio

MAX_STACK_CHARS = 16_384

_HERE = Path(__file__).parent
# What is called on the way to an actor's coroutine.
_BELOW = tuple(
    str(path)
    for path in (
        f"{_HERE}{os.sep}",
        f"{_HERE.parent / 'sinks'}{os.sep}",
        f"{Path(trio.__file__).parent}{os.sep}",
        f"{Path(trio.__file__).parents[1] / 'outcome'}{os.sep}",  # which trio runs tasks with
        threading.__file__,
    )
)


class Turn(NamedTuple):
    """A turn that goes on.

    Attributes:
        task: whose it is.
        seconds: how long it has lasted, in s.
        where: the coroutine, and the line in it, for people.
        stack: all calls.
    """

    task: trio.lowlevel.Task
    seconds: float
    where: str
    stack: str


class Turns(trio.abc.Instrument):
    """Notes which task runs, and since when.

    Args:
        thread: ident of the thread that they run in; None as long as it is not known.
        now_s: a clock, in s.

    Attributes:
        number: of turns that were begun.
    """

    def __init__(self, thread: Callable[[], int | None], now_s: Callable[[], float]) -> None:
        self.number = 0
        self._thread = thread
        self._now_s = now_s
        self._task: trio.lowlevel.Task | None = None
        self._since_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.number += 1
        self._since_s = self._now_s()
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._task = None

    @property
    def is_idle(self) -> bool:
        """Whether no task runs; any thread may ask."""
        return self._task is None

    def now(self) -> Turn | None:
        """The turn that goes on; any other thread may ask."""
        task, since_s = self._task, self._since_s
        frame = sys._current_frames().get(self._thread() or 0)
        if task is None or frame is None:
            return None
        calls = traceback.extract_stack(frame)
        at = next((call for call in calls if not call.filename.startswith(_BELOW)), calls[-1])
        where = f"{at.name} ({at.filename}:{at.lineno})"
        stack = "".join(calls.format())[-MAX_STACK_CHARS:]
        return Turn(task, self._now_s() - since_s, where, stack)


def ancestors(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    """A task, the one that opened the nursery that it is in, and so on up to the root."""
    found = []
    while task is not None:
        found.append(task)
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return found
