"""Averaging: DistributedDataParallel, whose forward begins and ends with fewer calls."""

from typing import Any

from torch import nn
from torch.autograd import profiler
from torch.nn.parallel import DistributedDataParallel

_FORWARD = (
    "torch autograd profiler record_function _pre_forward _delay_all_reduce_all_params module "
    "forward _run_ddp_forward _post_forward"
)
_RUN = "_use_python_reducer module _inside_ddp_forward"


class Averaging(DistributedDataParallel):
    """DistributedDataParallel, called without what is around its work.

    torch marks the time of its forward for profilers, looks for hooks of modules that users never
    see, enters a context, and looks at each flag that it sets as if it might be a parameter: 54
    calls of Python and C in a step. If a profiler runs, all is as in torch.
    """

    def __call__(self, *arguments: Any) -> Any:
        """Return what the wrapped module's forward returns."""
        if profiler._is_profiler_enabled or self._use_python_reducer:
            return super().__call__(*arguments)
        arguments, options = self._pre_forward(*arguments)  # type: ignore[no-untyped-call]
        before = DistributedDataParallel._active_ddp_module
        DistributedDataParallel._active_ddp_module = self  # for compiled parts of the module
        try:
            output = self._modules["module"].forward(*arguments, **options)  # type: ignore[union-attr]
        finally:
            DistributedDataParallel._active_ddp_module = before
        return self._post_forward(output)  # type: ignore[no-untyped-call]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if type(value) is bool:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def averaging(module: nn.Module, **options: Any) -> DistributedDataParallel:
    """Return a module whose backward averages gradients.

    Where this version of torch goes another way in its forward than Averaging knows, it is torch's
    own class.

    Args:
        module: its forward returns the loss.
        options: of DistributedDataParallel.
    """
    kind = Averaging if knows_torch() else DistributedDataParallel
    return kind(module, **options)


def knows_torch() -> bool:
    """Return whether Averaging does what this version of torch does."""
    own = DistributedDataParallel
    return (
        " ".join(own.forward.__code__.co_names) == _FORWARD
        and " ".join(own._run_ddp_forward.__code__.co_names) == _RUN
    )
