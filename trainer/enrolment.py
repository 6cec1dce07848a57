"""Makes module, data, loops, callbacks, actors and sinks the actors of an open run."""

from ..actors.hooks import check_subscriptions, destinations_of, warn_of_misspelt_methods
from ..actors.logging_mixin import LoggingMixin
from ..bus.actor import Actor
from ..bus.errors import UsageError
from ..loops import EvaluationLoop, Loop
from ..sinks.sink import Sink
from .borrowed import BorrowedActors
from .for_loggers import ForLoggers
from .open_run import OpenRun
from .properties import TrainerProperties
from .stages import FUNCTIONS, Function


class Enrolment:
    """Gives all participants an address on the bus, when a run opens and during it.

    Args:
        trainer: owner of the runs.
        for_loggers: records the metrics and hyperparameters of sinks that are used as loggers.

    Attributes:
        borrowed: participants that belong to another open run.
    """

    def __init__(self, trainer: TrainerProperties, for_loggers: ForLoggers) -> None:
        self._trainer, self._for_loggers = trainer, for_loggers
        self._has_loops_of_users = False
        self.borrowed = BorrowedActors(trainer)

    def enrol_everyone(self, function: Function) -> list[Actor]:
        """Enrol all participants when a run opens; return those that work on the bus thread."""
        trainer, bus = self._trainer, self._trainer.bus
        self._attach_loops()
        loops = list(trainer.loop_of(function).walk())
        participants = trainer.participants
        self._for_loggers.forget_experiment()
        participants.module_callbacks = []  # of the previous run; set-up adds this one's
        for actor in (trainer.lightning_module, trainer.datamodule, *participants.beside_module):
            if actor is not None:
                self.borrowed.remember(actor)
        bus.register(trainer.lightning_module, "module")
        everyone: list[Actor] = [trainer.lightning_module]
        if trainer.datamodule is not None:
            bus.register(trainer.datamodule, "datamodule")
            everyone.append(trainer.datamodule)
        for loop in loops:
            self._register_loop(loop)
        if function not in bus.members.addresses:
            bus.members.add_alias(function, loops[0]._nightbus_address)
        for actor in participants.beside_module:
            bus.register(actor)
        self._has_loops_of_users = any(not _is_built_in(loop) for loop in loops)
        everyone += participants.beside_module
        for actor in everyone:
            self._introduce(actor)
        return [actor for actor in everyone if actor._is_observer()]

    def enrol(self, actor: Actor, run: OpenRun) -> None:
        """Make an actor a part of a run that is already open.

        Args:
            actor: actor to enrol.
            run: the open run.
        """
        trainer = self._trainer
        self.borrowed.remember(actor)
        self._introduce(actor)
        trainer.bus.register(actor)
        if actor._is_observer():
            if trainer.bus.writer is None:
                run.open_log()
            run.observe(actor)

    def _introduce(self, actor: Actor) -> None:
        """Check what an actor subscribes to, and attach it to the trainer."""
        self._trainer.metrics.heard |= destinations_of(actor)
        check_subscriptions(actor, self._has_loops_of_users)
        if isinstance(actor, LoggingMixin):
            actor._attach(self._trainer)
        if isinstance(actor, Sink):
            actor._nightbus_for_loggers = self._for_loggers

    # -- loops -------------------------------------------------------------------------------

    def _attach_loops(self) -> None:
        for name in FUNCTIONS:
            loop = self._trainer.loop_of(name)
            if not isinstance(loop, Loop):
                raise UsageError(f"{name}_loop is {type(loop).__name__}; expected a Loop")
            if isinstance(loop, EvaluationLoop):
                loop.serve(name)  # type: ignore[arg-type]
            loop.attach(self._trainer)
        self._trainer.find_epoch_counter()

    def _register_loop(self, loop: Loop) -> None:
        """Give a loop an address, which must be unique, unlike the names of loops."""
        bus = self._trainer.bus
        wanted = loop.name or type(loop).__name__.lower()
        name, number = wanted, 1
        while name in bus.members.addresses:
            number += 1
            name = f"{wanted}-{number}"
        warn_of_misspelt_methods(loop)
        bus.register(loop, name)

    def connect_loop(self, loop: Loop, former: Loop | None) -> None:
        """Give an address to a loop that was added, or that replaced another, during a run.

        Args:
            loop: the new loop.
            former: the loop that it replaced, whose address it takes over; None if it was added.
        """
        bus = self._trainer.bus
        taken_over = former is not None and former._nightbus_address in bus.members.addresses
        for entry in loop.walk():
            if entry._nightbus_address in bus.members.addresses and entry._nightbus_context is bus:
                continue
            if entry is loop and taken_over:
                assert former is not None
                bus.members.hand_over(former, loop)
            else:
                self._register_loop(entry)


def _is_built_in(loop: Loop) -> bool:
    return type(loop).__module__.startswith(Loop.__module__.rpartition(".")[0] + ".")
