"""LambdaCallback: a callback made of functions."""

from collections.abc import Callable
from typing import Any

from ...bus.errors import UnknownHookError, UsageError
from ..callback import Callback


class LambdaCallback(Callback):
    """Calls functions as hooks.

    Args:
        hooks: hook -> function; each is called as the method would be, with the trainer and the
            module first: ``LambdaCallback(on_train_end=lambda trainer, module: ...)``.

    Raises:
        UnknownHookError: callbacks have no such hook.
        UsageError: a value is not a function.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        known = callback_hooks()
        for name, function in hooks.items():
            if name not in known:
                raise UnknownHookError(name, "LambdaCallback", known)
            if function is None:
                continue
            if not callable(function):
                raise UsageError(
                    f"LambdaCallback({name}={function!r}): expected a function of the trainer, "
                    "the module and the hook's arguments"
                )
            setattr(self, name, function)


def callback_hooks() -> set[str]:
    """Return the names of the hooks that callbacks have."""
    from ..hook_table import HOOKS

    return {"on_init_start", "on_init_end", *(n for n, spec in HOOKS.items() if spec.callback)}
