"""States of the torchmetrics Metrics that a module has, for checkpoints."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from ..bus.errors import CheckpointError


def torchmetrics_state(module: nn.Module) -> dict[str, dict[str, Any]]:
    """What the module's Metrics have gathered, by their name in the module; those that have
    gathered nothing are left out.
    """
    for part in module.modules():
        if hasattr(part, "_compute_groups_create_state_ref"):  # metrics that share a state get it
            list(part.values(copy_state=False))  # type: ignore[operator]
    return {
        name: {
            "update_count": metric._update_count,
            "states": {state: getattr(metric, state) for state in metric._defaults},
        }
        for name, metric in _metrics(module)
        if metric._update_count
    }


def load_torchmetrics_state(module: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what ``torchmetrics_state`` gave.

    Raises:
        CheckpointError: the module has no such Metric, or one with other states.
    """
    metrics = dict(_metrics(module))
    for name, saved in state.items():
        metric = metrics.get(name)
        if metric is None or metric._defaults.keys() != saved["states"].keys():
            raise CheckpointError(
                f"the checkpoint has states of a Metric {name} that the module has not like that"
            )
        metric._update_count = saved["update_count"]
        metric._computed = None
        for key, value in saved["states"].items():
            setattr(metric, key, _on(value, metric.device))


def _metrics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, part in module.named_modules():
        # Not by its class: a module without metrics need not load torchmetrics.
        if hasattr(part, "_update_count") and hasattr(part, "_defaults"):
            yield name, part


def _on(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [_on(entry, device) for entry in value]
    return value.to(device) if hasattr(value, "to") else value
