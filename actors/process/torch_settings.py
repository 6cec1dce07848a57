"""Changes torch's settings for a run, and restores them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch


def measure_algorithms(is_wanted: bool) -> None:
    """Let cuDNN choose algorithms by measuring them, or not, from now on.

    Args:
        is_wanted: True to let it.
    """
    torch.backends.cudnn.benchmark = is_wanted


@contextmanager
def torch_settings(deterministic: bool | Literal["warn"], detect_anomaly: bool) -> Iterator[None]:
    """Have the settings within; those that are False stay as they are.

    Args:
        deterministic: use deterministic algorithms; ``warn`` only warns where there is none.
        detect_anomaly: find the operation behind a NaN gradient.

    Returns:
        A context manager.
    """
    with ExitStack() as stack:
        if deterministic:
            before = torch.are_deterministic_algorithms_enabled()
            warned = torch.is_deterministic_algorithms_warn_only_enabled()
            stack.callback(torch.use_deterministic_algorithms, before, warn_only=warned)
            torch.use_deterministic_algorithms(True, warn_only=deterministic == "warn")
        if detect_anomaly:
            stack.enter_context(torch.autograd.set_detect_anomaly(True))
        yield
