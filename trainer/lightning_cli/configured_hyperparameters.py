"""Hyperparameters that are objects are kept as the configuration describes them."""

from collections.abc import Callable, Mapping
from typing import Any

from ...actors.hyperparameters import configured_by


def instantiator_for(configured: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what constructs a module or datamodule, with the configuration at hand.

    Args:
        configured: what the configuration has of it, in plain values.
    """
    arguments = configured.get("init_args", configured)

    def construct(
        kind: Callable[..., Any],
        *args: Any,
        applied_instantiation_links: Mapping[str, Any],
        **kwargs: Any,
    ) -> Any:
        filled = dict(arguments)
        for target, value in applied_instantiation_links.items():
            _fill(filled, target.split("."), value)
        with configured_by(kind, filled):
            return kind(*args, **kwargs)

    return construct


def _fill(arguments: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value that a link has found out, in the description of an object."""
    names = path[path.index("init_args") + 1 :] if "init_args" in path else path[1:]
    for name in names[:-1]:
        inner = arguments.get(name)
        if not isinstance(inner, dict):
            return
        arguments[name] = arguments = dict(inner)
    arguments[names[-1]] = value
