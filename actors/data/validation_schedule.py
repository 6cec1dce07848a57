"""ValidationSchedule: the training batches after which validation is due."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ..arguments import check_at_least, parse_time
from .prepared_loaders import check_limit

Interval = int | float | str | timedelta | Mapping[str, float]


class ValidationSchedule:
    """Decides when to validate within training.

    Args:
        interval: batches (int), a share of an epoch (float), or a time between two validations:
            ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments. None is 1.0.
        every_n_epochs: only in every n-th epoch; None counts batches over epochs.

    Raises:
        UsageError: an argument is wrong, or they contradict each other.
    """

    def __init__(self, interval: Interval | None, every_n_epochs: int | None) -> None:
        self.interval = 1.0 if interval is None else interval
        self.every_n_epochs = check_at_least("check_val_every_n_epoch", every_n_epochs, 1)
        self._every_s = self._checked_seconds()
        if every_n_epochs is None and isinstance(interval, float) and interval != 1.0:
            raise UsageError(
                f"val_check_interval={interval} is a share of an epoch, and "
                "check_val_every_n_epoch=None counts over epochs; set a number of batches (an "
                "int) or a time"
            )
        self._every: int | None = None  # batches; None for the epoch's end
        self._validated_s = 0.0  # time of the last validation, on the monotonic clock

    def _checked_seconds(self) -> float | None:
        interval = self.interval
        if isinstance(interval, str | timedelta | Mapping):
            seconds = parse_time("val_check_interval", interval)
            if seconds < 0:
                raise UsageError(f"val_check_interval={interval!r}: a time is at least 0")
            return seconds
        interval = self.interval = check_limit("val_check_interval", interval)
        if interval == 0:
            raise UsageError(
                f"val_check_interval={interval!r}: expected a number of batches of at least 1, a "
                "share above 0.0, or a time; limit_val_batches=0 leaves validation out"
            )
        return None

    def fit_to(self, batches: int | None, validates: bool) -> None:
        """Compute the schedule for a training loader.

        Args:
            batches: of an epoch; None if the loader does not know.
            validates: there is data to validate on.

        Raises:
            UsageError: the interval does not fit the number of batches.
        """
        interval = self.interval
        self._every = None
        if self._every_s is not None or not validates:
            return
        if isinstance(interval, int):
            if batches is not None and interval > batches and self.every_n_epochs is not None:
                raise UsageError(
                    f"val_check_interval={interval} is more than the {batches} batches of an "
                    "epoch; set check_val_every_n_epoch=None to count batches over epochs, or a "
                    "smaller number"
                )
            self._every = interval
        elif interval != 1.0:
            assert isinstance(interval, float)
            if batches is None:
                raise UsageError(
                    f"val_check_interval={interval} is a share, but the dataloader has no length; "
                    "set a number of batches (an int) or a time"
                )
            self._every = max(1, int(batches * interval))

    def begin(self) -> None:
        """Start counting time: training begins, or a validation is over."""
        self._validated_s = monotonic()

    def batches_between(self, of_epoch: float) -> float | None:
        """Return how many training batches there are between two validations; None if by time.

        Args:
            of_epoch: batches of an epoch.
        """
        if self._every_s is not None:
            return None
        return of_epoch if self._every is None else self._every

    def is_due_in(self, epoch: int) -> bool:
        """Return whether an epoch is one of those that validate.

        Args:
            epoch: the epoch, from 0.
        """
        return self.every_n_epochs is None or (epoch + 1) % self.every_n_epochs == 0

    def is_due(self, epoch: int, batch_idx: int, batches: int, is_last: bool) -> bool:
        """Return whether to validate after a training batch.

        Args:
            epoch: the epoch, from 0.
            batch_idx: the batch in it, from 0.
            batches: batches trained so far, in all epochs.
            is_last: the batch is the epoch's last.
        """
        every_n, every = self.every_n_epochs, self._every
        if not self.is_due_in(epoch):
            return False
        if self._every_s is not None:
            return monotonic() - self._validated_s >= self._every_s
        if every is None:
            return is_last
        return (batches if every_n is None else batch_idx + 1) % every == 0

    def is_due_at_early_end(self, epoch: int, batches: int, announced: int) -> bool:
        """Return whether to validate where the data ended before the announced number of batches.

        That is so if validation was due after the last announced batch, and is not due after this
        one anyway.

        Args:
            epoch: the epoch, from 0.
            batches: batches of the epoch.
            announced: batches that it was announced to have.
        """
        every_n, every = self.every_n_epochs, self._every
        if every_n is None or (epoch + 1) % every_n or every is None:
            return False  # is_due decides
        return announced % every == 0 and (isinstance(self.interval, float) or batches < every)

    def validated_within(self, epochs: int, ended: int, batches: int, of_epoch: int) -> bool:
        """Return whether validation was due within the last epochs; assume so if unknown.

        Args:
            epochs: number of epochs to look back.
            ended: epochs completed.
            batches: batches trained in all of them.
            of_epoch: batches trained in the last one.
        """
        if self._every_s is not None:
            return True
        if self.every_n_epochs is not None:
            return ended // self.every_n_epochs * self.every_n_epochs > ended - epochs
        every = self._every or of_epoch or 1
        return batches // every * every > batches - epochs * of_epoch

    # -- checkpoints -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the time since the last validation, if it is due by time; plain data."""
        return {} if self._every_s is None else {"since_s": monotonic() - self._validated_s}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        if "since_s" in state_dict:
            self._validated_s = monotonic() - state_dict["since_s"]
