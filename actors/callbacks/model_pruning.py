"""ModelPruning: sets a share of the weights to 0 during training, for good."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from ...bus.errors import UsageError
from ...bus.system.streams import notify_user
from ..arguments import check_choice
from ..callback import Callback
from ..checkpoints.weight_names import plain_name
from .weight_averaging import WeightAveraging

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

Parameters = Sequence[tuple[nn.Module, str]]
Amount = int | float

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "l1_unstructured": prune.l1_unstructured,
    "random_unstructured": prune.random_unstructured,
    "ln_structured": prune.ln_structured,
    "random_structured": prune.random_structured,
}
_GLOBAL_METHODS = {
    "l1_unstructured": prune.L1Unstructured,
    "random_unstructured": prune.RandomUnstructured,
}
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class ModelPruning(Callback):
    """Prunes parameters at the end of epochs, with ``torch.nn.utils.prune``.

    A pruned parameter is 0 where it was pruned, in training too; the optimizer goes on with the
    values behind it. Checkpoints have the pruned values as the module's weights, and the masks as
    this callback's state, with which a resumed run goes on.

    Args:
        pruning_fn: ``l1_unstructured`` (the smallest), ``random_unstructured``, ``ln_structured``
            or ``random_structured`` (whole rows, by ``pruning_dim``), or a subclass of
            ``torch.nn.utils.prune.BasePruningMethod`` for unstructured pruning of all together.
        parameters_to_prune: pairs of a part of the module and a parameter's name; by default all
            of the module with one of ``parameter_names``. ``filter_parameters_to_prune`` may be
            overridden to choose among them.
        parameter_names: ``weight``, ``bias`` or both, which is the default; for structured pruning,
            those of them that have the dimension.
        use_global_unstructured: compare the values of all parameters with each other; otherwise
            each parameter is pruned by itself.
        amount: how much to prune each time: a share from 0 to 1 of what is left, or a number of
            values; or a function of the epoch that returns it, or None to prune nothing.
        apply_pruning: whether to prune; or a function of the epoch that returns it.
        make_pruning_permanent: put the pruned values into the parameters when training ends, and in
            checkpoints; otherwise they keep the form of torch.nn.utils.prune, ``weight_orig`` and
            ``weight_mask``.
        use_lottery_ticket_hypothesis: after pruning, set what is left back to its value at the
            begin of training, as in Frankle and Carbin, The Lottery Ticket Hypothesis, 2019; or a
            function of the epoch that returns whether to.
        resample_parameters: set it to new random values instead, with ``reset_parameters`` of the
            part.
        pruning_dim: the dimension whose slices are pruned, for structured pruning.
        pruning_norm: the norm by which they are compared, for ``ln_structured``.
        verbose: 1 reports on stderr how much is pruned, 2 also for each parameter.
        prune_on_train_epoch_end: prune at the end of training epochs; otherwise of validation.

    Raises:
        UsageError: an argument is wrong, or some do not go together.
    """

    why_not_replayed = "it prunes the model's weights, which a log does not hold"
    PARAMETER_NAMES = ("weight", "bias")

    def __init__(
        self,
        pruning_fn: Callable[..., Any] | str,
        parameters_to_prune: Parameters | None = (),
        parameter_names: Sequence[str] | None = None,
        use_global_unstructured: bool = True,
        amount: Amount | Callable[[int], Amount | None] = 0.5,
        apply_pruning: bool | Callable[[int], bool] = True,
        make_pruning_permanent: bool = True,
        use_lottery_ticket_hypothesis: bool | Callable[[int], bool] = True,
        resample_parameters: bool = False,
        pruning_dim: int | None = None,
        pruning_norm: int | None = None,
        verbose: int = 0,
        prune_on_train_epoch_end: bool = True,
    ) -> None:
        self._check_names(parameter_names)
        self._parameter_names = list(parameter_names or self.PARAMETER_NAMES)
        self._given = list(parameters_to_prune or ())
        self._is_global = use_global_unstructured
        if not callable(amount):
            _check_amount(amount)
        self._amount, self._applies = amount, apply_pruning
        self._make_permanent = make_pruning_permanent
        self._lottery, self._resamples = use_lottery_ticket_hypothesis, resample_parameters
        check_choice("verbose", verbose, (0, 1, 2))
        self._verbose = verbose
        self._on_train_epoch_end = prune_on_train_epoch_end
        self._method: Any = None  # of torch.nn.utils.prune, for global pruning
        self._function: Any = None  # the same for each parameter by itself
        self._options: dict[str, Any] = {}
        self._choose_method(pruning_fn, pruning_dim, pruning_norm)
        self._pruned: list[tuple[nn.Module, str]] = []
        self._names: dict[int, str] = {}  # of the module's parts
        self._originals: dict[str, Tensor] = {}
        self._copies: dict[int, Any] = {}  # of parts, whose parameters are drawn anew
        self._loaded: Mapping[str, Any] | None = None

    def _check_names(self, given: Sequence[str] | None) -> None:
        for name in given or ():
            if name not in self.PARAMETER_NAMES:
                raise UsageError(
                    f"parameter_names has {name!r}; expected some of "
                    f"{', '.join(map(repr, self.PARAMETER_NAMES))}"
                )

    def _choose_method(
        self, pruning_fn: Callable[..., Any] | str, dim: int | None, norm: int | None
    ) -> None:
        if isinstance(pruning_fn, type) and issubclass(pruning_fn, prune.BasePruningMethod):
            if not self._is_global or getattr(pruning_fn, "PRUNING_TYPE", "") != "unstructured":
                raise UsageError(
                    f"pruning_fn={pruning_fn.__name__}: a method of your own has PRUNING_TYPE "
                    "'unstructured', and prunes all parameters together "
                    "(use_global_unstructured=True)"
                )
            self._method = pruning_fn
            return
        if not isinstance(pruning_fn, str) or pruning_fn not in _FUNCTIONS:
            raise UsageError(
                f"pruning_fn={pruning_fn!r}: expected {', '.join(map(repr, _FUNCTIONS))}, or a "
                "subclass of torch.nn.utils.prune.BasePruningMethod"
            )
        if pruning_fn.endswith("_structured"):
            if self._is_global:
                raise UsageError(
                    f"pruning_fn={pruning_fn!r} prunes each parameter by itself, which is not what "
                    "is supported with `use_global_unstructured=True`; "
                    "give use_global_unstructured=False"
                )
            if dim is None:
                raise UsageError(f"pruning_fn={pruning_fn!r} needs pruning_dim=")
            self._options["dim"] = dim
        if pruning_fn == "ln_structured":
            if norm is None:
                raise UsageError(f"pruning_fn={pruning_fn!r} needs pruning_norm=")
            self._options["n"] = norm
        self._method = _GLOBAL_METHODS.get(pruning_fn)
        self._function = _FUNCTIONS[pruning_fn]

    def filter_parameters_to_prune(self, parameters_to_prune: Parameters = ()) -> Parameters:
        """Return which of the parameters are pruned; all by default.

        Args:
            parameters_to_prune: pairs of a part of the module and a parameter's name.
        """
        return parameters_to_prune

    # -- hooks -------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Begin without masks.

        Raises:
            UsageError: an average of the weights is kept too.
        """
        self._loaded = None
        if stage == "fit":
            _check_no_average(trainer)
            self._originals, self._pruned = {}, []

    def on_load_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Give weights their plain names, as in a module that is not pruned yet."""
        expected = pl_module.state_dict()
        weights = {}
        for name, value in checkpoint["state_dict"].items():
            plain = name.removesuffix("_orig")
            if name in expected or not name.endswith(("_orig", "_mask")):
                weights[name] = value
            elif plain != name and f"{plain}_mask" in checkpoint["state_dict"]:
                weights[plain] = value
        checkpoint["state_dict"] = weights

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find the parameters, and go on with the masks that a checkpoint had.

        Raises:
            UsageError: there is nothing to prune.
        """
        self._names = {id(part): plain_name(name) for name, part in pl_module.named_modules()}
        found = self.sanitize_parameters_to_prune(pl_module, self._given, self._parameter_names)
        if not self._given and (dim := self._options.get("dim")) is not None:
            found = [each for each in found if _has_dimension(_values(*each), dim)]
        self._pruned = [*self.filter_parameters_to_prune(found)]
        if self._lottery and self._resamples:
            self._copies = {id(part): copy.deepcopy(part) for part, _ in self._pruned}
        elif self._lottery:
            self._originals = {
                self._key(part, name): _values(part, name).detach().clone()
                for part, name in self._pruned
            }
        if self._loaded is not None:
            loaded, self._loaded = self._loaded, None
            self._originals |= loaded["originals"]
            for part, name in self._pruned:
                mask = loaded["masks"].get(self._key(part, name))
                if mask is not None and not _is_pruned(part, name):
                    prune.custom_from_mask(part, name, mask.to(_values(part, name).device))

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._on_train_epoch_end:
            self._prune_if_due(trainer)

    def on_validation_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not self._on_train_epoch_end and not trainer.sanity_checking and self._pruned:
            self._prune_if_due(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._make_permanent:
            self.make_pruning_permanent(pl_module)

    def on_save_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Save the pruned values as the module's weights."""
        if not self._make_permanent:
            return
        weights = dict(checkpoint["state_dict"])
        for part, name in self._pruned:
            if _is_pruned(part, name):
                key = self._key(part, name)
                original = weights.pop(f"{key}_orig")
                weights[key] = original * weights.pop(f"{key}_mask").to(original.dtype)
        checkpoint["state_dict"] = weights

    # -- pruning -----------------------------------------------------------------------------

    @staticmethod
    def sanitize_parameters_to_prune(
        module: nn.Module,
        parameters_to_prune: Parameters | None = (),
        parameter_names: Sequence[str] | None = None,
    ) -> Parameters:
        """Return the parameters to prune.

        Args:
            module: the module.
            parameters_to_prune: pairs of a part of it and a parameter's name; none for all.
            parameter_names: names of the parameters, if all are pruned; ``weight`` and ``bias`` by
                default.

        Raises:
            UsageError: a part is not the module's, or there is no such parameter.
        """
        if parameters_to_prune:
            parts = {id(part) for part in module.modules()}
            for part, name in parameters_to_prune:
                if id(part) not in parts or not isinstance(_values(part, name), Tensor):
                    raise UsageError(
                        f"parameters_to_prune has {name!r} of a {type(part).__name__}; expected "
                        "pairs of a part of the module and the name of one of its parameters"
                    )
            return parameters_to_prune
        names = parameter_names or ModelPruning.PARAMETER_NAMES
        found = [
            (part, name)
            for part in module.modules()
            if part is not module and not isinstance(part, _CONTAINERS)
            for name in names
            if isinstance(_values(part, name), nn.Parameter)
        ]
        if not found:
            raise UsageError(
                f"ModelPruning found no parameter of {type(module).__name__} called "
                f"{' or '.join(names)}; give parameters_to_prune="
            )
        return found

    def _prune_if_due(self, trainer: "Trainer") -> None:
        epoch = trainer.current_epoch
        applies = self._applies(epoch) if callable(self._applies) else self._applies
        amount = self._amount(epoch) if callable(self._amount) else self._amount
        if not applies or amount is None:
            return
        _check_amount(amount)
        if amount == 0:
            return
        self.apply_pruning(amount)
        if not trainer.world.is_alone:  # a random choice is that of rank 0
            trainer.group.share(_mask(part, name) for part, name in self._pruned)
        if self._lottery(epoch) if callable(self._lottery) else self._lottery:
            self.apply_lottery_ticket_hypothesis()
        if self._verbose:
            notify_user("\n".join(self._report(amount)))

    def apply_pruning(self, amount: Amount) -> None:
        """Prune the parameters.

        Args:
            amount: a share of what is left, or a number of values.
        """
        if self._is_global:
            prune.global_unstructured(
                self._pruned, pruning_method=self._method, amount=amount, **self._options
            )
            return
        for part, name in self._pruned:
            self._function(part, name=name, amount=amount, **self._options)

    def apply_lottery_ticket_hypothesis(self) -> None:
        """Set what is left back to its value at the begin of training, or to a random one."""
        with torch.no_grad():
            for part, name in self._pruned:
                _values(part, name).copy_(self._fresh(part, name))
                setattr(part, name, _values(part, name) * _mask(part, name))

    def _fresh(self, part: nn.Module, name: str) -> Tensor:
        if not self._resamples:
            return self._originals[self._key(part, name)]
        fresh = self._copies[id(part)]
        if not hasattr(fresh, "reset_parameters"):
            raise UsageError(
                f"resample_parameters=True: {type(part).__name__} has no reset_parameters()"
            )
        fresh.reset_parameters()
        return _values(fresh, name)

    def make_pruning_permanent(self, module: nn.Module) -> None:
        """Put the pruned values into the parameters, and forget what they were.

        Args:
            module: the module.
        """
        for part in module.modules():
            for name in [*_pruned_names(part)]:
                prune.remove(part, name)

    def _report(self, amount: Amount) -> Iterator[str]:
        left = {self._key(part, name): _mask(part, name) for part, name in self._pruned}
        zeros = sum(int((mask == 0).sum()) for mask in left.values())
        total = sum(mask.numel() for mask in left.values())
        share = f"{zeros / total:.2%}"
        yield f"ModelPruning: pruned {amount}; {zeros} of {total} values ({share}) are 0"
        if self._verbose > 1:
            for name, mask in left.items():
                zeros = int((mask == 0).sum())
                yield f"  {name}: {zeros} of {mask.numel()} ({zeros / mask.numel():.2%})"

    def _key(self, part: nn.Module, name: str) -> str:
        prefix = self._names[id(part)]
        return f"{prefix}.{name}" if prefix else name

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return tensors for a checkpoint."""
        pruned = [(part, name) for part, name in self._pruned if _is_pruned(part, name)]
        return {
            "masks": {self._key(part, name): _mask(part, name) for part, name in pruned},
            "originals": dict(self._originals),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, when fit begins."""
        self._loaded = state_dict


def _check_no_average(trainer: "Trainer") -> None:
    for callback in trainer.callbacks_in_order:
        if isinstance(callback, WeightAveraging):
            name = type(callback).__name__
            raise UsageError(
                f"ModelPruning and {name} were given: pruning replaces the parameters whose "
                f"average {name} keeps; leave one out, or prune in a run of its own"
            )


def _check_amount(amount: Any) -> None:
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not is_number or amount < 0 or (isinstance(amount, float) and amount > 1):
        raise UsageError(
            f"amount={amount!r}: expected a share from 0.0 to 1.0, a number of values, or a "
            "function of the epoch that returns one, or None"
        )


def _has_dimension(values: Tensor, dim: int) -> bool:
    return -values.dim() <= dim < values.dim()


def _is_pruned(part: nn.Module, name: str) -> bool:
    return hasattr(part, f"{name}_mask")


def _pruned_names(part: nn.Module) -> Iterator[str]:
    for name, _ in part.named_buffers(recurse=False):
        if name.endswith("_mask") and hasattr(part, name.removesuffix("_mask") + "_orig"):
            yield name.removesuffix("_mask")


def _values(part: nn.Module, name: str) -> Tensor:
    """Return what the optimizer changes."""
    key = f"{name}_orig" if _is_pruned(part, name) else name
    return cast("Tensor", getattr(part, key, None))


def _mask(part: nn.Module, name: str) -> Tensor:
    return cast("Tensor", getattr(part, f"{name}_mask"))
