"""The registries of strategies and accelerators, for packages that add some of their own.

What is added is found here by its name. The Trainer takes neither a strategy nor an accelerator of
a user's own, and says so when it is given one.
"""

from collections.abc import Callable
from typing import Any

from ..actors.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator
from ..actors.ranks.strategy import DDPStrategy


class _Registry(dict[str, dict[str, Any]]):
    """Entries by name: the class, its description, and the arguments that it was added with.

    Args:
        kind: what an entry calls its class.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind

    def register(
        self,
        name: str,
        added: Callable[..., Any] | None = None,
        description: str = "",
        override: bool = False,
        **init_params: Any,
    ) -> Any:
        """Add a class, or return a decorator that does.

        Args:
            name: its name here.
            added: the class.
            description: what it is.
            override: replace what has this name.
            **init_params: the arguments that it is made with.

        Returns:
            The class, or the decorator if no class is given.
        """

        def add(kind: Callable[..., Any]) -> Callable[..., Any]:
            if override or name not in self:
                entry = {"description": description, "init_params": init_params}
                self[name] = {**entry, self._kind: kind}
            return kind

        return add if added is None else add(added)

    def remove(self, name: str) -> None:
        """Take a class out.

        Args:
            name: its name here.
        """
        self.pop(name)

    def available(self) -> list[str]:
        """Return the names."""
        return list(self)

    available_strategies = available_accelerators = available


StrategyRegistry = _Registry("strategy")
StrategyRegistry.register("ddp", DDPStrategy, "Trains a copy of the module on each rank")
AcceleratorRegistry = _Registry("accelerator")
for _kind in (CPUAccelerator, CUDAAccelerator, MPSAccelerator):
    AcceleratorRegistry.register(_kind().name(), _kind, _kind.__doc__ or "")
