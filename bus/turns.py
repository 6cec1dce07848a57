"""Tracks turns on the bus thread, where one task runs at a time, until it awaits."""

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
# Files of frames that lead to an actor's coroutine.
_BELOW = tuple(
    str(path)
    for path in (
        f"{_HERE}{os.sep}",
        f"{_HERE.parent / 'sinks'}{os.sep}",
        f"{Path(trio.__file__).parent}{os.sep}",
        f"{Path(trio.__file__).parents[1] / 'outcome'}{os.sep}",  # which runs trio's tasks
        threading.__file__,
    )
)


class Turn(NamedTuple):
    """A turn that is not over.

    Attributes:
        task: the running task.
        seconds: how long it has lasted, in s.
        where: the coroutine, and the line in it, for people.
        stack: all its calls.
    """

    task: trio.lowlevel.Task
    seconds: float
    where: str
    stack: str


class Turns(trio.abc.Instrument):
    """Records which task runs, and since when.

    Args:
        thread: returns the ident of the thread that runs them; None while unknown.
        now_s: a clock, in s.

    Attributes:
        number: number of turns begun.
    """

    def __init__(self, thread: Callable[[], int | None], now_s: Callable[[], float]) -> None:
        self.number = 0
        self._thread = thread
        self._now_s = now_s
        self._task: trio.lowlevel.Task | None = None
        self._since_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the start of a turn."""
        self.number += 1
        self._since_s = self._now_s()
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Record the end of a turn."""
        self._task = None

    @property
    def is_idle(self) -> bool:
        """Return whether no task runs; any thread may call this."""
        return self._task is None

    def now(self) -> Turn | None:
        """Return the present turn, if any; any other thread may call this."""
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
    """Return a task, the task that opened its nursery, and so on up to the root."""
    found = []
    while task is not None:
        found.append(task)
        task = None if task.parent_nursery is None else task.parent_nursery.parent_task
    return found
