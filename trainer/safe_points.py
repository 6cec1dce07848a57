"""Handles signals, commands, changes of the participants and pauses between two steps."""

from collections import deque
from collections.abc import Callable

from ..actors.process.slurm import requeue_job
from ..actors.process.stop_signals import StopSignals
from ..actors.run_context import RunContext
from ..actors.saving.checkpointer import Checkpointer
from ..bus.actor import Actor
from ..bus.errors import CheckpointError


class SafePoints:
    """Handles requests that were made during a step, if ``bus.attention`` says that there are any.

    Args:
        context: the run.
        checkpointer: saves the run.
        attach: adds an actor or sink to the run.
        detach: removes an actor or sink from the run.
        requeues: put the job back into SLURM's queue after a signal has had the run saved.

    Attributes:
        signals: signals that end a run or save it.
    """

    def __init__(
        self,
        context: RunContext,
        checkpointer: Checkpointer,
        attach: Callable[[Actor], None],
        detach: Callable[[Actor], None],
        requeues: bool,
    ) -> None:
        self._context, self._checkpointer = context, checkpointer
        self._attach, self._detach, self._requeues = attach, detach, requeues
        self.signals = StopSignals(self._ask_for_attention, self._has_safe_points)
        self._to_attach: deque[Actor] = deque()
        self._to_detach: deque[Actor] = deque()

    def attach_later(self, actor: Actor) -> None:
        """Add an actor or sink at the next safe point; from any thread."""
        self._to_attach.append(actor)
        self._ask_for_attention()

    def detach_later(self, actor: Actor) -> None:
        """Remove an actor or sink at the next safe point; from any thread."""
        self._to_detach.append(actor)
        self._ask_for_attention()

    def _ask_for_attention(self) -> None:
        self._context.bus.attention = True

    def _has_safe_points(self) -> bool:
        """Return whether a running loop will reach a safe point."""
        context = self._context
        return context.is_training_under_way or context.place.stage in (
            "validate",
            "test",
            "predict",
        )

    def attend(self) -> None:
        """Handle all requests, and wait while the run is paused; called between two steps."""
        context, bus = self._context, self._context.bus
        bus.attention = False
        while True:
            self.handle_signals()
            self._checkpointer.between_steps()
            self._attach_and_detach()
            bus.post_office.take_commands()
            bus.flush()
            if not context.paused:
                return
            bus.post_office.wait_for_command(0.1)

    def _attach_and_detach(self) -> None:
        while self._to_attach:
            self._attach(self._to_attach.popleft())
        while self._to_detach:
            self._detach(self._to_detach.popleft())

    def handle_signals(self) -> None:
        """Save or end the run, if a signal requested that.

        Raises:
            KeyboardInterrupt, SystemExit: a signal ends the run.
        """
        signals = self.signals
        if signals.save_requested:
            signals.save_requested = False
            self._save()
            if self._requeues:
                requeue_job()
        if signals.ends_run:
            self._save()
        signals.raise_if_asked()

    def _save(self) -> None:
        """Save the run; a failure is reported and does not keep it from ending."""
        checkpointer = self._checkpointer
        if not checkpointer.can_save:
            return
        try:
            checkpointer.save_now()
        except CheckpointError as error:
            checkpointer.report(error)
