"""RunningLoss: the training loss in the progress bar, smoothed."""

import time
from collections import deque

import torch
from torch import Tensor

from ..actors.metrics import Metrics

NAME = "loss"
WINDOW = 20  # losses
PUBLISH_EVERY_NS = 500_000_000


class RunningLoss:
    """Puts the mean of the last 20 losses to the progress bar, twice a second, unless the user has
    a training loss there.

    Where steps are fast it looks at 20 in a row and then pauses: to keep each loss would take 1 us
    a step.

    Args:
        metrics: where to put it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._recent: deque[Tensor] = deque(maxlen=WINDOW)
        self._number = 0  # losses looked at since the last was published
        self._is_fast = False
        self._looks_at_ns = 0  # no loss before is looked at
        self._due_ns = 0
        self._clock_ns = time.monotonic_ns
        self._put: object = None  # what was last put

    def add(self, loss: Tensor) -> None:
        """Take in a step's loss, of one element."""
        now_ns = self._clock_ns()
        if now_ns < self._looks_at_ns:
            return
        recent = self._recent
        recent.append(loss.detach())
        self._number += 1
        if self._number < WINDOW if self._is_fast else now_ns < self._due_ns:
            return
        if self._user_shows_a_loss():
            recent.clear()
            self._looks_at_ns = 1 << 62  # never again
            return
        mean = torch.stack(list(recent)).float().mean()
        self._metrics.put("fit", NAME, mean, ("progress_bar",))
        self._put = self._metrics.in_progress_bar.get(NAME)
        took_ns = now_ns - (self._looks_at_ns if self._is_fast else self._due_ns - PUBLISH_EVERY_NS)
        self._is_fast = self._number * PUBLISH_EVERY_NS > 2 * WINDOW * took_ns
        self._due_ns = now_ns + PUBLISH_EVERY_NS
        self._number = 0
        if self._is_fast:
            recent.clear()
            self._looks_at_ns = self._due_ns

    def _user_shows_a_loss(self) -> bool:
        shown = self._metrics.in_progress_bar
        return shown.get(NAME) is not self._put or any(
            "loss" in name and name != NAME and not name.startswith(("val", "test"))
            for name in shown
        )
