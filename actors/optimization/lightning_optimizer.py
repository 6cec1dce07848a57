"""LightningOptimizer, and toggling of optimizers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.optim import LBFGS, Optimizer

from ...bus.errors import UsageError
from ...bus.routes import HookHandler


class LightningOptimizer:
    """An optimizer as ``self.optimizers()`` and ``optimizer_step`` provide it.

    ``step`` respects the precision and, from ``self.optimizers()``, is counted and announced.
    Everything else is passed to the wrapped optimizer, of whose class it counts as an instance. A
    copy, and one that was made by hand, belong to no run: their steps are those of the wrapped
    optimizer.

    Args:
        optimizer: the torch optimizer.
        optimizer_idx: its position in what ``configure_optimizers`` returned.
        step: makes a step, with optimizer, number and closure; the optimizer itself by default.
        toggle: toggles the run's optimizers.
        syncing: on several ranks, returns the context in which their gradients are averaged, or
            not.

    Attributes:
        optimizer: as given.
        optimizer_idx: as given.
    """

    _toggle: "OptimizerToggle | None" = None
    _syncing: Callable[[bool], AbstractContextManager[None]] | None = None

    def __init__(
        self,
        optimizer: Optimizer,
        optimizer_idx: int = 0,
        step: Callable[..., Any] | None = None,
        toggle: "OptimizerToggle | None" = None,
        syncing: Callable[[bool], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.optimizer_idx = optimizer_idx
        if step is not None:
            self._step = step  # type: ignore[method-assign]
        self._toggle = toggle
        self._syncing = syncing

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Step the optimizer.

        Args:
            closure: computes the loss and its gradients; LBFGS needs one.
            kwargs: passed on to the optimizer's step.

        Returns:
            What the optimizer's step returns: the closure's loss, or None.
        """
        return self._step(self.optimizer, self.optimizer_idx, closure, **kwargs)

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Make only this optimizer's parameters require gradients within.

        Args:
            sync_grad: average gradients over several ranks in ``manual_backward`` within; without
                it, they are accumulated for a later one.
        """
        if self._toggle is None:
            raise UsageError(
                "toggle_model() of an optimizer that belongs to no run, such as a copy; call it on "
                "what self.optimizers() returns"
            )
        self._toggle.begin(self.optimizer_idx)
        syncing = nullcontext() if self._syncing is None else self._syncing(sync_grad)
        try:
            with syncing:
                yield
        finally:
            self._toggle.end()

    @staticmethod
    def _step(
        optimizer: Optimizer, optimizer_idx: int, closure: Callable[[], Any] | None, **kwargs: Any
    ) -> Any:
        return optimizer.step(closure, **kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The wrapped optimizer's class, so that schedulers of torch take it for an optimizer."""
        return type(self.__dict__.get("optimizer", self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self.optimizer, self.optimizer_idx)

    def __getattr__(self, name: str) -> Any:
        if "optimizer" not in self.__dict__:  # while being copied
            raise AttributeError(name)
        return getattr(self.__dict__["optimizer"], name)

    def __repr__(self) -> str:
        return f"Lightning{self.__dict__['optimizer']!r}"


class OptimizerToggle:
    """Makes only one optimizer's parameters require gradients.

    Args:
        optimizers: the run's optimizers.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers
        self._foreign: list[list[nn.Parameter]] = []
        self._known_groups = -1  # a changed number of groups means that parameters were added
        self._frozen: list[nn.Parameter] = []

    @property
    def frozen(self) -> Sequence[nn.Parameter]:
        """The parameters that require no gradients until ``end``."""
        return self._frozen

    def begin(self, optimizer_idx: int) -> None:
        """Disable gradients of parameters that only other optimizers have."""
        if self._frozen:
            self.end()
        groups = 0
        for optimizer in self._optimizers:
            groups += len(optimizer.param_groups)
        if groups != self._known_groups:
            self._foreign, self._known_groups = self._find_foreign(), groups
        self._frozen = frozen = [p for p in self._foreign[optimizer_idx] if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad = False

    def forget_parameters(self) -> None:
        """Look again which parameters the optimizers have, because they are others."""
        self._known_groups = -1

    def end(self) -> None:
        """Enable gradients of the parameters that required them before ``begin``."""
        for parameter in self._frozen:
            parameter.requires_grad = True
        self._frozen = []

    def _find_foreign(self) -> list[list[nn.Parameter]]:
        """Return, for each optimizer, the parameters that only others have."""
        groups = [
            {id(p): p for group in optimizer.param_groups for p in group["params"]}
            for optimizer in self._optimizers
        ]
        everything = {key: p for own in groups for key, p in own.items()}
        return [[p for key, p in everything.items() if key not in own] for own in groups]


class Toggled:
    """The context manager that ``toggle_optimizer`` returns; it untoggles at its end."""

    def __init__(self, toggle: OptimizerToggle) -> None:
        self._toggle = toggle

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._toggle.end()


def default_step(optimizers: Sequence[Optimizer]) -> HookHandler:
    """Return what ``optimizer_step`` does if the module does not override it.

    torch's own optimizers, except LBFGS, evaluate a closure once and first. Doing that for them
    saves a change of grad mode, 3 us a step, with the same result to the bit.
    """
    if evaluates_first(optimizers):

        def evaluate_then_step(
            epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int, closure: Any
        ) -> None:
            closure()
            optimizer.step()

        return evaluate_then_step

    def step(epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int, closure: Any) -> None:
        optimizer.step(closure)

    return step


def evaluates_first(optimizers: Sequence[Optimizer]) -> bool:
    """Return whether ``default_step`` begins by evaluating the closure, once."""
    return bool(optimizers) and all(_evaluates_closure_once(each) for each in optimizers)


def _evaluates_closure_once(optimizer: Optimizer) -> bool:
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and not isinstance(optimizer, LBFGS)
