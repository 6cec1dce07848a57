"""What happens between two steps: signals, newcomers, commands, a pause."""

from collections import deque
from typing import TYPE_CHECKING

from ..actors.process.slurm import requeue_job
from ..actors.process.stop_signals import StopSignals
from ..bus.actor import Actor
from ..bus.errors import CheckpointError

if TYPE_CHECKING:
    from .trainer import Trainer


class SafePoints:
    """Does what was asked for while a step went on, when ``bus.attention`` says that there is any.

    Args:
        trainer: whose steps they are.

    Attributes:
        signals: that end a run, or have it saved.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self.signals = StopSignals(self._ask_for_attention, self._has_safe_points)
        self._to_attach: deque[Actor] = deque()
        self._to_detach: deque[Actor] = deque()

    def attach_later(self, actor: Actor) -> None:
        """Take an actor or sink in at the next safe point; from any thread."""
        self._to_attach.append(actor)
        self._ask_for_attention()

    def detach_later(self, actor: Actor) -> None:
        """Let an actor or sink go at the next safe point; from any thread."""
        self._to_detach.append(actor)
        self._ask_for_attention()

    def _ask_for_attention(self) -> None:
        self._trainer.bus.attention = True

    def _has_safe_points(self) -> bool:
        """Whether a running loop will come to one."""
        trainer = self._trainer
        return trainer.is_training_under_way or trainer.place.stage in (
            "validate",
            "test",
            "predict",
        )

    def attend(self) -> None:
        """Between two steps: do all that was asked for, and wait while the run is paused."""
        trainer, bus = self._trainer, self._trainer.bus
        bus.attention = False
        while True:
            self.heed_signals()
            trainer.checkpointer.between_steps()
            self._take_in_and_let_go()
            bus.post_office.take_commands()
            bus.flush()
            if not trainer.paused:
                return
            bus.post_office.wait_for_command(0.1)

    def _take_in_and_let_go(self) -> None:
        trainer = self._trainer
        while self._to_attach:
            actor = self._to_attach.popleft()
            trainer.participants.add(actor)
            trainer.enrolment.enrol(actor)
            trainer.wiring.connect()
        while self._to_detach:
            actor = self._to_detach.popleft()
            trainer.participants.remove(actor)
            trainer.bus.dismiss(actor, "detached")
            trainer.wiring.connect()

    def heed_signals(self) -> None:
        """Save the run or end it, if a signal asked for that.

        Raises:
            KeyboardInterrupt, SystemExit: one ends it.
        """
        signals = self.signals
        if signals.save_requested:
            signals.save_requested = False
            self._save()
            if self._trainer.slurm_requeue:
                requeue_job()
        if signals.ends_run:
            self._save()
        signals.raise_if_asked()

    def _save(self) -> None:
        """Save the run; that this fails does not keep it from ending."""
        checkpointer = self._trainer.checkpointer
        if not checkpointer.can_save:
            return
        try:
            checkpointer.save_now()
        except CheckpointError as error:
            checkpointer.report(error)
