"""Saves and restores the states of a module's torchmetrics Metrics."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...bus.errors import CheckpointError
from ..checkpoints.weight_names import plain_name, plain_names, wrapped_by

# Plain attributes in which Running and MinMaxMetric gather values.
_BESIDE_STATES = ("_num_vals_seen", "min_val", "max_val")


def torchmetrics_state(module: nn.Module, over: Collection[int] = ()) -> dict[str, dict[str, Any]]:
    """Return the states of the module's Metrics by their name in it; empty ones are left out.

    Args:
        module: the module.
        over: ids of Metrics whose epoch is over, and whose states are not needed any more.
    """
    for part in module.modules():
        if hasattr(
            part, "_compute_groups_create_state_ref"
        ):  # copies a shared state to each of its metrics
            list(part.values(copy_state=False))  # type: ignore[operator]
    return {
        plain_name(name): {
            "update_count": metric._update_count,
            "states": {state: getattr(metric, state) for state in metric._defaults},
            "beside": {part: vars(metric)[part] for part in _BESIDE_STATES if part in vars(metric)},
        }
        for name, metric in _metrics(module)
        if id(metric) not in over
        if metric._update_count or any(part in vars(metric) for part in _BESIDE_STATES)
    }


def load_torchmetrics_state(module: nn.Module, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Restore what ``torchmetrics_state`` returned.

    Args:
        module: the module.
        state: the states by name.

    Raises:
        CheckpointError: the module has no such Metric, or one with other states.
    """
    _grow_trackers(module, state)
    metrics = plain_names(dict(_metrics(module)))
    for name, saved in state.items():
        metric = metrics.get(name)
        if metric is None or metric._defaults.keys() != saved["states"].keys():
            raise CheckpointError(
                f"the checkpoint has states of a Metric {name} that do not fit the module"
            )
        metric._update_count = saved["update_count"]
        metric._computed = None
        for key, value in saved["states"].items():
            setattr(metric, key, _on(value, metric.device))
        for key, value in saved.get("beside", {}).items():
            if key in _BESIDE_STATES:
                setattr(metric, key, _on(value, metric.device))


def merged_torchmetrics_states(
    module: nn.Module, of_ranks: Sequence[Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """Return the states of several ranks as those of one.

    Args:
        module: the module.
        of_ranks: what ``torchmetrics_state`` returned on each rank.

    Raises:
        CheckpointError: a Metric does not say how its states are merged.
    """
    metrics = plain_names(dict(_metrics(module)))
    names = dict.fromkeys(name for of_rank in of_ranks for name in of_rank)
    return {
        name: _merged(
            name, metrics[name], [of_rank[name] for of_rank in of_ranks if name in of_rank]
        )
        for name in names
        if name in metrics  # the others are refused when they are loaded
    }


def _merged(name: str, metric: Any, saved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(saved) == 1:
        return dict(saved[0])
    states: dict[str, Any] = {}
    for state, reduction in metric._reductions.items():
        values = [each["states"][state] for each in saved]
        how = getattr(reduction, "__name__", "")
        if how == "dim_zero_cat":
            lists = [value if isinstance(value, list) else [value] for value in values]
            states[state] = [entry for value in lists for entry in value]
        elif how in ("dim_zero_sum", "dim_zero_max", "dim_zero_min"):
            states[state] = reduction(torch.stack(values))
        else:
            raise CheckpointError(
                f"the Metric {name} has gathered values in this epoch on {len(saved)} ranks, and "
                f"its state {state} does not say how they are added up; resume with as many "
                "devices, or from a checkpoint between two epochs"
            )
    return {
        "update_count": sum(each["update_count"] for each in saved),
        "states": states,
        "beside": saved[0].get("beside", {}),
    }


def _grow_trackers(module: nn.Module, names: Collection[str]) -> None:
    """Give each MetricTracker as many Metrics as it had, because it adds them during training."""
    for path, part in list(module.named_modules()):
        if wrapped_by(part) is not part:
            continue
        if hasattr(part, "increment") and hasattr(part, "_base_metric"):
            begin = f"{plain_name(path)}." if path else ""
            numbers = {
                name[len(begin) :].partition(".")[0] for name in names if name.startswith(begin)
            }
            for _ in range(sum(number.isdecimal() for number in numbers) + 1 - len(part)):
                part.increment()


def _metrics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, part in module.named_modules():
        # Not by its class, so that a module without metrics does not load torchmetrics.
        if wrapped_by(part) is not part:
            continue  # compiled: the wrapped module comes next, under the same names
        if hasattr(part, "_update_count") and hasattr(part, "_defaults"):
            yield name, part


def _on(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [_on(entry, device) for entry in value]
    return value.to(device) if hasattr(value, "to") else value
