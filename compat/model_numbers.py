"""Numbers of a module: norms of gradients, operations, shared parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def grad_norm(
    module: nn.Module, norm_type: float | int | str, group_separator: str = "/"
) -> dict[str, float]:
    """Return the norm of each parameter's gradient, and of all together.

    Args:
        module: the module.
        norm_type: the p of the p-norm, above 0; ``inf`` for the largest.
        group_separator: stands before a parameter's name.

    Raises:
        ValueError: norm_type is not above 0.
    """
    power = float(norm_type)
    if not power > 0:
        raise ValueError(f"`norm_type` must be a positive number or 'inf'. Got {norm_type}")
    norms = {
        f"grad_{power}_norm{group_separator}{name}": parameter.grad.data.norm(power).item()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    if norms:
        every = torch.tensor(list(norms.values()), dtype=torch.double)
        norms[f"grad_{power}_norm_total"] = every.norm(power).item()
    return norms


def measure_flops(
    model: nn.Module,
    forward_fn: Callable[[], Tensor],
    loss_fn: Callable[[Tensor], Tensor] | None = None,
) -> int:
    """Return the number of floating point operations of a forward pass.

    Args:
        model: the module.
        forward_fn: calls it.
        loss_fn: makes the loss of what that returned, so that the backward pass counts too.
    """
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        output = forward_fn()
        if loss_fn is not None:
            loss_fn(output).backward()
    return counter.get_total_flops()


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """Return the names of parameters that are the same, for each that has several.

    Args:
        module: the module.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def set_shared_parameters(module: nn.Module, shared_params: list[list[str]]) -> nn.Module:
    """Have parameters be the same one.

    Args:
        module: the module.
        shared_params: names of those that are to be the first of them.

    Returns:
        The module.
    """
    for first, *others in shared_params:
        parameter = module.get_parameter(first)
        for name in others:
            owner, _, last = name.rpartition(".")
            setattr(module.get_submodule(owner), last, parameter)
    return module
