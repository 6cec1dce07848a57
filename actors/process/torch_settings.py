"""Changes torch's settings for a run, and restores them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch


@contextmanager
def torch_settings(
    deterministic: bool | Literal["warn"], benchmark: bool | None, detect_anomaly: bool
) -> Iterator[None]:
    """Have the settings within; those that are False or None stay as they are.

    Args:
        deterministic: use deterministic algorithms; ``warn`` only warns where there is none.
        benchmark: let cuDNN choose algorithms by measuring them; if False, it does not.
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
        if benchmark is not None:
            stack.callback(
                setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark
            )
            torch.backends.cudnn.benchmark = benchmark
        if detect_anomaly:
            stack.enter_context(torch.autograd.set_detect_anomaly(True))
        yield
