"""The bodies of fit, validate, test and predict, which run once the run is open."""

from typing import Any, Literal

import torch

from ..actors.callback import Callback
from ..actors.checkpoints.explained import explaining_left_out
from ..actors.checkpoints.lightning_format import as_in_lightning
from ..actors.data.rng import undrawn, undrawn_from
from ..actors.hooks import similar_method
from ..actors.module import LightningModule
from ..actors.ranks.seeds import spread_seeds
from ..actors.ranks.weights import share_weights, synchronize_batchnorm
from ..bus.errors import ArgumentTypeError
from ..bus.events import Scalar
from ..bus.system.logging_setup import get_logger
from ..bus.system.streams import notify_user
from ..loggers.logger import Logger
from .parts import TrainerParts
from .stages import Function
from .state import TrainerFn

_log = get_logger("nightbus.trainer", of_all_ranks=True)


def fit(trainer: TrainerParts, checkpoint: dict[str, Any] | None) -> None:
    """Train the module.

    Args:
        trainer: trainer with an open run.
        checkpoint: state of the checkpoint to resume from; None to train from scratch.
    """
    module, routes = trainer.lightning_module, trainer.routes
    _set_up(trainer, "fit", checkpoint)
    trainer.setup_optimizers()
    trainer.checkpointer.check_space()
    trainer.checkpointer.check_carried()
    trainer.loaders.schedule.begin()
    if checkpoint is not None:
        trainer.checkpointer.restore_training(checkpoint)
        trainer.optimization.begin_schedulers()
    trainer.place.move(epoch=trainer.current_epoch, step=trainer.global_step)
    routes.call("on_fit_start")
    routes.call("on_pretrain_routine_start")
    routes.call("on_pretrain_routine_end")
    trainer.loaders.check_validation()
    if checkpoint is None:
        _sanity_check(trainer)
        trainer.loaders.schedule.begin()
    module._attach(trainer)  # also its submodules that hooks have created
    _report_parts_in_eval_mode(module)
    _report_reached_limit(trainer)
    _report_default_limit(trainer)
    if trainer.epoch_counter is trainer.fit_loop:  # the data of a loop around it may come later
        trainer.loaders.request_training()  # before on_train_start
        early = checkpoint is None and not trainer.loaders.requests_validation_late
        if early and trainer.loaders.can_validate:
            with undrawn():  # as for the sanity check, which requests them before
                trainer.loaders.evaluation("validate")
        _check_accumulation(trainer)
        _check_log_interval(trainer)
    torch.set_grad_enabled(True)
    trainer.is_training_under_way = True
    trainer.fit_loop.run()
    if trainer.optimization.replicas is not None:
        trainer.optimization.replicas.compare_weights()
    trainer.is_training_under_way = False
    if not trainer.group.world.is_alone:
        trainer.checkpointer.wait()  # all ranks have to know how the last save ended
    routes.call("on_fit_end")
    tear_down(trainer, "fit")


def _report_parts_in_eval_mode(module: LightningModule) -> None:
    """Warn of parts in eval mode, which training leaves as they are."""
    modes = [part.training for part in module.modules()]
    if not all(modes):
        _log.warning(
            f"{modes.count(False)} of {len(modes)} parts of {type(module).__name__} are in eval "
            "mode, and stay in it while it is trained: no dropout, and batch normalisation keeps "
            "its statistics; call module.train() before fit() to train them all in train mode"
        )


def _report_reached_limit(trainer: TrainerParts) -> None:
    """Report that max_epochs or max_steps, which count over all fits, leave nothing to train."""
    counter = trainer.epoch_counter
    if counter is None or trainer.fit_loop is not counter or not counter.reached_limit:
        return
    if not (trainer.current_epoch or trainer.global_step):  # max_epochs=0 was asked for
        return
    notify_user(
        f"nightbus: {type(trainer.lightning_module).__name__} is not trained: this trainer has "
        f"already completed {trainer.current_epoch} epochs and {trainer.global_step} steps of "
        f"max_epochs={trainer.max_epochs} and max_steps={trainer.max_steps}, which count over all "
        "its fits; make a new Trainer for another module, or raise trainer.fit_loop.max_epochs to "
        "train further"
    )


def _report_default_limit(trainer: TrainerParts) -> None:
    """Warn, once a trainer, that nothing limits training but a default."""
    if trainer.has_default_epochs and trainer.epoch_counter is trainer.fit_loop:
        trainer.has_default_epochs = False
        _log.warning(
            f"neither max_epochs, max_steps nor max_time was given: training ends after "
            f"{trainer.max_epochs} epochs; give Trainer(max_epochs=...), or max_epochs=-1 to train "
            "until something else ends it"
        )


def _sanity_check(trainer: TrainerParts) -> None:
    """Validate a few batches, so that errors in validation show before training.

    Training is the same as without it: the states of random number generators are restored.
    """
    val_loop = getattr(trainer.epoch_loop, "val_loop", None)
    if val_loop is None or not trainer.loaders.can_validate:
        return
    if not trainer.loaders.wants_sanity_check:
        return
    with undrawn():
        trainer.loaders.sanity_checking = True
        trainer.loaders.evaluation("validate")
        trainer.metrics.begin_trial()
        module, callbacks = trainer.lightning_module, trainer.participants.callbacks_in_order
        owners = [*module.modules(), trainer.datamodule, *callbacks]
        with trainer.loaders.unread("validate"), undrawn_from(owners):
            trainer.routes.call("on_sanity_check_start")
            with trainer.place.in_stage("sanity_check"):
                val_loop.run()
                trainer.metrics.drop_stage()
            trainer.routes.call("on_sanity_check_end")
        trainer.metrics.end_trial()
        trainer.loaders.sanity_checking = False


def evaluate(
    trainer: TrainerParts,
    function: Literal["validate", "test"],
    checkpoint: dict[str, Any] | None,
) -> list[dict[str, Scalar]]:
    """Validate or test.

    Args:
        trainer: trainer with an open run.
        function: which of the two.
        checkpoint: state of the checkpoint to take the weights from, if any.

    Returns:
        The metrics of each dataloader.

    Raises:
        ArgumentTypeError: there is no dataloader.
    """
    _set_up(trainer, function, checkpoint)
    if not trainer.loaders.evaluation(function):
        raise ArgumentTypeError(_no_dataloader(trainer, function))
    results: list[dict[str, Scalar]] = trainer.loop_of(function).run()
    tear_down(trainer, function)
    return results


def predict(trainer: TrainerParts, checkpoint: dict[str, Any] | None) -> Any:
    """Predict.

    Args:
        trainer: trainer with an open run.
        checkpoint: state of the checkpoint to take the weights from, if any.

    Returns:
        The result of the predict loop.

    Raises:
        ArgumentTypeError: there is no dataloader.
    """
    _set_up(trainer, "predict", checkpoint)
    if not trainer.loaders.evaluation("predict"):
        raise ArgumentTypeError(_no_dataloader(trainer, "predict"))
    predictions = trainer.predict_loop.run()
    tear_down(trainer, "predict")
    return predictions


def _no_dataloader(trainer: TrainerParts, function: Function) -> str:
    hook = "val_dataloader" if function == "validate" else f"{function}_dataloader"
    hint = similar_method(trainer.datamodule or trainer.lightning_module, hook)
    return (
        f"there is no dataloader to {function} with: give {function}() dataloaders or a "
        f"datamodule, or define {hook}(), which returns one{hint}"
    )


def _check_accumulation(trainer: TrainerParts) -> None:
    """Warn if accumulate_grad_batches exceeds the number of batches of an epoch."""
    wanted, batches = trainer.accumulate_grad_batches, trainer.loaders.num_training_batches
    if batches is not None and wanted > batches > 0:
        _log.warning(
            f"accumulate_grad_batches={wanted} is more than the {batches} batches of an epoch; "
            "the optimizer steps at the end of each epoch all the same"
        )


def _check_log_interval(trainer: TrainerParts) -> None:
    """Warn if an epoch has fewer steps than there are between two that a logger gets."""
    every, batches = trainer.log_every_n_steps, trainer.loaders.num_training_batches
    if batches is not None and 0 < batches < every and isinstance(trainer.logger, Logger):
        _log.warning(
            f"an epoch has {batches} batches, fewer than log_every_n_steps={every}: the logger "
            "gets values of steps in few epochs; lower log_every_n_steps for more"
        )


def _set_up(trainer: TrainerParts, function: Function, checkpoint: dict[str, Any] | None) -> None:
    """Set up data, module and device; all functions begin with this."""
    module, routes = trainer.lightning_module, trainer.routes
    module._attach(trainer)
    trainer.wiring.connect()
    if trainer.local_rank == 0 and (trainer.prepare_data_per_node or trainer.is_global_zero):
        routes.call("prepare_data")
    trainer.group.wait_for_all("prepare_data")
    _add_module_callbacks(trainer)
    routes.call("on_before_accelerator_backend_setup")
    routes.call("setup", TrainerFn(function))
    with trainer.device.making_context():
        routes.call("configure_model")
    if checkpoint is not None:
        with explaining_left_out(checkpoint), as_in_lightning(checkpoint):
            routes.call("on_load_checkpoint", checkpoint)
    with trainer.device.making_context():
        routes.call("configure_sharded_model")
    routes.call("on_configure_sharded_model")
    module._attach(trainer)  # also its submodules that configure_model has created
    if checkpoint is not None:
        trainer.checkpointer.restore_module(checkpoint)
    if function == "fit" and trainer.sync_batchnorm and not trainer.group.world.is_alone:
        synchronize_batchnorm(module, trainer.device.device)
    trainer.device.place_module(module)
    share_weights(trainer.group, module)
    spread_seeds(trainer.group)
    routes.call("on_post_move_to_device")


def _add_module_callbacks(trainer: TrainerParts) -> None:
    found = trainer.routes.call("configure_callbacks")
    if not found:
        return
    added = [found] if isinstance(found, Callback) else list(found)
    trainer.participants.add_module_callbacks(added)
    for callback in added:
        trainer.enrol(callback)
    trainer.wiring.connect()


def tear_down(trainer: TrainerParts, function: Function) -> None:
    """Call ``teardown`` hooks and end the workers of loaders; all functions end with this.

    Args:
        trainer: trainer with an open run.
        function: function that runs.
    """
    try:
        trainer.routes.call("teardown", TrainerFn(function))
    finally:
        try:
            trainer.loop_of(function).teardown()
        finally:
            trainer.loaders.end_workers()
