"""LastAct: how the process of a rank ends once a rank is lost."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ...bus.ranks.messages import Failure, describe
from ...bus.system.terminal_message import end_drawing, write_urgently
from ...bus.system.terminal_relay import carry_over
from .world import World

CULPRIT_EXIT_CODE = 1
OTHERS_EXIT_CODE = 75
"""Exit code of a rank that ends because another one was lost."""
GRACE_S = 0.3
"""How long the training thread has to notice that a rank is lost."""
ENDING_S = 5.0
"""How long it has to end the run once it has noticed, and how long one waits for the culprit's end.

Launchers blame the process that ends first, so it has to be that one."""
AFTER_CULPRIT_S = 0.2  # longer than launchers take to look at their processes again
_WRITING_S = 2.0
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"


class LastAct:
    """Names the culprit, and ends the process if its training thread does not.

    Args:
        world: which rank this is.

    Attributes:
        has_own_failure: this rank has said that it cannot go on: it ends by its own exception.
        is_ending: the training thread has noticed.
        ends_by_itself: the process is at its end.
        has_begun: somebody is lost.
        others_have_ended: the processes of all other ranks have.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.has_own_failure = self.is_ending = self.ends_by_itself = self.has_begun = False
        self.others_have_ended = False
        self._is_culprit = False
        self._began_s = 0.0
        self._culprit_ended_s: float | None = None
        self._untold = ""  # who is lost, and why

    def begin(self, word: Failure, now_s: float) -> None:
        """Name the culprit, on one rank, and to the launcher on the culprit itself.

        If it raised, its traceback comes first, so that what is read last says which rank it was.

        Args:
            word: who is lost.
            now_s: what time it is.
        """
        self.has_begun, self._began_s = True, now_s
        self._is_culprit = word.rank == self._world.rank
        waits_for_culprit = word.cause in ("raised", "stuck") and (
            self._world.started_by != "nightbus" or self._world.is_global_zero  # the launcher
        )
        if not waits_for_culprit:
            self._culprit_ended_s = now_s - AFTER_CULPRIT_S
        if self._world.is_global_zero:
            end_drawing()
        names_it = self._world.rank == (1 if word.rank == 0 else 0)
        if names_it and not self.has_own_failure:
            self._untold = describe(word)
        if word.cause != "raised" or not waits_for_culprit:
            self.name_culprit()
        if self._is_culprit:
            _write_error_file(describe(word))

    def name_culprit(self) -> None:
        """Tell the user who is lost and why, if this rank is to and has not yet."""
        told, self._untold = self._untold, ""
        if told:
            carry_over()
            write_urgently(told)

    def culprit_has_ended(self, now_s: float) -> None:
        """Take notice that the culprit's process has ended."""
        if self._culprit_ended_s is None:
            self._culprit_ended_s = now_s
        self.name_culprit()

    @property
    def is_others_turn(self) -> bool:
        """Whether this process may end now, because the culprit's has, or nobody waits for it."""
        ended_s = self._culprit_ended_s
        return ended_s is not None and time.monotonic() >= ended_s + AFTER_CULPRIT_S

    @property
    def due_s(self) -> float | None:
        """When the process is to be ended; None if it ends by itself, or nobody is lost."""
        if not self.has_begun or self.has_own_failure or self.ends_by_itself:
            return None
        latest_s = self._began_s + ENDING_S
        if self._is_culprit:
            # The others are killed when the process ends that has started them.
            started_them = self._world.started_by == "nightbus" and self._world.is_global_zero
            return latest_s if started_them and not self.others_have_ended else self._began_s
        first_s = latest_s if self._culprit_ended_s is None else self._culprit_ended_s
        own_s = latest_s if self.is_ending else self._began_s + GRACE_S
        return max(own_s, first_s + AFTER_CULPRIT_S)

    def end(self, write: Callable[[], None]) -> NoReturn:
        """End the process now, whatever its other threads do.

        Args:
            write: writes the end of the run that is open.
        """
        code = CULPRIT_EXIT_CODE if self._is_culprit else OTHERS_EXIT_CODE
        limit = threading.Timer(_WRITING_S, os._exit, (code,))
        limit.daemon = True
        limit.start()
        self.name_culprit()
        try:
            carry_over()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            write()
        finally:
            os._exit(code)


def _write_error_file(what: str) -> None:
    """Tell torchrun, where it asks for it, why this process ends."""
    path = os.environ.get(_ERROR_FILE)
    if path:
        told = {"message": what, "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": told}))
