"""RunningLoss: the smoothed training loss in the progress bar."""

import math
import time
from collections import deque

import torch
from torch import Tensor

from ..actors.metrics.metrics import Metrics

NAME = "loss"
WINDOW = 20  # number of losses
PUBLISH_EVERY_NS = 500_000_000
_NEVER_NS = 1 << 62


class RunningLoss:
    """Puts the mean of the epoch's last 20 losses to the progress bar.

    It does so twice a second and at the end of the epoch, unless the user has a training loss
    there.
    If steps are fast it reads 20 in a row and then pauses, because keeping each loss would take 1
    us a step.

    Args:
        metrics: records it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._recent: deque[Tensor] = deque(maxlen=WINDOW)
        self._number = 0  # losses read since the last was published
        self._is_fast = False
        self._looks_at_ns = 0  # time of the next loss to read,
        self._last_batches: float = math.inf  # except from this batch on
        self._due_ns = 0
        self._put: object = None  # what was last put
        self._is_off = False
        self._clock_ns = time.monotonic_ns

    def begin_epoch(self, num_batches: int | None) -> None:
        """Begin an epoch.

        Args:
            num_batches: number of its batches; None if unknown.
        """
        self._recent.clear()
        self._number = 0
        if not self._is_off:
            self._last_batches = math.inf if num_batches is None else num_batches - WINDOW

    def add(self, loss: Tensor, batch_idx: int) -> None:
        """Add a step's loss.

        Args:
            loss: of one element.
            batch_idx: the number of its batch.
        """
        now_ns = self._clock_ns()
        if now_ns < self._looks_at_ns and batch_idx < self._last_batches:
            return
        self._recent.append(loss.detach())
        self._number += 1
        if now_ns < self._due_ns or (self._is_fast and self._number < WINDOW):
            return
        took_ns = now_ns - (self._looks_at_ns if self._is_fast else self._due_ns - PUBLISH_EVERY_NS)
        self._is_fast = self._number * PUBLISH_EVERY_NS > 2 * WINDOW * took_ns
        self._publish()
        self._due_ns = now_ns + PUBLISH_EVERY_NS
        if self._is_fast:
            self._recent.clear()
            self._looks_at_ns = self._due_ns

    def end_epoch(self) -> None:
        """End an epoch."""
        if self._recent:
            self._publish()

    def _publish(self) -> None:
        self._number = 0
        if self._is_off or self._user_shows_a_loss():
            self._is_off = True
            self._looks_at_ns, self._last_batches = _NEVER_NS, math.inf
            self._recent.clear()
            return
        mean = torch.stack(list(self._recent)).float().mean()
        self._metrics.put("fit", NAME, mean, ("progress_bar",))
        self._put = self._metrics.in_progress_bar.get(NAME)
        self._metrics.running_loss = self._put

    def _user_shows_a_loss(self) -> bool:
        return self._metrics.in_progress_bar.get(NAME) is not self._put or any(
            "loss" in name and name != NAME and not name.startswith(("val", "test"))
            for name in self._metrics.shown_within_epochs
        )
