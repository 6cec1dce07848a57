"""Where an observer with a committed cursor continues, if the run has gone back meanwhile.

A run that is resumed from a checkpoint supersedes the events after that checkpoint. An observer
that has written some of them takes them back, as far as it can.
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
    """An observer that resumes from a committed cursor."""

    def load_cursor_state(self, state: PlainState) -> None:
        """Restore the state that the cursor kept."""

    def is_lost(self, state: PlainState) -> bool:
        """Return whether everything it wrote is gone."""

    def take_back(
        self, first_superseded: Position, replacement_start: Position, state: PlainState
    ) -> Position:
        """Take back what was written of superseded events.

        Args:
            first_superseded: the first superseded event.
            replacement_start: the first event that replaces them.
            state: what the cursor kept.

        Returns:
            Where to continue.
        """


def go_on(observer: Resumable, cursor: Cursor, logs: Sequence[AttemptLog]) -> Position:
    """Return where an observer continues, after restoring its state.

    Args:
        observer: the observer.
        cursor: what it had committed.
        logs: the current attempts, each with its end, and the one that is beginning.
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
    replacement_start = Position(after[0].attempt, 0)
    first_superseded = (
        Position(last.attempt + 1, 0) if last.until is None else Position(last.attempt, last.until)
    )
    return observer.take_back(first_superseded, replacement_start, cursor.state)


def states_of_others(run: RunFolder) -> list[PlainState]:
    """Return what the observers of a run with a committed cursor keep with it."""
    cursors = (CursorFile(run, name).load() for name in list_cursors(run))
    return [cursor.state for cursor in cursors if cursor is not None]
