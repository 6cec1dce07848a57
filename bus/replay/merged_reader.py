"""Reads the attempts of a run with the events of all ranks in one, in the order of time."""

from collections.abc import Iterator

from ..inspection.merged_log import MergedLog
from ..log.codec import DecodedEvent, HookSelection
from ..runs.cursor import Position, RunReader
from ..runs.lineage import consistent_logs
from ..runs.run_folder import RunFolder
from ..runs.typed_events import all_typed


class MergedRunReader(RunReader):
    """Reads the attempts of a run one after the other, all ranks at once.

    Its position counts the events of all ranks, so it says nothing to a reader of one rank.

    Args:
        run: the run.
        all_attempts: also read superseded events.
    """

    def __init__(self, run: RunFolder, all_attempts: bool) -> None:
        super().__init__(())
        self._run = run
        self._attempts = run.attempts()
        self._log: MergedLog | None = None
        self._batches: Iterator[list[DecodedEvent]] = iter(())
        self._ends: dict[int, dict[int, int | None]] | None = None
        if not all_attempts:
            ranks = {rank for attempt in self._attempts for rank in run.ranks(attempt)}
            self._ends = {
                rank: {log.attempt: log.until for log in consistent_logs(run, rank)}
                for rank in ranks
            }

    def read(
        self, hooks: HookSelection = "all", max_bytes: int | None = None
    ) -> list[DecodedEvent]:
        """Return the next events, some thousand of one attempt; an empty list at the end.

        Args:
            hooks: whether hooks are wanted; of the choices, only ``none`` leaves them out.
            max_bytes: is not used: the number of ranks decides how much is read at once.

        Raises:
            NewerFormatError: a log was written by a newer major version.
        """
        while self._attempts:
            attempt = self._attempts[0]
            if self._log is None:
                ranks = self._run.ranks(attempt)
                stores = {rank: self._run.store(attempt, rank) for rank in ranks}
                self._log = MergedLog(stores, hooks != "none")
                self._batches = self._log.batches()
                self.position = Position(attempt, 0)
            for batch in self._batches:
                if events := self._current(attempt, batch):
                    self.position = Position(attempt, self.position.seq + len(events))
                    return all_typed(events)
            self._log = None
            del self._attempts[0]
        return []

    @property
    def has_more(self) -> bool:
        """Return whether there may be more."""
        return bool(self._attempts)

    def close(self) -> None:
        """Close the files."""
        if self._log is not None:
            self._log.close()

    def _current(self, attempt: int, batch: list[DecodedEvent]) -> list[DecodedEvent]:
        """Return the events that no later attempt has superseded."""
        if self._ends is None:
            return batch
        untils = {rank: ends.get(attempt, 0) for rank, ends in self._ends.items()}
        if not any(until is not None for until in untils.values()):
            return batch
        return [
            event
            for event in batch
            if (until := untils.get(getattr(event, "rank", 0))) is None or event.seq < until
        ]
