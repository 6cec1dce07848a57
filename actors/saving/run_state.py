"""RunState: what a checkpoint holds of a run, gathered and restored."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.actor import Actor, actor_name
from ...bus.errors import CheckpointError, WeightsError
from ...bus.events import Resharded
from ...bus.system.logging_setup import get_logger
from ..callback import Callback
from ..checkpoints.lightning_format import as_in_lightning
from ..checkpoints.module_modes import ModuleModes
from ..checkpoints.weight_names import load_weights, plain_name, plain_names
from ..data.rng import rng_state, set_rng_state
from ..metrics.states import load_torchmetrics_state, torchmetrics_state
from ..run_context import RunContext
from ..run_optimization import RunOptimization
from .left_out import LeftOut, report_left_out
from .optimizer_states import optimizer_states, restore_optimizers
from .rank_states import check_states_of_ranks, report_missing, state_of_rank, states_of_ranks
from .resharding import Resharding
from .saved_hyperparameters import SavedHyperparameters

_log = get_logger("nightbus.checkpoint", of_all_ranks=True)


class RunState:
    """Gathers the state of a run for a checkpoint, and restores it.

    Args:
        context: the run.
        optimization: its optimizers and schedulers.
        hyperparameters: makes hyperparameters part of checkpoints.
    """

    def __init__(
        self,
        context: RunContext,
        optimization: RunOptimization,
        hyperparameters: SavedHyperparameters,
    ) -> None:
        self._context, self._optimization = context, optimization
        self._hyperparameters = hyperparameters
        self._end_seq = -1  # the log's last event, once it is closed
        self._rng: Mapping[str, Any] | None = None  # restored once training begins
        self._modes: ModuleModes | None = None  # since training began
        self._saved_modes: Mapping[str, Any] | None = None
        self.left_out = LeftOut(context)

    # -- gathering ---------------------------------------------------------------------------

    def gather(
        self,
        weights_only: bool,
        resume_point: Mapping[str, Any] | None,
        kept: Sequence[str],
        by_all: bool,
        epoch: int,
    ) -> dict[str, Any]:
        """Return what a checkpoint holds: plain data and tensors.

        Args:
            weights_only: leave out what only resuming needs.
            resume_point: an earlier one, from which the run is to be resumed; by default, it is
                resumed from here.
            kept: names of the run's own checkpoints.
            by_all: all ranks are here, and each adds what is its own.
            epoch: the one that ran; after training, the number of epochs.

        Raises:
            CheckpointError: a rank's own state cannot be saved; raised on rank 0.
        """
        context = self._context
        module = context.lightning_module
        state: dict[str, Any] = {
            "epoch": context.current_epoch,
            "saved_in_epoch": epoch,
            "global_step": context.global_step,
            "state_dict": plain_names(module.state_dict()),
            **self._hyperparameters.of(module),
        }
        if context.datamodule is not None:
            saved = self._hyperparameters.of(context.datamodule)
            state |= {f"datamodule_{name}": value for name, value in saved.items()}
        if not weights_only:
            state |= resume_point or self.resume_point()
            state["kept"] = list(kept)
            if not context.group.world.is_alone:
                state |= states_of_ranks(context.group, state, by_all)
        with context.showing_epoch(epoch), as_in_lightning(state):
            context.routes.call("on_save_checkpoint", state)
        check_states_of_ranks(state)
        return self.left_out.without(state)

    def resume_point(self) -> dict[str, Any]:
        """Return from where a run saved now is resumed: all states but the weights."""
        context = self._context
        seq = self._last_seq()  # before actors are asked for states, which might cause events
        return {
            "epoch": context.current_epoch,
            "run": context.run_folder.info.id if context.run_folder else "",
            "attempt": context.attempt,
            "seq": seq,
            **optimizer_states(self._optimization),
            "scaler": context.device.state_dict(),
            "loops": {"fit_loop": context.fit_loop.state_dict()},
            "optimization": context.optimization_progress.state_dict(),
            "actors": self._states_of_actors(),
            "actor_classes": self._classes(),
            "loaders": context.loaders.state_dict(),
            "batches": {
                "samples": context.loaders.samples_a_batch,
                "accumulate": context.accumulate_grad_batches,
            },
            "datamodule": context.datamodule.state_dict() if context.datamodule else {},
            "metrics": context.metrics.state_dict(),
            "torchmetrics": torchmetrics_state(context.lightning_module, context.metrics.over),
            "gradients": self._gradients(),
            "modes": self._modes.state_dict(self._optimization.toggle.frozen)
            if self._modes is not None and context.training
            else None,
            "rng": rng_state(),
        }

    def record_last_event(self) -> None:
        """Record the number of the log's last event, because the log is closed next."""
        self._end_seq = self._last_seq()

    def _last_seq(self) -> int:
        """Return the number of the last event in the log."""
        self._context.bus.flush(wait=True)  # as for the weights, which are copied next
        writer = self._context.bus.writer
        return self._end_seq if writer is None else writer.written_seq - 1

    def _states_of_actors(self) -> dict[str, Any]:
        return {name: actor.state_dict() for name, actor in self._actors_with_state().items()}

    def _classes(self) -> dict[str, str]:
        """Return the names of the classes of participants, by the names that states have."""
        found = {
            name: type(actor).__qualname__ for name, actor in self._actors_with_state().items()
        }
        data = self._context.datamodule
        return found if data is None else found | {"datamodule": type(data).__qualname__}

    def _actors_with_state(self) -> dict[str, Actor]:
        """Return callbacks, including those of the module, and actors, by name."""
        return {
            actor.saved_as if isinstance(actor, Callback) else actor_name(actor): actor
            for actor in self._context.saved_participants
        }

    def _gradients(self) -> dict[str, Tensor]:
        """Return the gradients for a step to come.

        They are those of an unfinished accumulation, or all of a module with manual optimization.
        """
        context = self._context
        if not (context.is_accumulating or self._optimization.is_manual):
            return {}
        parameters = context.lightning_module.named_parameters()
        return {plain_name(name): p.grad for name, p in parameters if p.grad is not None}

    # -- restoring ---------------------------------------------------------------------------

    def restore_module(self, state: Mapping[str, Any]) -> None:
        """Load the weights.

        Raises:
            WeightsError: they do not fit the module.
        """
        try:
            module = self._context.lightning_module
            load_weights(module, state, module.strict_loading)
        except (RuntimeError, KeyError) as error:
            raise WeightsError(f"the checkpoint does not fit the module: {error}") from error

    def restore_training(self, state: Mapping[str, Any]) -> None:
        """Load everything but the weights, once optimizers are configured.

        Raises:
            CheckpointError: the checkpoint holds only weights, or another set-up.
        """
        context = self._context
        if "loops" not in state and "imported" not in state:
            raise CheckpointError(
                "the checkpoint holds only weights, so training cannot be resumed from it"
            )
        state = self._of_this_rank(state)
        restore_optimizers(self._optimization, state)
        if "imported" in state:
            self._restore_imported(state)
            return
        context.fit_loop.load_state_dict(state["loops"]["fit_loop"])
        context.optimization_progress.load_state_dict(state["optimization"])
        context.device.load_state_dict(state["scaler"])
        self._restore_actors(state["actors"])
        report_left_out(state)
        if context.datamodule is not None and state["datamodule"]:
            context.datamodule.load_state_dict(state["datamodule"])
        context.loaders.load_state_dict(state["loaders"])
        context.metrics.load_state_dict(state["metrics"])
        load_torchmetrics_state(context.lightning_module, state["torchmetrics"])
        _restore_gradients(context.lightning_module, state["gradients"])
        self._rng = state["rng"]
        self._saved_modes = state.get("modes")

    def _restore_imported(self, state: Mapping[str, Any]) -> None:
        """Load what a checkpoint of Lightning has besides weights and optimizers."""
        context = self._context
        context.begin_at(state["imported"]["epochs"], state["imported"]["steps"])
        if "scaler" in state:
            context.device.load_state_dict(state["scaler"])
        self._restore_actors(state.get("actors", {}))
        data = context.datamodule
        if data is not None and (saved := state.get(type(data).__qualname__)):
            data.load_state_dict(saved)

    def _of_this_rank(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the state for this rank, whichever ranks have saved it."""
        context = self._context
        world, was = context.group.world, state.get("world_size", 1)
        if "loops" not in state:
            return state
        if was == world.size:
            report_missing(context.group, state)
            return state_of_rank(context.group, state)
        resharding = Resharding(state, world, context.lightning_module)
        found = resharding.state(context.loaders, context.accumulate_grad_batches)
        context.bus.emit(Resharded, was, world.size, resharding.is_exact, source="ranks")
        if world.is_global_zero:
            resharding.report()
        return found

    def _restore_actors(self, saved_actors: Mapping[str, Mapping[str, Any]]) -> None:
        present = self._actors_with_state()
        for name, actor in present.items():
            if name in saved_actors:
                actor.load_state_dict(saved_actors[name])
        lost = [name for name, saved in saved_actors.items() if saved and name not in present]
        if lost:
            _log.warning(
                "the checkpoint has states of callbacks or actors that are not in this run; "
                "they are dropped",
                names=", ".join(lost),
            )

    def begin_training(self) -> None:
        """Include, from now on, the modes of the module's parts in the run's state."""
        self._modes = ModuleModes(self._context.lightning_module)

    def check_actors(self) -> None:
        """Report which states of actors and of the datamodule a checkpoint cannot hold."""
        states: dict[str, Any] = {"actors": self._states_of_actors()}
        if self._context.datamodule is not None:
            states["datamodule"] = self._context.datamodule.state_dict()
        self.left_out.find(states)

    def restore_rng(self) -> bool:
        """Restore random number generators and the modes of the module's parts, if any are left.

        Returns:
            Whether the run was resumed and this is the first call.
        """
        if self._rng is None:
            return False
        set_rng_state(self._rng)
        self._rng = None
        if self._modes is not None and self._saved_modes is not None:
            self._modes.load_state_dict(self._saved_modes)
        return True


def _restore_gradients(module: nn.Module, gradients: Mapping[str, Tensor]) -> None:
    parameters = plain_names(dict(module.named_parameters()))
    for name, gradient in gradients.items():
        # With the parameter's own layout in memory, as backward makes them.
        parameters[name].grad = torch.empty_like(parameters[name]).copy_(gradient)
