"""BaseFinetuning and BackboneFinetuning: train parts of a module later than the rest."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ...bus.errors import CheckpointError, UsageError
from ...bus.system.logging_setup import get_logger
from ...bus.system.streams import notify_user
from ..arguments import check_at_least
from ..callback import Callback
from ..checkpoints.weight_names import plain_name, plain_names

if TYPE_CHECKING:
    from torch.nn import Parameter

    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.finetuning", of_all_ranks=True)
Modules = nn.Module | Iterable["Modules"]


class BaseFinetuning(Callback):
    """Freezes parts of a module before training, and unfreezes them at epochs of your choice.

    Override ``freeze_before_training`` and ``finetune_function``. What is frozen and which
    parameter groups were added is saved in checkpoints and restored from them.
    """

    why_not_replayed = "it freezes and unfreezes the model, which a log does not hold"

    def __init__(self) -> None:
        self._base_groups: list[int] = []  # number of groups of each optimizer as configured
        self._loaded: dict[str, Any] | None = None
        self._module: nn.Module | None = None
        self._optimizers: list[Optimizer] = []

    def freeze_before_training(self, pl_module: "LightningModule") -> None:
        """Freeze parts of the module with ``self.freeze``; called before ``configure_optimizers``.

        Args:
            pl_module: the module.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to define freeze_before_training(self, module)"
        )

    def finetune_function(
        self, pl_module: "LightningModule", epoch: int, optimizer: Optimizer
    ) -> None:
        """Unfreeze parts with ``self.unfreeze_and_add_param_group``.

        Called for each optimizer when an epoch begins. A fourth parameter, if there is one, is the
        optimizer's number.

        Args:
            pl_module: the module.
            epoch: the epoch's number, from 0.
            optimizer: the optimizer.

        Raises:
            UsageError: a subclass does not override it.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has to define finetune_function(self, module, epoch, optimizer)"
        )

    # -- tools -------------------------------------------------------------------------------

    @staticmethod
    def flatten_modules(modules: Modules) -> list[nn.Module]:
        """Return the modules without children, and those with parameters of their own, in order.

        Args:
            modules: a module, or any nesting of iterables of modules.
        """
        if not isinstance(modules, nn.Module):
            return [part for entry in modules for part in BaseFinetuning.flatten_modules(entry)]
        return [
            part
            for part in modules.modules()
            if not any(True for _ in part.children()) or any(True for _ in part.parameters(False))
        ]

    @staticmethod
    def filter_params(
        modules: Modules, train_bn: bool = True, requires_grad: bool = True
    ) -> "Iterator[Parameter]":
        """Yield parameters of modules.

        Args:
            modules: a module, or any nesting of iterables of modules.
            train_bn: include those of batch normalisation.
            requires_grad: those that require gradients (True) or those that do not (False).
        """
        for part in BaseFinetuning.flatten_modules(modules):
            if isinstance(part, _BatchNorm) and not train_bn:
                continue
            for parameter in part.parameters(recurse=False):
                if parameter.requires_grad == requires_grad:
                    yield parameter

    @staticmethod
    def make_trainable(modules: Modules) -> None:
        """Make all parameters require gradients, and batch normalisation update its statistics."""
        for part in BaseFinetuning.flatten_modules(modules):
            if isinstance(part, _BatchNorm):
                part.track_running_stats = True
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad = True

    @staticmethod
    def freeze_module(module: nn.Module) -> None:
        """Freeze one module's own parameters, and the statistics of batch normalisation."""
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False

    @staticmethod
    def freeze(modules: Modules, train_bn: bool = True) -> None:
        """Freeze parameters.

        Args:
            modules: a module, or any nesting of iterables of modules.
            train_bn: leave batch normalisation trainable.
        """
        for part in BaseFinetuning.flatten_modules(modules):
            if isinstance(part, _BatchNorm) and train_bn:
                BaseFinetuning.make_trainable(part)
            else:
                BaseFinetuning.freeze_module(part)

    @staticmethod
    def filter_on_optimizer(
        optimizer: Optimizer, params: "Iterable[Parameter]"
    ) -> "list[Parameter]":
        """Return the parameters that the optimizer does not have yet; a warning reports the others.

        Args:
            optimizer: the optimizer.
            params: the parameters.
        """
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        params = list(params)
        fresh = [parameter for parameter in params if id(parameter) not in known]
        if len(fresh) < len(params):
            _log.warning(
                "parameters that the optimizer already has are not added again; leave them out in "
                "configure_optimizers",
                parameters=len(params) - len(fresh),
            )
        return fresh

    @staticmethod
    def unfreeze_and_add_param_group(
        modules: Modules,
        optimizer: Optimizer,
        lr: float | None = None,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
    ) -> None:
        """Unfreeze modules, and have the optimizer train them in a parameter group of their own.

        Args:
            modules: a module, or any nesting of iterables of modules.
            optimizer: the optimizer.
            lr: the group's learning rate; the first group's, divided by ``initial_denom_lr``, by
                default.
            initial_denom_lr: see ``lr``.
            train_bn: train batch normalisation too; otherwise it stays frozen.
        """
        BaseFinetuning.make_trainable(modules)
        rate = optimizer.param_groups[0]["lr"] / initial_denom_lr if lr is None else lr
        found = BaseFinetuning.filter_params(modules, train_bn=train_bn)
        params = BaseFinetuning.filter_on_optimizer(optimizer, found)
        if params:
            optimizer.add_param_group({"params": params, "lr": rate, "initial_lr": rate})
        if not train_bn:
            for part in BaseFinetuning.flatten_modules(modules):
                if isinstance(part, _BatchNorm):
                    BaseFinetuning.freeze_module(part)

    # -- hooks -------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        if stage == "fit":
            self._loaded = None
            self._base_groups, self._optimizers = [], []
            self.freeze_before_training(pl_module)

    def on_load_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Set aside the optimizers' states of added groups, until these groups are added."""
        saved = checkpoint.get("actors", {}).get(self.saved_as)
        if not saved or not saved.get("base_groups") or "optimizer_states" not in checkpoint:
            return
        whole = checkpoint["optimizer_states"]
        bases = saved["base_groups"]
        self._loaded = {**saved, "optimizer_states": whole}
        checkpoint["optimizer_states"] = [
            _first_groups(state, base) for state, base in zip(whole, bases, strict=True)
        ]

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Add the parameter groups that a checkpoint had."""
        self._module, self._optimizers = pl_module, trainer.optimizers
        self._base_groups = [len(optimizer.param_groups) for optimizer in trainer.optimizers]
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            named = plain_names(dict(pl_module.named_parameters()))
            for name, parameter in named.items():
                parameter.requires_grad = name in loaded["trainable"]
            for name, part in pl_module.named_modules():
                if isinstance(part, _BatchNorm):
                    part.track_running_stats = plain_name(name) in loaded["tracking"]
            states = zip(
                trainer.optimizers, loaded["groups"], loaded["optimizer_states"], strict=True
            )
            for idx, (optimizer, groups, state) in enumerate(states):
                for names in groups[self._base_groups[idx] :]:
                    optimizer.add_param_group({"params": [_found(named, name) for name in names]})
                optimizer.load_state_dict(state)
        self._adjust_schedulers(trainer)

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        takes_number = _takes_number(self.finetune_function)
        for idx, optimizer in enumerate(trainer.optimizers):
            number = (idx,) if takes_number else ()
            self.finetune_function(pl_module, trainer.current_epoch, optimizer, *number)
        self._adjust_schedulers(trainer)

    @staticmethod
    def _adjust_schedulers(trainer: "Trainer") -> None:
        """Add rates for the added groups to the schedulers, which keep one for each group."""
        for config in trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            groups = scheduler.optimizer.param_groups
            for name in ("base_lrs", "min_lrs", "lr_lambdas"):
                values = getattr(scheduler, name, None)
                if isinstance(values, list) and values:
                    for group in groups[len(values) :]:
                        initial = group.get("initial_lr", group["lr"])
                        values.append(initial if name == "base_lrs" else values[-1])

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        if self._module is None or not self._optimizers:
            return {}
        names = {id(p): plain_name(name) for name, p in self._module.named_parameters()}
        return {
            "base_groups": self._base_groups,
            "groups": [
                [[names.get(id(p), "") for p in group["params"]] for group in o.param_groups]
                for o in self._optimizers
            ],
            "trainable": [
                plain_name(name) for name, p in self._module.named_parameters() if p.requires_grad
            ],
            "tracking": [
                plain_name(name)
                for name, part in self._module.named_modules()
                if isinstance(part, _BatchNorm) and part.track_running_stats
            ],
        }


class BackboneFinetuning(BaseFinetuning):
    """Trains ``module.backbone`` only from an epoch on, with a learning rate that grows.

    The backbone joins the first optimizer; ``configure_optimizers`` leaves it out.

    Args:
        unfreeze_backbone_at_epoch: the epoch from which the backbone is trained, from 0.
        lambda_func: epoch -> factor by which the backbone's rate is multiplied when it begins.
        backbone_initial_ratio_lr: the backbone's first rate, as a share of the first group's.
        backbone_initial_lr: the backbone's first rate, instead of that.
        should_align: the backbone's rate does not exceed the first group's.
        initial_denom_lr: see ``unfreeze_and_add_param_group``; not used, as a rate is given.
        train_bn: train the backbone's batch normalisation too, from the first epoch on.
        verbose: report the rates on stderr.
        rounding: digits of a reported rate.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        unfreeze_backbone_at_epoch: int = 10,
        lambda_func: Callable[[int], float] = lambda epoch: 2.0,
        backbone_initial_ratio_lr: float = 10e-2,
        backbone_initial_lr: float | None = None,
        should_align: bool = True,
        initial_denom_lr: float = 10.0,
        train_bn: bool = True,
        verbose: bool = False,
        rounding: int = 12,
    ) -> None:
        super().__init__()
        if unfreeze_backbone_at_epoch is None:
            raise UsageError("unfreeze_backbone_at_epoch=None: expected an int of at least 0")
        check_at_least("unfreeze_backbone_at_epoch", unfreeze_backbone_at_epoch, 0)
        if not callable(lambda_func):
            raise UsageError(
                f"lambda_func={lambda_func!r}: expected a function of the epoch's number"
            )
        self.unfreeze_backbone_at_epoch = unfreeze_backbone_at_epoch
        self.lambda_func = lambda_func
        self.backbone_initial_ratio_lr = backbone_initial_ratio_lr
        self.backbone_initial_lr = backbone_initial_lr
        self.should_align = should_align
        self.initial_denom_lr = initial_denom_lr
        self.train_bn = train_bn
        self.verbose = verbose
        self.rounding = rounding
        self.previous_backbone_lr: float | None = None

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Freeze the backbone.

        Raises:
            UsageError: the module has no backbone.
        """
        if not isinstance(getattr(pl_module, "backbone", None), nn.Module):
            raise UsageError(
                "BackboneFinetuning trains module.backbone later, but "
                f"{type(pl_module).__name__} has no attribute backbone that is an nn.Module"
            )
        super().setup(trainer, pl_module, stage)

    def freeze_before_training(self, pl_module: "LightningModule") -> None:
        """Freeze the backbone."""
        self.previous_backbone_lr = None
        self.freeze(pl_module.backbone, train_bn=self.train_bn)

    def finetune_function(
        self,
        pl_module: "LightningModule",
        epoch: int,
        optimizer: Optimizer,
        optimizer_idx: int = 0,
    ) -> None:
        """Unfreeze the backbone at its epoch, and increase its rate from then on."""
        if optimizer_idx > 0 or epoch < self.unfreeze_backbone_at_epoch:
            return
        head = float(optimizer.param_groups[0]["lr"])
        if self.previous_backbone_lr is None:
            given = self.backbone_initial_lr
            rate = head * self.backbone_initial_ratio_lr if given is None else given
            self.unfreeze_and_add_param_group(
                pl_module.backbone,
                optimizer,
                rate,
                self.initial_denom_lr,
                self.train_bn,
            )
        else:
            rate = self.lambda_func(epoch + 1) * self.previous_backbone_lr
            if self.should_align and rate > head:
                rate = head
            optimizer.param_groups[-1]["lr"] = rate
        self.previous_backbone_lr = rate
        if self.verbose:
            digits = self.rounding
            notify_user(
                f"BackboneFinetuning: learning rates: first {round(head, digits)}, "
                f"backbone {round(rate, digits)}"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {**super().state_dict(), "previous_backbone_lr": self.previous_backbone_lr}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        super().load_state_dict(state_dict)
        self.previous_backbone_lr = state_dict["previous_backbone_lr"]


def _first_groups(state: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return an optimizer's state with only its first groups."""
    groups = state["param_groups"][:number]
    known = {idx for group in groups for idx in group["params"]}
    per_parameter = {idx: entry for idx, entry in state["state"].items() if idx in known}
    return {**state, "state": per_parameter, "param_groups": groups}


def _found(named: Mapping[str, Any], name: str) -> Any:
    if name not in named:
        raise CheckpointError(
            f"the checkpoint's optimizer has the parameter {name!r}, which the module does not"
        )
    return named[name]


def _takes_number(method: Callable[..., Any]) -> bool:
    parameters = inspect.signature(method).parameters.values()
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(places) > 3 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
