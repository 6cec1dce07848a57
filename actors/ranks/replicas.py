"""Replicas: the ranks' copies of a module in training, whose gradients are averaged."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import LBFGS, Optimizer

from ...bus.copies import StaysInRun
from ...bus.errors import UsageError
from ...bus.routes import HookHandler
from ...bus.system.logging_setup import get_logger
from .gradients_ready import GradientsReady
from .group import Group
from .strategy import DDPStrategy
from .told import Told
from .weights import differing_weights, refuse_differing

Kind = Literal["one", "turns", "manual"]

_log = get_logger("nightbus.ranks")
# torch's words, in the step after one in which parameters had no part in the loss
_NOT_ALL_USED = "Expected to have finished reduction in the prior iteration"
_requires_grad = attrgetter("requires_grad")
_MAX_NAMES = 5  # in a message


class _Turn:
    """A training step under way; no module, whose attributes take long to set.

    Attributes:
        step: the training step.
        output: what it returned.
        has_loss: that had a loss.
        takes_root: its backward takes a root beside the loss.
        root: this root, if there is one.
    """

    __slots__ = ("has_loss", "output", "root", "step", "takes_root")

    def __init__(self) -> None:
        self.step: HookHandler = _no_step
        self.output: Any = None
        self.has_loss = self.takes_root = False
        self.root: tuple[Tensor, Tensor] | None = None


class _Step(nn.Module):
    """What DistributedDataParallel wraps: its forward is ``training_step``, and returns the loss.

    Args:
        module: the user's.
        ignored: names of its parameters whose gradients are not averaged here.
        turn: the training step.
        told: what ranks tell each other with the gradients; None for nothing.
    """

    def __init__(
        self, module: nn.Module, ignored: Iterable[str], turn: _Turn, told: Told | None
    ) -> None:
        super().__init__()
        self.module = module
        self.turn, self.told = turn, told
        self.numbers = None if told is None else told.parameter
        self._ddp_params_and_buffers_to_ignore = [f"module.{name}" for name in ignored]

    def forward(self, *arguments: Any) -> Any:
        turn = self.turn
        turn.root = None
        # A batch that is None on this rank may be one on others, who need its part.
        output = turn.output = None if arguments[0] is None else turn.step(*arguments)
        loss = output if isinstance(output, Tensor) else _loss_in(output)
        turn.has_loss = loss is not None
        if loss is None:
            loss = self.nothing()
        elif self.told is None or not isinstance(loss, Tensor) or not loss.requires_grad:
            return loss  # if there is something wrong with it, the loop says so, or torch
        elif turn.takes_root:
            turn.root = self.told.root
            return loss
        return loss if self.told is None else self.told.joined_to(loss)

    def nothing(self) -> Tensor:
        """Return a loss whose gradients are all zero."""
        ignored = set(self._ddp_params_and_buffers_to_ignore)
        zeros = (
            parameter.reshape(-1)[:0].sum()
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and name not in ignored
        )
        return sum(zeros, start=torch.zeros(()))


class _Loss(nn.Module):
    """What DistributedDataParallel wraps for ``manual_backward``: its forward gets the loss."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class _TakenUp(torch.autograd.Function):
    """A loss of zero, whose backward gives parameters gradients that are known already."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, restore: Callable[[], None]) -> Tensor:
        ctx.restore = restore
        return leaf.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.restore()
        return torch.zeros_like(gradients[0]), None


class Replicas(StaysInRun):
    """The ranks' copies of a module: the gradients of each backward are those of all ranks.

    With automatic optimization, DistributedDataParallel wraps a module whose forward is the
    training step; with several optimizers, one for each, of its own parameters. With manual
    optimization, it wraps what ``manual_backward`` gets. The user's module stays as it is.

    Args:
        group: the ranks.
        strategy: the options.
        module: the user's module, on its device, with the same weights on all ranks.
        optimizers: in order.
        kind: ``one`` optimizer, or several that take ``turns``, or ``manual`` optimization.
        ready: records when this rank's gradients are there; None if nobody will read that.

    Attributes:
        flag: of this rank, which the next averaging of gradients tells the others.
        tells_flags: it does, from the next epoch on; the same on all ranks.
        numbers: returns what else it tells, once the training step has been done.

    Raises:
        UsageError: an optimizer cannot be used on several ranks.
    """

    def __init__(
        self,
        group: Group,
        strategy: DDPStrategy,
        module: nn.Module,
        optimizers: Sequence[Optimizer],
        kind: Kind,
        ready: GradientsReady | None = None,
    ) -> None:
        if any(isinstance(optimizer, LBFGS) for optimizer in optimizers):
            raise UsageError(
                "LBFGS decides by the loss how often it evaluates a step, and ranks have different "
                "losses, so that they would wait for each other for ever; use another optimizer, "
                "or one process"
            )
        self._group, self._strategy, self._module = group, strategy, module
        self._optimizers, self._kind = optimizers, kind
        self._ready = ready
        self._syncs = True  # in the next backward; not while gradients are accumulated
        self.flag = self.tells_flags = False
        self.numbers: Callable[[], Sequence[float]] = tuple
        self._places = 0  # for these numbers
        self._has_told = False  # in the backward of the present batch
        self._keeps: set[int] = set()  # optimizers whose gradients belong to an accumulation
        self._step: HookHandler = _no_step
        self._turn = _Turn()
        self._told: Told | None = None
        self._wrapped: list[DistributedDataParallel] = []
        self._known: tuple[object, ...] = ()  # as _present returned it
        self._frozen: list[nn.Parameter] = []  # which no gradients are averaged for
        self._runs_own_step = False  # of a loop, which may call the module's
        self._has_told_difference = False
        group.before_exchange = self.check_averaged

    # -- which parameters --------------------------------------------------------------------

    def refresh(self) -> None:
        """Follow what was frozen, unfrozen or given to an optimizer since the last call.

        Called before each epoch.
        """
        found = self._present()
        if found == self._known:
            return
        if found[:2] != self._known[:2]:
            self._check_same()
        self._known = found
        self._frozen = [p for p in self._module.parameters() if not p.requires_grad]
        self._wrapped = []  # or the next would need memory beside them
        self._wrap()
        if self._ready is not None:
            self._ready.watch(self._optimizers)

    def _wrap(self) -> None:
        strategy, module = self._strategy, self._module
        if self._kind == "manual":
            several = len(self._optimizers) > 1
            loss = _Loss(module)
            self._wrapped = [strategy.wrap(loss, finds_unused=several, shares_buffers=False)]
            return
        self._told = None
        if self.tells_flags or self._places:
            self._told = Told(1 + self._places, _precision(module))
        ignored = self._ignored() if self._kind == "turns" else [set[str]()]
        steps = [_Step(module, names, self._turn, self._told) for names in ignored]
        self._wrapped = [strategy.wrap(step) for step in steps]

    def _follow_unfrozen(self) -> None:
        """Average gradients of parameters that were unfrozen within an epoch, too."""
        if not any(map(_requires_grad, self._frozen)):  # 160 take 11 us, in a generator 21
            return
        if self._kind == "one":
            self.refresh()
            return
        frozen = {id(parameter) for parameter in self._frozen}
        named = self._module.named_parameters()
        raise UsageError(
            f"{_listed(n for n, p in named if id(p) in frozen and p.requires_grad)}: unfrozen "
            "within an epoch, when the ranks' gradients are averaged for the parameters that "
            "required them at its beginning; do it in on_train_epoch_start"
        )

    def _check_same(self) -> None:
        """Check that all ranks are about to average gradients of the same parameters.

        Raises:
            RankMismatchError: they are not.
        """
        names = {id(parameter): name for name, parameter in self._module.named_parameters()}
        parts: list[tuple[str, Iterable[nn.Parameter]]] = [("", self._module.parameters())]
        if self._kind == "turns":
            groups = [optimizer.param_groups for optimizer in self._optimizers]
            parts = [
                (f" of optimizer {number}", [p for group in each for p in group["params"]])
                for number, each in enumerate(groups)
            ]
        refuse_differing(
            self._group,
            "what is trained, because it has frozen, unfrozen or converted parameters",
            [
                f"{names.get(id(p), 'a parameter that the module has not')}{of} {p.dtype}"
                for of, parameters in parts
                for p in parameters
                if p.requires_grad
            ],
            "of the parameters that are trained, {} comes next on rank 0, and {} on rank {}: "
            "freeze, unfreeze and convert the same ones on all ranks, at the same time",
        )

    def _present(self) -> tuple[object, ...]:
        groups = [
            [id(p) for group in optimizer.param_groups for p in group["params"]]
            for optimizer in self._optimizers
        ]
        own = [(id(p), p.requires_grad, p.dtype) for p in self._module.parameters()]
        of_turns = groups if self._kind == "turns" else None
        return own, of_turns, self.tells_flags, self._places

    def _ignored(self) -> list[set[str]]:
        """Return, for each optimizer, names of the parameters that it does not have."""
        named = list(self._module.named_parameters(remove_duplicate=False))
        return [
            {name for name, parameter in named if id(parameter) not in own}
            for optimizer in self._optimizers
            for own in [{id(p) for group in optimizer.param_groups for p in group["params"]}]
        ]

    # -- automatic optimization --------------------------------------------------------------

    def routed(self, step: HookHandler) -> HookHandler:
        """Return a training step whose backward averages the gradients.

        Args:
            step: the training step of this rank alone.
        """
        self._step = self._turn.step = step
        if self._kind == "manual":
            return self._step_by_hand
        return self._train_one if self._kind == "one" else self._train_in_turn

    def run_own_step(self, step: HookHandler, batch: Any, batch_idx: int, idx: int) -> Any:
        """Run the training step of a loop, so that its backward averages the gradients.

        Args:
            step: what the loop does, which may call the module's.
            batch: the batch.
            batch_idx: its number.
            idx: number of the optimizer.

        Returns:
            Its output.
        """
        if not self._wrapped:
            self.refresh()
        self._runs_own_step, self._turn.step = True, step
        try:
            return self._train(idx, (batch, batch_idx, idx))
        finally:
            self._runs_own_step, self._turn.step = False, self._step

    def _train_one(self, *arguments: Any) -> Any:
        return self._step(*arguments) if self._runs_own_step else self._train(0, arguments)

    def _train_in_turn(self, *arguments: Any) -> Any:
        if self._runs_own_step:
            return self._step(*arguments)
        return self._train(arguments[2], arguments)

    def _train(self, idx: int, arguments: tuple[Any, ...]) -> Any:
        if not self._wrapped:  # a loop of the user's own
            self.refresh()
        if self._frozen:
            self._follow_unfrozen()
        wrapped, turn = self._wrapped[idx], self._turn
        try:
            if self._syncs:
                self._group.met += 1  # where buffers are exchanged
                loss = wrapped(*arguments)
                self._group.met += 1  # on the way to where gradients are
                if self._told is not None:
                    self._told.tell(self.flag, self.numbers() if self._places else ())
                    self._has_told = True
            else:
                with wrapped.no_sync():
                    loss = wrapped(*arguments)
        except RuntimeError as error:
            if str(error).startswith(_NOT_ALL_USED):
                raise self._unused(wrapped.module) from error
            raise
        output, turn.output = turn.output, None
        if output is loss:
            return output
        if turn.has_loss:
            return loss if type(output) is Tensor else _with_loss(output, loss)
        return self._take_part(idx, loss) if self._syncs else output

    def check_averaged(self) -> None:
        """Check that the gradients of the last backward have been averaged.

        Raises:
            UsageError: parameters had no part in its loss, so that others wait for their gradients.
        """
        for wrapped in self._wrapped:
            try:
                wrapped.reducer._check_reducer_finalized()
            except RuntimeError as error:
                raise self._unused(wrapped.module) from error

    def _unused(self, step: Any) -> UsageError:
        """Return the error for a step before this one that did not use all parameters."""
        named = getattr(step, "_ddp_params_and_buffers_to_ignore", ())
        ignored = {name.removeprefix("module.") for name in named}
        unused = [
            name
            for name, parameter in step.module.named_parameters()
            if name not in ignored and (parameter.grad is None or not parameter.requires_grad)
        ]
        names = _listed(unused) or "a parameter"
        return UsageError(
            f"{names}: no part in the loss of the step before, so that ranks would wait for their "
            "gradients; leave out what is not used, freeze it before the epoch begins, or give "
            "strategy='ddp_find_unused_parameters_true'"
        )

    @property
    def carries(self) -> bool:
        """True if ranks can tell each other numbers with the gradients of a step.

        For that, they are averaged once a step, and can be read without waiting for them.
        """
        device = next((p.device for p in self._module.parameters()), torch.device("cpu"))
        return self._kind == "one" and device.type == "cpu"

    @contextmanager
    def roots_taken(self, are_taken: bool) -> Iterator[None]:
        """Leave what ranks tell each other to ``take_root()``, instead of joining it to losses.

        torch must not be asked to find all parameters from the loss.

        Args:
            are_taken: each backward within gets the root; otherwise nothing changes.
        """
        finds = self._strategy.find_unused_parameters or self._strategy.static_graph
        self._turn.takes_root = are_taken and not finds
        try:
            yield
        finally:
            self._turn.takes_root = False

    def join_roots(self) -> None:
        """Join to losses again what ranks tell each other, until roots are taken anew."""
        self._turn.takes_root = False

    def take_root(self) -> tuple[Tensor, Tensor] | None:
        """Return a leaf that is a root of the present backward, and what is added to its gradient.

        Returns:
            None if the loss is the only root.
        """
        turn = self._turn
        root, turn.root = turn.root, None
        return root

    @property
    def flagged(self) -> float:
        """Share of the ranks whose flag was set when gradients were averaged last."""
        return 0.0 if self._told is None else self._told.flagged()

    def carry(self, places: int) -> None:
        """Make room for numbers that ranks tell each other from the next step on.

        Args:
            places: how many; the same on all ranks.
        """
        self._places = places
        self.refresh()

    def heard(self) -> list[float] | None:
        """Return the sums of the numbers that ranks have told since the last call.

        Returns:
            None if they have not, as in a step that accumulates gradients.
        """
        has_told, self._has_told = self._has_told, False
        if self._told is None or not has_told:
            return None
        size = self._group.world.size
        return [mean * size for mean in self._told.heard()]

    def _take_part(self, idx: int, nothing: Tensor) -> Tensor | None:
        """Average the gradients without any of this rank's, whose step returned None.

        Returns:
            A loss for the step that all ranks make, or None if no rank had one.
        """
        parameters = [p for p in self._module.parameters() if p.requires_grad]
        if idx not in self._keeps:
            for parameter in parameters:
                parameter.grad = None
        here = f"no loss in step {self._group.met}"
        self._group.note(here)  # before it takes part, so after that all have noted it
        nothing.backward()
        if self._group.noted(here) == self._group.world.size:
            return None
        gradients = [parameter.grad for parameter in parameters]

        def restore() -> None:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient

        leaf = torch.zeros((), device=nothing.device, requires_grad=True)
        loss: Tensor = _TakenUp.apply(leaf, restore)  # type: ignore[no-untyped-call]
        return loss

    def accumulate(self, idx: int, will_step: bool, keeps: bool) -> None:
        """Be told of a turn of an accumulation, before its training step.

        Args:
            idx: number of the optimizer.
            will_step: it will step after this turn, so that gradients are averaged.
            keeps: its present gradients belong to the accumulation.
        """
        self._syncs = will_step
        (self._keeps.add if keeps else self._keeps.discard)(idx)

    def average_gradients(self, idx: int) -> None:
        """Average gradients that were accumulated, because no batch will come to do it.

        Args:
            idx: number of the optimizer.
        """
        parameters = [p for group in self._optimizers[idx].param_groups for p in group["params"]]
        if not parameters:
            return
        device = parameters[0].device
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        known = self._group.greatest(has).tolist()
        for parameter, is_there in zip(parameters, known, strict=True):
            if is_there:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                self._group.sum(parameter.grad).div_(self._group.world.size)

    def compare_weights(self) -> None:
        """Warn, once, if the ranks' weights are not the same any more."""
        if self._has_told_difference:
            return
        names = differing_weights(self._group, self._module)
        if names:
            self._has_told_difference = True
            _log.warning(
                "the weights differ between ranks: they were changed by something else than "
                "gradients that training_step's loss or manual_backward gave, or by random numbers "
                "that each rank drew for itself",
                parameters=_listed(names),
            )

    def share_buffers(self) -> None:
        """Give all ranks the buffers of rank 0, such as BatchNorm's means."""
        if self._strategy.broadcast_buffers:
            self._group.share(self._module.buffers())

    def check_gap(self, batch_idx: int, splits: bool) -> None:
        """Check that this rank can take part in a step without a batch.

        Args:
            batch_idx: the number of the batch that is None.
            splits: batches are split along time.

        Raises:
            UsageError: the module's own code says how often the ranks meet in a step.
        """
        if self._kind == "manual" or splits:
            how = "manual optimization" if self._kind == "manual" else "truncated_bptt_steps"
            raise UsageError(
                f"batch {batch_idx} is None on rank {self._group.world.rank}, and with {how} it is "
                "not known how often the others wait for it in this batch; give each rank a batch"
            )

    # -- manual optimization -----------------------------------------------------------------

    def _step_by_hand(self, *arguments: Any) -> Any:
        self.share_buffers()
        return self._turn.step(*arguments)

    def prepared(self, loss: Tensor) -> Tensor:
        """Return the loss for ``manual_backward``, whose backward averages the gradients.

        Args:
            loss: of this rank.
        """
        if not self._wrapped:
            self.refresh()
        if self._frozen:
            self._follow_unfrozen()
        wrapped = self._wrapped[0]
        if self._syncs:
            self._group.met += 1
            return wrapped(loss)  # type: ignore[no-any-return]
        with wrapped.no_sync():
            return wrapped(loss)  # type: ignore[no-any-return]

    @contextmanager
    def syncing(self, is_on: bool) -> Iterator[None]:
        """Average gradients within, or leave that to a later backward.

        Args:
            is_on: average them.
        """
        before, self._syncs = self._syncs, is_on
        try:
            yield
        finally:
            self._syncs = before


def _no_step(*_: Any) -> Any:
    raise UsageError("training_step was called before the run's hooks were connected")


def _listed(names: Iterable[str]) -> str:
    """Return some names as text, of many the first."""
    known = list(names)
    more = len(known) - _MAX_NAMES
    return ", ".join(known[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def _precision(module: nn.Module) -> torch.dtype:
    """Return float64 if all of its parameters have that, and otherwise float32."""
    found = {parameter.dtype for parameter in module.parameters() if parameter.requires_grad}
    return torch.float64 if found == {torch.float64} else torch.float32


def _loss_in(output: Any) -> Any:
    """Return the loss in the output of ``training_step``, which is checked later."""
    if isinstance(output, Tensor) or output is None:
        return output
    if isinstance(output, Mapping):
        return output.get("loss", output)
    return getattr(output, "minimize", None) if hasattr(output, "minimize") else output


def _with_loss(output: Any, loss: Any) -> Any:
    """Return the output of ``training_step`` with the loss that averages gradients."""
    if isinstance(output, Tensor):
        return loss
    if isinstance(output, MutableMapping) and "loss" in output:
        output["loss"] = loss
    elif hasattr(output, "minimize"):
        output.minimize = loss
    return output
