"""DDPStrategy: how several ranks train copies of one module."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from inspect import signature
from typing import Any, ClassVar, Literal

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...bus.errors import UnsupportedArgumentError, UsageError
from .averaging import averaging

# The name that this version of torch has for it.
_SHARES_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)

Backend = Literal["gloo", "nccl"]
_HOOK = "nothing: gradients are averaged as they are"
_DEVICES = "Trainer(accelerator=..., devices=...)"
_FORMER = {
    "accelerator": _DEVICES,
    "parallel_devices": _DEVICES,
    "cluster_environment": "nothing: torchrun, srun and mpirun are recognised",
    "checkpoint_io": "nothing: checkpoints have one format",
    "precision_plugin": "Trainer(precision=...)",
    **dict.fromkeys(
        ("ddp_comm_state", "ddp_comm_hook", "ddp_comm_wrapper", "model_averaging_period"), _HOOK
    ),
    "start_method": "nothing: the script is started again, nothing is forked",
}


def _refuses_former(init: Callable[..., None]) -> Callable[..., None]:
    """Have ``__init__`` say what stands in the place of Lightning's arguments that it lacks."""

    @wraps(init)
    def __init__(self: Any, **given: Any) -> None:
        for name in [name for name in given if name in _FORMER]:
            if given.pop(name) is not None:
                raise UnsupportedArgumentError(
                    f"DDPStrategy({name}=...) is not supported; use instead: {_FORMER[name]}"
                )
        init(self, **given)

    return __init__


@dataclass(frozen=True, kw_only=True)
class DDPStrategy:
    """Trains a copy of the module on each rank, and averages the gradients in each backward.

    ``Trainer(strategy="ddp")`` means ``DDPStrategy()``. The options are those of torch's
    DistributedDataParallel.

    Args:
        find_unused_parameters: parameters may have no part in a step's loss. Without it, such a
            step ends with an error that says so.
        static_graph: the same parameters are used in the same order in each step.
        gradient_as_bucket_view: gradients are views into the buffers that ranks exchange, which
            saves memory.
        broadcast_buffers: buffers, such as BatchNorm's means, are those of rank 0 before each
            training step.
        bucket_cap_mb: size of these buffers in MiB; torch's default if None.
        process_group_backend: ``gloo`` or ``nccl``, for tensors of a GPU; ``nccl`` if None. Tensors
            of the CPU are always exchanged by gloo.
        timeout: of an exchange of tensors; torch raises after it. Torch's default if None.

    Attributes:
        strategy_name: what ``Trainer(strategy=...)`` calls it.

    Raises:
        UnsupportedArgumentError: an option of Lightning's does not exist here.
        UsageError: an option has no such value.
    """

    strategy_name: ClassVar[str] = "ddp"

    find_unused_parameters: bool = False
    static_graph: bool = False
    gradient_as_bucket_view: bool = False
    broadcast_buffers: bool = True
    bucket_cap_mb: float | None = None
    process_group_backend: Backend | None = None
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        if self.process_group_backend not in (None, "gloo", "nccl"):
            raise UsageError(
                f"process_group_backend={self.process_group_backend!r}: expected 'gloo', 'nccl' or "
                "None"
            )
        timeout = self.timeout
        if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta()):
            raise UsageError(f"timeout={timeout!r}: expected a timedelta above 0, or None")

    def backends(self, device_type: str) -> str:
        """Return torch's text for the backends of a process group.

        Args:
            device_type: ``cpu`` or ``cuda``; where the module is.

        Raises:
            UsageError: the chosen backend cannot exchange tensors of that device.
        """
        chosen = self.process_group_backend
        if device_type == "cuda":
            return f"cpu:gloo,cuda:{chosen or 'nccl'}"
        if chosen == "nccl":
            raise UsageError(
                "process_group_backend='nccl': it exchanges tensors of GPUs, and the run is on "
                f"{device_type!r}; leave it out, or give accelerator='gpu'"
            )
        return "gloo"

    def wrap(
        self, module: nn.Module, *, finds_unused: bool = False, shares_buffers: bool = True
    ) -> DistributedDataParallel:
        """Return a module whose backward averages its gradients over the ranks.

        The weights have to be the same on all ranks already.

        Args:
            module: its forward returns the loss.
            finds_unused: parameters may have no part in a loss, whatever the options say.
            shares_buffers: its forward may begin with an exchange of buffers.
        """
        buffers: dict[str, Any] = {_SHARES_BUFFERS: self.broadcast_buffers and shares_buffers}
        return averaging(
            module,
            init_sync=False,
            **buffers,
            bucket_cap_mb=self.bucket_cap_mb,
            find_unused_parameters=self.find_unused_parameters or finds_unused,
            gradient_as_bucket_view=self.gradient_as_bucket_view,
            static_graph=self.static_graph,
        )


DDPStrategy.__init__ = _refuses_former(DDPStrategy.__init__)  # type: ignore[method-assign]

_NAMES = {
    "ddp": DDPStrategy(),
    "ddp_find_unused_parameters_false": DDPStrategy(),
    "ddp_find_unused_parameters_true": DDPStrategy(find_unused_parameters=True),
}
_STARTING = "'ddp', whose processes are started as scripts: nothing is forked, nor pickled"
_NOT_THERE = "'ddp', which keeps a copy of the module on each device"
_INSTEAD = {
    **dict.fromkeys(("ddp_spawn", "ddp_fork", "ddp_notebook"), _STARTING),
    **dict.fromkeys(("dp", "ddp2", "fsdp", "fsdp2", "deepspeed"), _NOT_THERE),
}


def parse_strategy(strategy: object, ranks: int) -> DDPStrategy:
    """Return the strategy that the Trainer's argument means.

    Args:
        strategy: ``"auto"``, a name such as ``"ddp"``, or a DDPStrategy.
        ranks: how many processes train.

    Raises:
        UnsupportedArgumentError: it is one of Lightning that does not exist here.
        UsageError: it is none, or is for one process, and there are several.
    """
    if strategy == "single_device" and ranks > 1:
        raise UsageError(
            f"strategy='single_device': {ranks} processes train, a device each; use 'ddp', or "
            "start one process, with devices=1"
        )
    if isinstance(strategy, DDPStrategy):
        return strategy
    if strategy in (None, "auto", "single_device"):
        return DDPStrategy()
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name in _NAMES and isinstance(strategy, str):
        return _NAMES[name]
    known = (known for known in _INSTEAD if name == known or name.startswith(f"{known}_"))
    instead = next(map(_INSTEAD.__getitem__, known), None)
    if name == "DDPStrategy":
        instead = "nightbus.DDPStrategy(...), which has the same options"
    if instead is not None or not isinstance(strategy, str):
        raise UnsupportedArgumentError(
            f"strategy={name if isinstance(strategy, str) else strategy!r} is not supported; use "
            f"{instead or _NOT_THERE}"
        )
    expected = ", ".join(map(repr, ("auto", *_NAMES)))
    raise UsageError(f"strategy={strategy!r}: expected {expected} or a nightbus.DDPStrategy")
