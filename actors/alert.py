"""Alert: tells people that a run has ended, crashed or hangs, or of a metric's values."""

import math
import platform
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import trio

from ..bus.actor import Actor, actor_name
from ..bus.errors import UsageError
from ..bus.events import AlertSent, Ending, Put, RunStarted, Scalar
from ..bus.library.names import metric_value
from ..bus.library.where import names_in, parse
from ..bus.log.summary import MetricTotal
from ..bus.secrets.redaction import without_secrets
from ..bus.subscription import on
from ..bus.system.logging_setup import get_logger
from .alert_senders import CommandSender, Sender, WebhookSender
from .arguments import check_at_least, check_choice
from .process.rank_zero import is_main

OCCASIONS = ("end", "crash", "nan")
_PLACES = ("epoch", "step")
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0  # between attempts
AT_END_S = 10.0  # that the end of a run waits for a message

_log = get_logger("nightbus.alert")


class Plateau:
    """Finds that a metric has not improved for some values.

    Args:
        mode: ``min`` if less is better, ``max`` if more is.
        patience: number of values without improvement.
        min_delta: changes up to this are no improvement.
    """

    def __init__(self, mode: str, patience: int, min_delta: float) -> None:
        self._sign = -1.0 if mode == "min" else 1.0
        self._patience, self._min_delta = patience, min_delta
        self._best, self._since = -math.inf, 0

    def is_reached(self, value: Scalar) -> bool:
        """Take the next value; return whether it is the one that makes it a plateau."""
        value = self._sign * value
        if value > self._best + self._min_delta:
            self._best, self._since = value, 0
        else:
            self._since += 1
        return self._since == self._patience


class Alert(Actor):
    """Sends a message when a run ends, crashes or hangs, or when a metric is not as it should be.

    It works on the bus thread, so training never waits for it. A message that cannot be delivered
    is tried again, each time later; at the end of a run that takes at most 10 s. What was sent is
    in the log, as ``AlertSent``, without the address, which is a secret. Of several ranks, rank 0
    sends.

    A process that is killed at once (SIGKILL, the kernel when memory is short, a power cut) sends
    nothing: whoever started it has to tell of that. A process that is stopped as a whole, for
    example by SIGSTOP or a dead file server, cannot tell of its hang either.

    Args:
        webhook: address that gets an HTTP POST of JSON: ``{"text": ...}`` for Slack, Teams and
            Mattermost, ``{"content": ...}`` for Discord; others get ``text``, ``occasion``,
            ``run``, ``path``, ``host`` and ``wall_s`` (seconds since 1970).
        command: a program and its arguments, which gets the text as its last argument and the JSON
            on its standard input. It is not run by a shell.
        on: some of ``end`` (however the run ends, but by a crash), ``crash`` (by an exception) and
            ``nan`` (a metric is NaN or infinite; sent once).
        hang: seconds without progress after which a run counts as hanging; None for never. A run
            that is paused does not hang.
        when: a condition on metrics, as for ``nightbus ls --where``: ``"val_loss > 2"`` or
            ``"val_loss.min < 0.1"``. It is checked with each value of a metric in it; a message is
            sent when it becomes true, and again if it was false in between. ``epoch`` and ``step``
            can be in it; with nothing else in it, it is checked with each value of any metric.
        plateau: a metric; a message is sent when it has not improved for ``patience`` values. That
            a metric of ``when`` or ``plateau`` had no value is said at the run's end.
        patience: number of values, for ``plateau``.
        mode: ``min`` if less is better, ``max`` if more is; for ``plateau``.
        min_delta: changes up to this are no improvement; for ``plateau``.
        attempts: how often a message is tried.
        timeout: seconds that one attempt may take.

    Raises:
        UsageError: an argument is wrong, or neither webhook nor command is given, or both.
    """

    why_not_replayed = "it would send its messages again"
    poll_interval_s = 0.5

    def __init__(
        self,
        webhook: str | None = None,
        command: Sequence[str] | None = None,
        *,
        on: Sequence[Literal["end", "crash", "nan"]] = OCCASIONS,  # type: ignore[assignment]
        hang: float | None = None,
        when: str | None = None,
        plateau: str | None = None,
        patience: int = 10,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 0.0,
        attempts: int = 5,
        timeout: float = 10.0,
    ) -> None:
        for occasion in (on,) if isinstance(on, str) else on:
            check_choice("on", occasion, OCCASIONS)
        check_choice("mode", mode, ("min", "max"))
        check_at_least("patience", patience, 1)
        check_at_least("attempts", attempts, 1)
        for name, seconds in (("hang", hang), ("timeout", timeout)):
            if seconds is not None and (isinstance(seconds, bool) or not 0 < seconds < math.inf):
                raise UsageError(f"Alert({name}={seconds!r}): expected seconds, more than 0")
        self._sender = _sender(webhook, command)
        self._occasions = {on} if isinstance(on, str) else set(on)
        self._hang_s = hang
        self._when = when
        self._condition = None if when is None else parse(when)
        names = [] if when is None else [n for n in names_in(when) if n not in _PLACES]
        self._metric_names = {part for name in names for part in (name, name.rpartition(".")[0])}
        self._expected = [*names, *([plateau] if plateau is not None else [])]
        self._plateau_of = plateau
        self._plateau_arguments = (mode, patience, min_delta)
        self._attempts, self._timeout_s = attempts, timeout
        self._begin()

    def _begin(self) -> None:
        self._run = ""
        self._metrics: dict[str, MetricTotal] = {}  # those that are watched
        self._was_true = self._said_nan = False
        self._plateau = Plateau(*self._plateau_arguments)
        self._progress: object = None
        self._progress_s = 0.0
        self._said_hang = self._saw_end = self._said_end = False

    async def on_start(self) -> None:
        """Begin to watch; after a restart, with what was seen so far."""
        self._is_main = is_main()
        self._progress_s = trio.current_time()

    def _is_settled(self) -> bool:
        context = self._nightbus_context
        return self._said_end or context is None or context.ending is None

    async def _on_poll(self) -> None:
        context = self._require_context("on_poll")
        if context.ending is not None:
            if self._saw_end and not self._said_end:  # what came before it has been read meanwhile
                await self._tell_end(*context.ending)
                self._said_end = True
            self._saw_end = True
        elif self._hang_s is not None:
            await self._look_for_hang(self._hang_s)

    async def _look_for_hang(self, hang_s: float) -> None:
        progress, now_s = self._require_context("on_poll").progress(), trio.current_time()
        if progress is None or progress != self._progress:  # None: it waits, because it is paused
            self._progress, self._progress_s, self._said_hang = progress, now_s, False
        elif now_s - self._progress_s >= hang_s and not self._said_hang:
            self._said_hang = True
            await self._tell("hang", f"no progress for {now_s - self._progress_s:.0f} s")

    async def _tell_end(self, how: Ending, reason: str) -> None:
        for name in self._expected:
            if self._is_main and metric_value(self._metrics, name) is None:
                _log.warning(
                    f"Alert waited for values of {name!r}, and there was none in this run; if that "
                    "is no metric's name, correct it in when= or plateau=",
                    run=self._run,
                )
        occasion = "crash" if how == "failed" else "end"
        if occasion in self._occasions:
            await self._tell(occasion, f"{how}: {reason}" if reason else how, AT_END_S)

    @on(RunStarted)
    async def _begin_run(self, started: RunStarted) -> None:
        self._begin()
        self._run = started.run

    @on(Put)
    async def _take(self, put: Put) -> None:
        if "nan" in self._occasions and not self._said_nan and not math.isfinite(put.value):
            self._said_nan = True
            await self._tell("nan", f"{put.name} is {put.value}{_place(put)}")
        if put.name == self._plateau_of and self._plateau.is_reached(put.value):
            _, patience, _ = self._plateau_arguments
            what = f"{put.name} has not improved for {patience} values{_place(put)}"
            await self._tell("plateau", what)
        is_named = put.name in self._metric_names
        if is_named or put.name == self._plateau_of:
            total = self._metrics.setdefault(put.name, MetricTotal())
            total.add(put.value, put.epoch, put.step)
        if self._condition is not None and (is_named or not self._metric_names):
            is_true = self._condition(partial(self._value_of, put))
            if is_true and not self._was_true:
                await self._tell("when", f"{self._when}: {put.name} is {put.value}{_place(put)}")
            self._was_true = is_true

    def _value_of(self, put: Put, name: str) -> Any:
        return getattr(put, name) if name in _PLACES else metric_value(self._metrics, name)

    # -- sending -----------------------------------------------------------------------------

    async def _tell(self, occasion: str, what: str, within_s: float = math.inf) -> None:
        """Send a message, several times if need be, and record what became of it."""
        if not self._is_main:
            return
        context = self._require_context("tell")
        text = without_secrets(f"{self._run}: {what}")
        message = {
            "text": text,
            "occasion": occasion,
            "run": self._run,
            "path": str(context.run_path or ""),
            "host": platform.node(),
            "wall_s": time.time(),
        }
        tried, problem = 0, "there was no time for it"
        with trio.move_on_after(within_s):
            wait_s = FIRST_WAIT_S
            while tried < self._attempts:
                tried += 1
                problem = await self._try(message)
                if not problem or tried == self._attempts:
                    break
                await self._wait(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        if problem:
            _log.warning(f"an alert could not be sent to {self._sender.name}: {problem}")
        sent = (occasion, text, self._sender.name, tried, problem)
        context.emit(AlertSent, *sent, source=actor_name(self))

    async def _try(self, message: dict[str, Any]) -> str:
        """Send once; return what went wrong, empty if nothing did."""
        try:
            await trio.to_thread.run_sync(
                self._sender.send, message, self._timeout_s, abandon_on_cancel=True
            )
        except Exception as error:
            return without_secrets(f"{type(error).__name__}: {error}")
        return ""

    async def _wait(self, wait_s: float) -> None:
        """Wait before the next attempt; not after the run has begun to end."""
        context = self._require_context("wait")
        for _ in range(math.ceil(wait_s / self.poll_interval_s)):
            if context.ending is not None:
                return
            await trio.sleep(self.poll_interval_s)


def _sender(webhook: str | None, command: Sequence[str] | None) -> Sender:
    if (webhook is None) == (command is None):
        raise UsageError("Alert: expected a webhook or a command, one of the two")
    return WebhookSender(webhook) if webhook is not None else CommandSender(command or ())


def _place(put: Put) -> str:
    return f" (epoch {put.epoch}, step {put.step})"
