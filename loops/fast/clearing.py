"""Clearing gradients without what ``Optimizer.zero_grad`` does around it."""

from torch.autograd import profiler
from torch.optim import Optimizer

_is_torchs = Optimizer.zero_grad.__globals__["__name__"].startswith("torch.")
_ZERO_GRAD: object = Optimizer.zero_grad if _is_torchs else object()  # a user's patch is called


def clear_gradients(optimizer: Optimizer) -> None:
    """Do what ``optimizer.zero_grad()`` does.

    torch's own method marks its time for profilers and keeps its compiler away, in 39 calls. If a
    profiler runs, or the method is another, it is called.

    Args:
        optimizer: whose parameters' gradients are set to None.
    """
    method = getattr(optimizer.zero_grad, "__func__", None)
    if method is not _ZERO_GRAD or profiler._is_profiler_enabled:
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
