"""Throughput: how many batches, samples and operations a loop does in a second."""

from collections import deque
from typing import NamedTuple

from ..bus.errors import UsageError
from .arguments import check_at_least


class Counts(NamedTuple):
    """Seconds and counts by then, since the loop began."""

    time: float
    batches: int
    samples: int
    lengths: int | None


class Throughput:
    """Measures a loop of your own: call ``update`` after each batch, ``compute`` to read.

    Rates are those of the last ``window_size`` updates. On a GPU, call ``torch.cuda.synchronize()``
    before you read the clock.

    Args:
        available_flops: floating-point operations per second that one device could do.
        world_size: number of processes that do the same; above 1 there are rates of all together.
        window_size: number of updates over which rates are measured; at least 2.
        separator: stands between ``device`` and the rest of a name.

    Raises:
        UsageError: an argument is wrong.
    """

    needs_full_window = True
    """Whether there are no rates before there were ``window_size`` updates."""

    def __init__(
        self,
        available_flops: float | None = None,
        world_size: int = 1,
        window_size: int = 100,
        separator: str = "/",
    ) -> None:
        check_at_least("world_size", world_size, 1)
        if window_size is None:
            raise UsageError("window_size=None: expected an int of at least 2")
        check_at_least("window_size", window_size, 2)
        self.available_flops = available_flops
        self.world_size = world_size
        self.separator = separator
        self._window: deque[Counts] = deque(maxlen=window_size)
        self._flops: deque[int] = deque(maxlen=window_size)

    def update(
        self,
        *,
        time: float,
        batches: int,
        samples: int,
        lengths: int | None = None,
        flops: int | None = None,
    ) -> None:
        """Take the counts after a batch; all but ``flops`` are totals since the loop began.

        Args:
            time: seconds.
            batches: batches of this process.
            samples: samples of this process.
            lengths: items in them, such as tokens; None to leave them out.
            flops: operations of this process since the last call; None to leave them out.

        Raises:
            UsageError: a total has not grown, or there are fewer samples than batches, or fewer
                items than samples, or items at some calls only.
        """
        counts = Counts(time, batches, samples, lengths)
        if samples < batches:
            raise UsageError(f"samples={samples}: expected at least batches={batches}")
        if lengths is not None and lengths < samples:
            raise UsageError(f"lengths={lengths}: expected at least samples={samples}")
        if self._window:
            self._check_growth(self._window[-1], counts)
        self._add(counts, flops)

    def _add(self, counts: Counts, flops: int | None) -> None:
        self._window.append(counts)
        if flops is not None:
            self._flops.append(flops)

    def _check_growth(self, before: Counts, counts: Counts) -> None:
        if (before.lengths is None) != (counts.lengths is None):
            raise UsageError("lengths was given at some calls only; give it at all or at none")
        for name in Counts._fields:
            last, now = getattr(before, name), getattr(counts, name)
            if now is not None and now <= last:
                raise UsageError(
                    f"{name}={now}: expected the total since the loop began, above the {last} of "
                    "the call before"
                )

    def compute(self) -> dict[str, int | float]:
        """Return the totals and, as soon as there are any, the rates; nothing before an update.

        ``device/..._per_sec`` are those of this process, without ``device/`` those of all.
        ``device/mfu`` is the share of ``available_flops``.
        """
        if not self._window:
            return {}
        first, last = self._window[0], self._window[-1]
        found: dict[str, int | float] = last._asdict()
        if last.lengths is None:
            del found["lengths"]
        seconds = last.time - first.time
        if seconds > 0 and self._may_measure(len(self._window)):
            rates = {
                "batches": (last.batches - first.batches) / seconds,
                "samples": (last.samples - first.samples) / seconds,
            }
            if first.lengths is not None and last.lengths is not None:
                rates["items"] = (last.lengths - first.lengths) / seconds
            if self._may_measure(len(self._flops)):
                rates["flops"] = (sum(self._flops) - self._flops[0]) / seconds
            found |= self._named(rates)
        return found

    def _may_measure(self, updates: int) -> bool:
        return updates >= (self._window.maxlen or 2) if self.needs_full_window else updates >= 2

    def _named(self, rates: dict[str, float]) -> dict[str, float]:
        own = {f"device{self.separator}{name}_per_sec": rate for name, rate in rates.items()}
        if "flops" in rates and self.available_flops:
            own[f"device{self.separator}mfu"] = rates["flops"] / self.available_flops
        if self.world_size == 1:
            return own
        return {f"{name}_per_sec": rate * self.world_size for name, rate in rates.items()} | own

    def reset(self) -> None:
        """Forget all updates, so that another loop can be measured."""
        self._window.clear()
        self._flops.clear()
