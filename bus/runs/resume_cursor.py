"""Where an observer goes on whose cursor is committed, when the run has gone back meanwhile.

A run that is resumed from a checkpoint takes the place of what came after that checkpoint. An
observer that has carried some of it further takes it back, as far as it can.
"""

from collections.abc import Sequence
from typing import Protocol

from .cursor import (
    BEGINNING,
    AttemptLog,
    Cursor,
    CursorFile,
    PlainState,
    Position,
    list_cursors,
)
from .run_folder import RunFolder


class Resumable(Protocol):
    """An observer that goes on from a committed cursor."""

    def load_cursor_state(self, state: PlainState) -> None:
        """Go on from what the cursor kept."""

    def is_lost(self, state: PlainState) -> bool:
        """Whether all is gone that it has carried."""

    def take_back(self, held: Position, beyond: Position, state: PlainState) -> Position:
        """Take back what it has carried from ``held`` on; gives where to go on.

        Args:
            held: the first event that does not hold any more.
            beyond: the first event that took their place.
            state: what the cursor kept.
        """


def go_on(observer: Resumable, cursor: Cursor, logs: Sequence[AttemptLog]) -> Position:
    """Where an observer goes on; its state is loaded.

    Args:
        observer: whose cursor it is.
        cursor: what it had committed.
        logs: the attempts that hold, each as far as it does, and the one that goes on now.
    """
    position = Position(cursor.attempt, cursor.seq)
    before = [log for log in logs if log.attempt <= position.attempt]
    after = [log for log in logs if log.attempt > position.attempt]
    last = before[-1] if before else None
    if observer.is_lost(cursor.state):
        return observer.take_back(BEGINNING, BEGINNING, cursor.state)
    if last is None or not after:
        observer.load_cursor_state(cursor.state)
        return position
    if last.attempt == position.attempt and (last.until is None or position.seq <= last.until):
        observer.load_cursor_state(cursor.state)
        return position
    beyond = Position(after[0].attempt, 0)
    held = (
        Position(last.attempt + 1, 0) if last.until is None else Position(last.attempt, last.until)
    )
    return observer.take_back(held, beyond, cursor.state)


def states_of_others(run: RunFolder) -> list[PlainState]:
    """What the observers of a run that have committed a cursor keep with it."""
    cursors = (CursorFile(run, name).load() for name in list_cursors(run))
    return [cursor.state for cursor in cursors if cursor is not None]
