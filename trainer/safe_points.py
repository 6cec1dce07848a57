"""What happens between two steps: signals, newcomers, commands, a pause."""

from collections import deque
from collections.abc import Callable

from ..actors.checkpointer import Checkpointer
from ..actors.process.slurm import requeue_job
from ..actors.process.stop_signals import StopSignals
from ..actors.run_context import RunContext
from ..bus.actor import Actor
from ..bus.errors import CheckpointError


class SafePoints:
    """Does what was asked for while a step went on, when ``bus.attention`` says that there is any.

    Args:
        context: the run whose steps they are.
        checkpointer: saves the run.
        take_in: has an actor take part from here on.
        let_go: has an actor take part no more.
        requeues: whether SLURM runs the job again when a signal had the run saved.

    Attributes:
        signals: that end a run, or have it saved.
    """

    def __init__(
        self,
        context: RunContext,
        checkpointer: Checkpointer,
        take_in: Callable[[Actor], None],
        let_go: Callable[[Actor], None],
        requeues: bool,
    ) -> None:
        self._context, self._checkpointer = context, checkpointer
        self._take_in, self._let_go, self._requeues = take_in, let_go, requeues
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
        self._context.bus.attention = True

    def _has_safe_points(self) -> bool:
        """Whether a running loop will come to one."""
        context = self._context
        return context.is_training_under_way or context.place.stage in (
            "validate",
            "test",
            "predict",
        )

    def attend(self) -> None:
        """Between two steps: do all that was asked for, and wait while the run is paused."""
        context, bus = self._context, self._context.bus
        bus.attention = False
        while True:
            self.heed_signals()
            self._checkpointer.between_steps()
            self._take_in_and_let_go()
            bus.post_office.take_commands()
            bus.flush()
            if not context.paused:
                return
            bus.post_office.wait_for_command(0.1)

    def _take_in_and_let_go(self) -> None:
        while self._to_attach:
            self._take_in(self._to_attach.popleft())
        while self._to_detach:
            self._let_go(self._to_detach.popleft())

    def heed_signals(self) -> None:
        """Save the run or end it, if a signal asked for that.

        Raises:
            KeyboardInterrupt, SystemExit: one ends it.
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
        """Save the run; that this fails does not keep it from ending."""
        checkpointer = self._checkpointer
        if not checkpointer.can_save:
            return
        try:
            checkpointer.save_now()
        except CheckpointError as error:
            checkpointer.report(error)
