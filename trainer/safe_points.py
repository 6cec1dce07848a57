"""Handles signals, commands, changes of the participants and pauses between two steps."""

import signal
from collections import deque
from collections.abc import Callable

from ..actors.process.slurm import requeue_job
from ..actors.process.stop_signals import StopSignals
from ..actors.saving.checkpointer import Checkpointer
from ..bus.actor import Actor
from ..bus.errors import CheckpointError
from ..loops.context import LoopContext
from .shared_requests import Due, SharedRequests

_PAUSE_S = 0.1
_OF_SIGNALS = ("save", "end")


class SafePoints:
    """Handles requests that were made during a step, if ``bus.attention`` says that there are any.

    Args:
        context: the run.
        checkpointer: saves the run.
        attach: adds an actor or sink to the run.
        detach: removes an actor or sink from the run.
        end_epoch: has the training epoch end at this safe point.
        requeues: put the job back into SLURM's queue after a signal has had the run saved.

    Attributes:
        signals: signals that end a run or save it.
        shared: what is asked on one rank and done on all; None if this process trains alone.
        count_point: counts a safe point, given how much has been recorded, and returns whether all
            ranks do something there; None if this process trains alone.
        has_agreed_to_end: a signal ends the run on all ranks at this safe point.
    """

    def __init__(
        self,
        context: LoopContext,
        checkpointer: Checkpointer,
        attach: Callable[[Actor], None],
        detach: Callable[[Actor], None],
        end_epoch: Callable[[], None],
        requeues: bool,
    ) -> None:
        self._context, self._checkpointer, self._end_epoch = context, checkpointer, end_epoch
        self._attach, self._detach, self._requeues = attach, detach, requeues
        self.signals = StopSignals(lambda: context.bus.call_attention(), self._has_safe_points)
        self.shared: SharedRequests | None = None
        self.count_point: Callable[[int], bool] | None = None
        self.has_agreed_to_end = self._has_asked_to_end = False
        self._put_off: list[Due] = []  # what all ranks do once training goes on
        self._to_attach: deque[Actor] = deque()
        self._to_detach: deque[Actor] = deque()

    def attach_later(self, actor: Actor) -> None:
        """Add an actor or sink at the next safe point; from any thread."""
        self._to_attach.append(actor)
        self._context.bus.call_attention()

    def detach_later(self, actor: Actor) -> None:
        """Remove an actor or sink at the next safe point; from any thread."""
        self._to_detach.append(actor)
        self._context.bus.call_attention()

    def begin(self) -> None:
        """Prepare for the safe points of a run that was opened, and let signals take effect.

        Raises:
            KeyboardInterrupt, SystemExit: one came before; on several ranks, all end later.
        """
        context, bus, signals = self._context, self._context.bus, self.signals
        link = context.group.link
        self.shared = self.count_point = None
        self.has_agreed_to_end = self._has_asked_to_end = False
        self._put_off = []
        if link is not None:
            self.shared = SharedRequests(link, bus.post_office, bus.emit)
            self.count_point = self.shared.count_point
            bus.post_office.share = self.shared.share
            context.stops.share = self._share_stop
            signals.is_outranked = lambda: link.is_lost
            signals.announces_interrupts = context.group.world.is_global_zero
        signals.is_held = False
        if signals.save_requested or (self.shared is not None and signals.ends_run):
            bus.call_attention()  # to signals that came while the run was opened
        if self.shared is None:
            signals.raise_if_asked()

    def end(self) -> None:
        """Come to no more safe points: the run is over."""
        if self.shared is not None:
            self.shared.end()

    def _share_stop(self, reason: str | None) -> None:
        assert self.shared is not None
        if reason is None:
            self.shared.ask("do not stop")
        else:
            self.shared.ask("stop", reason)

    def share_stops(self) -> None:
        """Take, at the end of an epoch, the requests to stop that ranks have made in it."""
        stops, group = self._context.stops, self._context.group
        if self.shared is not None:
            for reason in group.gather("requests to stop", stops.shared):
                if reason is not None:
                    stops.add("should_stop", reason)

    def ends_epoch_here(self) -> bool:
        """End the epoch as a hook has asked; on several ranks, ask that all do.

        Returns:
            Whether it ends here; otherwise, it goes on until all ranks end it.
        """
        if self.shared is not None:
            self.shared.ask("end of epoch")
        return self.shared is None

    def _has_safe_points(self) -> bool:
        """Return whether a running loop will reach a safe point; several ranks wait for one."""
        context = self._context
        return (
            self.shared is not None
            or context.is_training_under_way
            or context.place.stage in ("validate", "test", "predict")
        )

    def come(self) -> bool:
        """Come to a safe point; return whether there is something to do."""
        bus, count = self._context.bus, self.count_point
        # Counted in any case.
        is_due = count is not None and count(bus.place.recorder.trace.recorded)
        return is_due or bus.attention

    def attend(self) -> None:
        """Handle all requests, and wait while the run is paused; called between two steps."""
        context, bus = self._context, self._context.bus
        if self.shared is not None:
            self._attend_with_others(self.shared)
            return
        bus.attention = False
        while True:
            self.handle_signals()
            self._attend_here()
            if not context.paused:
                return
            bus.post_office.wait_for_command(_PAUSE_S)

    def _attend_here(self) -> None:
        bus = self._context.bus
        self._checkpointer.between_steps()
        self._attach_and_detach()
        bus.post_office.take_commands()
        bus.flush()

    def _attend_with_others(self, shared: SharedRequests) -> None:
        """Do what all ranks do at this safe point, and pass on what is requested here."""
        context, bus = self._context, self._context.bus
        dues, self._put_off = self._put_off, []
        self._do(dues + shared.take())
        if bus.attention:
            self._pass_on(shared)
        while context.paused:  # comes to points without steps, as long as something is asked
            if shared.needs_attention:
                self.come()
                self._do(shared.take())
            elif not bus.attention:
                bus.post_office.wait_for_command(_PAUSE_S)
            if bus.attention:
                self._pass_on(shared)

    def _pass_on(self, shared: SharedRequests) -> None:
        self._context.bus.attention = False
        self._pass_on_signals(shared)
        self._attend_here()

    def _pass_on_signals(self, shared: SharedRequests) -> None:
        signals = self.signals
        if signals.save_requested:
            signals.save_requested = False
            shared.ask("save")
        if signals.ends_run and not self._has_asked_to_end:
            self._has_asked_to_end = True
            shared.ask("end", number=signals.number)

    def _do(self, dues: list[Due]) -> None:
        """Do what all ranks do at this safe point.

        Raises:
            KeyboardInterrupt, SystemExit: a signal ends the run.
        """
        assert self.shared is not None
        for due in dues:
            request = due.request
            if request.kind == "command":
                self.shared.handle(due)
            elif request.kind == "save":
                self._save_for_signal()
            elif request.kind == "stop":
                self._context.stops.add("should_stop", request.reason)
            elif request.kind == "do not stop":
                self._context.stops.clear()
            elif request.kind == "end of epoch":
                self._end_epoch()
            else:
                self.has_agreed_to_end = True
                self.signals.take_over(signal.Signals(request.signal))
                self._save()
                self.signals.raise_if_asked()
        if dues:
            self._context.bus.flush()

    def attend_between_batches(self) -> None:
        """Handle signals between two evaluation batches, and what all ranks do there.

        Raises:
            KeyboardInterrupt, SystemExit: a signal ends the run.
            RankLostError: a rank is lost.
        """
        if self.shared is None:
            self.handle_signals()
        else:
            self._attend_between_batches(self.shared)

    def wait_for_others(self) -> None:
        """Wait, at the end of an evaluation, for ranks that have more batches.

        Raises:
            KeyboardInterrupt, SystemExit: a signal ends the run.
            RankLostError: a rank is lost.
        """
        shared = self.shared
        if shared is None:
            return
        shared.arrive()
        while not shared.has_met(_PAUSE_S):
            if shared.is_behind:
                self.come()
                self._attend_between_batches(shared)
            else:
                self._pass_on_signals(shared)

    def _attend_between_batches(self, shared: SharedRequests) -> None:
        """Do what signals ask for; the rest once training goes on."""
        if dues := shared.take():
            self._put_off += [due for due in dues if due.request.kind not in _OF_SIGNALS]
            self._do([due for due in dues if due.request.kind in _OF_SIGNALS])
        if self._put_off:
            self._context.bus.call_attention()  # to it, at the next step's end
        self._pass_on_signals(shared)

    def share_signals(self) -> None:
        """Take, at the end of the run, what signals have asked of other ranks too late for it."""
        signals = self.signals
        if self.shared is not None and not self.has_agreed_to_end:
            asked = self._context.group.gather("signals", signals.number)
            for number in filter(None, asked):
                signals.take_over(signal.Signals(number))

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
            self._save_for_signal()
        if signals.ends_run:
            self._save()
        signals.raise_if_asked()

    def _save_for_signal(self) -> None:
        self._save()
        if self._requeues and self._context.group.world.is_global_zero:
            requeue_job()

    def _save(self) -> None:
        """Save the run; a failure is reported and does not keep it from ending."""
        checkpointer = self._checkpointer
        if not checkpointer.can_save:
            return
        try:
            checkpointer.save_now()
        except CheckpointError as error:
            checkpointer.report(error)
