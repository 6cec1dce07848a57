"""After which training batches validation is due."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ..arguments import check_at_least, parse_time
from .data import check_limit

Interval = int | float | str | timedelta | Mapping[str, float]


class ValidationSchedule:
    """Says when to validate within training.

    Args:
        interval: after so many batches (int), this share of an epoch (float), or so much time:
            ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments. None is 1.0.
        every_n_epochs: in every n-th epoch only; None counts batches over epochs.

    Raises:
        UsageError: they make no sense.
    """

    def __init__(self, interval: Interval | None, every_n_epochs: int | None) -> None:
        self.interval = 1.0 if interval is None else interval
        self.every_n_epochs = check_at_least("check_val_every_n_epoch", every_n_epochs, 1)
        self._every_s = self._checked_seconds()
        if every_n_epochs is None and isinstance(interval, float) and interval != 1.0:
            raise UsageError(
                f"val_check_interval={interval} is a share of an epoch, and "
                "check_val_every_n_epoch=None counts over epochs; give a number of batches (an "
                "int) or a time"
            )
        self._every: int | None = None  # batches; None for the epoch's end
        self._validated_s = 0.0  # when, on the monotonic clock

    def _checked_seconds(self) -> float | None:
        interval = self.interval
        if isinstance(interval, str | timedelta | Mapping):
            seconds = parse_time("val_check_interval", interval)
            if seconds < 0:
                raise UsageError(f"val_check_interval={interval!r}: a time is at least 0")
            return seconds
        if check_limit("val_check_interval", interval) == 0:
            raise UsageError(
                f"val_check_interval={interval!r}: expected a number of batches of at least 1, a "
                "share above 0.0, or a time; limit_val_batches=0 leaves validation out"
            )
        return None

    def fit_to(self, batches: int | None, validates: bool) -> None:
        """Work it out for a training loader.

        Args:
            batches: of an epoch; None when the loader cannot say.
            validates: whether there is anything to validate on.

        Raises:
            UsageError: the interval does not go with so many batches.
        """
        interval = self.interval
        self._every = None
        if self._every_s is not None or not validates:
            return
        if isinstance(interval, int):
            if batches is not None and interval > batches and self.every_n_epochs is not None:
                raise UsageError(
                    f"val_check_interval={interval} is more than the {batches} batches of an "
                    "epoch; give check_val_every_n_epoch=None to count batches over epochs, or a "
                    "smaller number"
                )
            self._every = interval
        elif interval != 1.0:
            assert isinstance(interval, float)
            if batches is None:
                raise UsageError(
                    f"val_check_interval={interval} is a share, but the dataloader has no length; "
                    "give a number of batches (an int) or a time"
                )
            self._every = max(1, int(batches * interval))

    def begin(self) -> None:
        """Training begins, or a validation is over: time counts from here."""
        self._validated_s = monotonic()

    def is_due(self, epoch: int, batch_idx: int, batches: int, is_last: bool) -> bool:
        """Whether to validate after a training batch.

        Args:
            epoch, batch_idx: which it is.
            batches: trained so far, of all epochs.
            is_last: whether it is the epoch's last.
        """
        every_n, every = self.every_n_epochs, self._every
        if every_n is not None and (epoch + 1) % every_n:
            return False
        if self._every_s is not None:
            return monotonic() - self._validated_s >= self._every_s
        if every is None:
            return is_last
        return (batches if every_n is None else batch_idx + 1) % every == 0

    def is_due_at_early_end(self, epoch: int, batches: int, announced: int) -> bool:
        """Whether to validate where the data ended before the batch that was to be the last: if
        this was due after that one, and it is not due after so many batches whatever comes.

        Args:
            epoch: which it is.
            batches: of it, that there were.
            announced: batches that it was to have.
        """
        every_n, every = self.every_n_epochs, self._every
        if every_n is None or (epoch + 1) % every_n or every is None:
            return False  # is_due says all there is to say
        return announced % every == 0 and (isinstance(self.interval, float) or batches < every)

    def validated_within(self, epochs: int, ended: int, batches: int, of_epoch: int) -> bool:
        """Whether validation was due within the last epochs; it may have been where nobody knows.

        Args:
            epochs: so many.
            ended: how many there were.
            batches: trained in all of them.
            of_epoch: trained in the last one.
        """
        if self._every_s is not None:
            return True
        if self.every_n_epochs is not None:
            return ended // self.every_n_epochs * self.every_n_epochs > ended - epochs
        every = self._every or of_epoch or 1
        return batches // every * every > batches - epochs * of_epoch

    # -- checkpoints -------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """How long ago validation was, where it is due after a time; plain data."""
        return {} if self._every_s is None else {"since_s": monotonic() - self._validated_s}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        if "since_s" in state_dict:
            self._validated_s = monotonic() - state_dict["since_s"]
