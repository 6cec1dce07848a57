"""LightningModule: the model, its steps, its optimizers and its hooks."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..bus.actor import Actor
from ..bus.errors import UsageError, WeightsError
from ..bus.system.paths import as_path
from ..bus.system.streams import notify_once
from .checkpoints.weight_names import load_weights
from .checkpoints.weights_only import check_weights_only
from .class_methods import makes_new
from .clipping_arguments import may_lack_idx
from .export import ExportMixin
from .former_module import FormerModule, Registering
from .hyperparameter_file import device_of_map, with_hyperparameters_of
from .hyperparameters import HyperparametersMixin, restored_arguments
from .logging_mixin import LoggingMixin
from .misspelt_hooks import similar_name
from .model_hooks import ModelHooks
from .optimization.lightning_optimizer import Toggled
from .process.rank_zero import announce_rank
from .trees import move_data_to_device
from .truncated_bptt import split_along_time

if TYPE_CHECKING:
    pass

_NOT_GIVEN = object()
announce_rank()


class LightningModule(
    Registering, ModelHooks, HyperparametersMixin, ExportMixin, FormerModule, LoggingMixin, Actor
):
    """A torch module that defines its training step, its optimizers and its hooks.

    Override ``training_step`` and ``configure_optimizers``, and what else you need. A module is an
    actor: ``put`` records metrics, ``@on`` subscribes to events, ``tell`` sends commands.

    Attributes:
        automatic_optimization: if True, the trainer calls backward, step and zero_grad; if False,
            training_step does, with ``optimizers``, ``manual_backward`` and ``lr_schedulers``.
        truncated_bptt_steps: number of time steps in a split, for truncated back-propagation
            through time; 0 for none. training_step gets ``hiddens``, and returns them with the
            loss.
        strict_loading: if False, weights that a checkpoint lacks, or has beyond those of the
            module, are no error when a run is resumed or a module is loaded.

    Arguments of hooks:
        batch: what the dataloader returned, on the device once it has been transferred.
        batch_idx: index of the batch in its epoch.
        dataloader_idx: index of its dataloader.
        device: the ``torch.device`` of the run.
        epoch: index of the epoch.
        loss: tensor of shape ().
        optimizer: the optimizer whose turn it is; a LightningOptimizer in ``optimizer_step``.
        optimizer_idx: its index; overrides may leave it out.
        scheduler: a learning-rate scheduler of torch.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        checkpoint: the state of a checkpoint, a dict.
    """

    _has_hooks: ClassVar = True

    automatic_optimization: bool = True
    truncated_bptt_steps: int = 0
    strict_loading: bool = True
    # Properties that torch.jit.script is to leave out; filled below.
    __jit_unused_properties__: ClassVar[list[str]] = []

    @makes_new
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Construct a module with the hyperparameters and the weights of a checkpoint.

        Args:
            checkpoint_path: folder of the checkpoint.
            map_location: device of the module; the CPU by default. As for ``torch.load``, it may
                be a function or a dict too: a checkpoint is always read on the CPU, so they are
                asked where what is on the CPU goes.
            hparams_file: a YAML or CSV file whose hyperparameters replace the checkpoint's. With
                ``strict=False`` it may be missing, which a warning says.
            strict: refuse missing and unexpected weights; by default as ``strict_loading`` of the
                module says, which is set to it otherwise.
            weights_only: accepted for code written for Lightning, without effect: a checkpoint is
                always read completely and never executed. False logs a warning once.
            **kwargs: arguments of ``__init__``, which take precedence over the checkpoint's
                hyperparameters.

        Returns:
            The module.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            WeightsError: its weights do not fit the module.
            UsageError: an argument of ``__init__`` is missing, map_location is not a device, or
                hparams_file cannot be read.
        """
        from .checkpoints.explained import explaining_left_out
        from .checkpoints.format import read_checkpoint
        from .checkpoints.lightning_format import as_in_lightning

        check_weights_only("load_from_checkpoint", weights_only)
        device = device_of_map(map_location)
        state = read_checkpoint(as_path(checkpoint_path))
        state = with_hyperparameters_of(hparams_file, state, strict=strict)
        by_place, by_name = restored_arguments(cls, state, kwargs)
        module = cls(*by_place, **by_name)
        if module.configure_model is not None:  # None disables it
            module.configure_model()
        if module.on_load_checkpoint is not None:
            with explaining_left_out(state), as_in_lightning(state):
                module.on_load_checkpoint(state)
        if strict is not None:
            _report_contradiction(module, strict)
            module.strict_loading = strict
        try:
            load_weights(module, state, module.strict_loading)
        except RuntimeError as error:
            raise WeightsError(
                f"the weights in {checkpoint_path} do not fit {cls.__name__}: {error}"
            ) from error
        return module if device is None else module.to(device)

    # -- what users define -------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the model's output; define it if you call the module.

        Args:
            *args: as the override declares them.
            **kwargs: as the override declares them.

        Returns:
            The output.
        """
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the loss of one batch.

        Args:
            *args: batch, batch_idx, and optimizer_idx and hiddens where they apply.
            **kwargs: the same by name, as the override declares them.

        Returns:
            The loss, a tensor of shape (); or a dict with ``loss``; or None to skip the
            optimizer's turn.

        Raises:
            UsageError: the module does not define it.
        """
        raise UsageError(_missing(self, "training_step"))

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one validation batch.

        Args:
            *args: batch, batch_idx, and dataloader_idx if there are several dataloaders.
            **kwargs: the same by name, as the override declares them.

        Returns:
            Output for the hooks ``on_validation_batch_end`` and ``validation_epoch_end``, if any.
        """

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one test batch.

        Args:
            *args: batch, batch_idx, and dataloader_idx if there are several dataloaders.
            **kwargs: the same by name, as the override declares them.

        Returns:
            Output for the hooks ``on_test_batch_end`` and ``test_epoch_end``, if any.
        """

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Return the predictions for one batch; by default ``self(batch)``."""
        return self(batch)

    def configure_optimizers(self) -> Any:
        """Return the optimizers and schedulers, in one of the forms of docs/optimization.md."""
        raise UsageError(_missing(self, "configure_optimizers"))

    def configure_sharded_model(self) -> None:
        """Create submodules, when a run begins and before the checkpoint is loaded."""

    def configure_model(self) -> None:
        """Create submodules, when a run begins; the newer name of ``configure_sharded_model``."""

    def configure_callbacks(self) -> Any:
        """Return callbacks that belong to this module."""
        return []

    # -- data, if there is no datamodule -----------------------------------------------------

    def prepare_data(self) -> None:
        """Download and prepare data, once; do not assign state here."""

    def setup(self, stage: str) -> None:
        """Called when fit, validate, test or predict begins."""

    def teardown(self, stage: str) -> None:
        """Called when fit, validate, test or predict ends."""

    def train_dataloader(self) -> Any:
        """Return one dataloader, or a collection of them, for training."""

    def val_dataloader(self) -> Any:
        """Return one dataloader, or several, for validation."""

    def test_dataloader(self) -> Any:
        """Return one dataloader, or several, for testing."""

    def predict_dataloader(self) -> Any:
        """Return one dataloader, or several, for prediction."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch, changed if needed, before it is moved to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
        """Return the batch on the device; override it for batches of your own type."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch, changed if needed, on the device."""
        return batch

    # -- optimization ------------------------------------------------------------------------

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients of the loss.

        Args:
            loss: tensor of shape ().
            *args: the optimizer whose turn it is, and its index, if an override takes them.
            **kwargs: passed on to ``loss.backward``, for example ``retain_graph=True``.
        """
        loss.backward(**kwargs)

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients with manual optimization, of a scaled loss if the precision needs it.

        Args:
            loss: tensor of shape ().
            *args: passed on to ``backward``.
            **kwargs: passed on to ``backward``.

        Raises:
            UsageError: optimization is automatic.
        """
        if self.automatic_optimization:
            raise UsageError(
                "manual_backward() is for manual optimization; set self.automatic_optimization = "
                "False in __init__, or return the loss from training_step instead"
            )
        self.trainer.optimization.backward_by_hand(loss, *args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_idx: Any = 0,
        optimizer_closure: Any = None,
        **kwargs: Any,
    ) -> None:
        """Make one step of an optimizer.

        Args:
            epoch: index of the epoch.
            batch_idx: index of the batch in the epoch.
            optimizer: a LightningOptimizer.
            optimizer_idx: its index; may be left out.
            optimizer_closure: runs training_step, zero_grad and backward.
            **kwargs: accepted for overrides that pass on the flags of earlier versions.
        """
        if callable(optimizer_idx):  # optimizer_step(epoch, batch_idx, optimizer, closure)
            optimizer_closure = optimizer_idx
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_idx: int = 0
    ) -> None:
        """Clear the gradients of an optimizer's parameters."""
        optimizer.zero_grad()

    @may_lack_idx
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        optimizer_idx: Any = 0,
        gradient_clip_val: Any = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients after backward; by default as the Trainer's arguments say.

        Args:
            optimizer: optimizer of the parameters.
            optimizer_idx: its index; may be left out.
            gradient_clip_val: maximum norm, or maximum absolute value.
            gradient_clip_algorithm: ``norm`` or ``value``; None is the Trainer's.
        """
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of an optimizer's parameters.

        Args:
            optimizer: optimizer of the parameters.
            gradient_clip_val: maximum norm, or maximum absolute value; None is the Trainer's, and 0
                does not clip.
            gradient_clip_algorithm: ``norm`` or ``value``; None is the Trainer's, or ``norm``.

        Raises:
            UsageError: the algorithm is neither, or the Trainer clips in another way.
        """
        if (trainer := self._trainer) is not None and (own := trainer.gradient_clip_val):
            if gradient_clip_val not in (None, own):
                raise UsageError(
                    f"clip_gradients(gradient_clip_val={gradient_clip_val}) and "
                    f"Trainer(gradient_clip_val={own}) were given; leave one out"
                )
            of_trainer = trainer.gradient_clip_algorithm or gradient_clip_algorithm
            if gradient_clip_algorithm not in (None, of_trainer):
                raise UsageError(
                    f"clip_gradients(gradient_clip_algorithm={gradient_clip_algorithm!r}) and "
                    f"Trainer(gradient_clip_algorithm={trainer.gradient_clip_algorithm!r}) were "
                    "given; leave one out"
                )
            gradient_clip_val = own
            gradient_clip_algorithm = of_trainer
        if gradient_clip_algorithm not in (None, "norm", "value"):
            raise UsageError(
                f"gradient_clip_algorithm={gradient_clip_algorithm!r}: expected 'norm' or 'value'"
            )
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def lr_scheduler_step(
        self, scheduler: Any, optimizer_idx: Any = None, metric: Any = _NOT_GIVEN
    ) -> None:
        """Advance a learning-rate scheduler.

        Args:
            scheduler: scheduler of torch.
            optimizer_idx: index of its optimizer; may be left out.
            metric: value of the metric that it monitors; None if it monitors none.
        """
        if metric is _NOT_GIVEN:  # lr_scheduler_step(scheduler, metric)
            metric = optimizer_idx
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def optimizers(
        self, use_lightning_optimizer: bool = True, use_pl_optimizer: bool = True
    ) -> Any:
        """Return the run's optimizer, or a list if there are several.

        Args:
            use_lightning_optimizer: return LightningOptimizers, whose steps respect the precision
                and are counted, instead of torch optimizers.
            use_pl_optimizer: earlier name of the same argument.
        """
        trainer = self.trainer
        found: list[Any] = (
            trainer.optimization.lightning_optimizers
            if use_lightning_optimizer and use_pl_optimizer
            else trainer.optimization.optimizers
        )
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """Return the run's scheduler, a list if there are several, or None."""
        found = [config.scheduler for config in self.trainer.optimization.schedulers]
        if not found:
            return None
        return found[0] if len(found) == 1 else found

    def toggle_optimizer(self, optimizer: Any, optimizer_idx: int | None = None) -> Toggled:
        """Let only this optimizer's parameters require gradients, until ``untoggle_optimizer``.

        With several optimizers and automatic optimization, the trainer calls this for each turn.

        Args:
            optimizer: an optimizer from ``self.optimizers()``, or a torch optimizer of the run.
            optimizer_idx: its index, if known.

        Returns:
            A context manager for ``with self.toggle_optimizer(optimizer):``, whose exit untoggles.

        Raises:
            UsageError: it is not an optimizer of this run.
        """
        toggle = self.trainer.optimization.toggle
        if optimizer_idx is None:
            optimizer_idx = self._nightbus_optimizer_idx(optimizer)
        toggle.begin(optimizer_idx)
        return Toggled(toggle)

    def toggled_optimizer(self, optimizer: Any) -> Toggled:
        """Return ``toggle_optimizer(optimizer)``, for use in ``with``."""
        return self.toggle_optimizer(optimizer)

    def untoggle_optimizer(self, optimizer: Any = None) -> None:
        """Restore which parameters required gradients before ``toggle_optimizer``.

        Args:
            optimizer: accepted for code that passes the optimizer or its index; at most one is
                toggled at a time.
        """
        self.trainer.optimization.toggle.end()

    def _nightbus_optimizer_idx(self, optimizer: Any) -> int:
        found = self.trainer.optimization.optimizers
        wrapped = getattr(optimizer, "optimizer", optimizer)
        for idx, entry in enumerate(found):
            if entry is wrapped:
                return idx
        raise UsageError(
            f"toggle_optimizer got {type(optimizer).__name__}, which is none of the "
            f"{len(found)} optimizers that configure_optimizers returned"
        )

    def tbptt_split_batch(self, batch: Any, split_size: int) -> list[Any]:
        """Split a batch along time for truncated back-propagation through time.

        Used when ``truncated_bptt_steps`` is set. By default, dimension 1 of tensors and the
        entries of lists are time; override it for anything else.

        Args:
            batch: list or tuple of tensors of shape (batch, time, ...), lists of sequences, and
                other parts, which each split contains unchanged.
            split_size: number of time steps of a split; the last one may be shorter.

        Returns:
            The splits, lists of the same parts as the batch.

        Raises:
            UsageError: the parts differ in length, or none has a time dimension.
        """
        return split_along_time(batch, split_size)

    # -- state of the run --------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """Number of completed epochs, which is the index of the current one."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Number of completed optimizer steps."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the first floating-point parameter."""
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.get_default_dtype()

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a GPU of CUDA."""
        return self.device.type == "cuda"

    @property
    def device_mesh(self) -> None:
        """None: a module's weights are not spread over devices."""
        return None

    @property
    def fabric(self) -> None:
        """None: a module is run by a Trainer, and there is no Fabric."""
        return None

    @property
    def global_rank(self) -> int:
        """Rank of this process among all processes."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        """Rank of this process among those of this machine."""
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def logger(self) -> Any:
        """The first sink, or the Lightning logger that it wraps; None without sink or trainer."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> list[Any]:
        """The sinks, each replaced by the Lightning logger that it wraps, if it does."""
        return self._trainer.loggers if self._trainer is not None else []

    def freeze(self) -> Self:
        """Disable gradients for all parameters, and switch to eval mode; return the module."""
        return self.requires_grad_(False).eval()

    def unfreeze(self) -> Self:
        """Enable gradients for all parameters, and switch to train mode; return the module."""
        return self.requires_grad_(True).train()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print in the process of rank 0 only.

        Args:
            *args: as for the built-in ``print``.
            **kwargs: as for the built-in ``print``.
        """
        if self._trainer is None or self._trainer.is_global_zero:
            print(*args, **kwargs)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Give all ranks the tensors of all; see ``Trainer.all_gather``.

        Args:
            data: tensors or numbers, in any nesting of containers.
            group: None.
            sync_grads: let gradients flow back to the ranks that the tensors come from.

        Returns:
            The same containers, with tensors of shape (world_size, *shape); of shape (*shape) if
            there is one process only.
        """
        return self.trainer.all_gather(data, group, sync_grads)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain data or tensors to a checkpoint."""

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore what on_save_checkpoint added to a checkpoint."""

    def _attach(self, trainer: Any) -> None:
        """Attach the module to a trainer, or to none, and so all modules within it, at any depth.

        What those put and log is attributed to this module.
        """
        super()._attach(trainer)
        for part in self.modules():
            if part is not self and isinstance(part, LightningModule):
                for name in ("_trainer", "_nightbus_context", "_nightbus_address"):
                    object.__setattr__(part, name, getattr(self, name))


LightningModule.__jit_unused_properties__ += [
    name
    for kind in LightningModule.__mro__
    for name, value in vars(kind).items()
    if isinstance(value, property)
]


def _missing(module: LightningModule, hook: str) -> str:
    hint = similar_name(module, hook, (LightningModule,))
    return f"{type(module).__name__} must define {hook}(){hint}"


def _report_contradiction(module: LightningModule, strict: bool) -> None:
    """Tell that ``strict=`` holds if the module's own ``strict_loading`` says otherwise."""
    own = module.strict_loading
    is_own = "strict_loading" in vars(module) or type(module).strict_loading is not True
    if is_own and own != strict:
        notify_once(
            f"nightbus: load_from_checkpoint(strict={strict}) holds, although "
            f"{type(module).__name__}.strict_loading is {own}"
        )
