"""torch's settings for a run, and back to what they were."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch


@contextmanager
def torch_settings(
    deterministic: bool | Literal["warn"], benchmark: bool, detect_anomaly: bool
) -> Iterator[None]:
    """Switch on what is true within; what is false stays as it is."""
    with ExitStack() as stack:
        if deterministic:
            before = torch.are_deterministic_algorithms_enabled()
            warned = torch.is_deterministic_algorithms_warn_only_enabled()
            stack.callback(torch.use_deterministic_algorithms, before, warn_only=warned)
            torch.use_deterministic_algorithms(True, warn_only=deterministic == "warn")
        if benchmark:
            stack.callback(
                setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark
            )
            torch.backends.cudnn.benchmark = True
        if detect_anomaly:
            stack.enter_context(torch.autograd.set_detect_anomaly(True))
        yield
