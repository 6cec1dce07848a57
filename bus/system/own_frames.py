"""The traceback of a run that failed: the user's frames, without those of nightbus and torch."""

import sys
from collections.abc import Callable
from types import TracebackType

from .logging_setup import LEVELS, level
from .streams import notify_user

_LEFT_OUT = ("nightbus", "torch")
_advise: Callable[[BaseException], str] | None = None


def show_own_frames(advise: Callable[[BaseException], str] | None = None) -> None:
    """Have an exception that ends this process show the user's frames, and the one that raised it.

    NIGHTBUS_LOG=debug shows all, and so does an excepthook of the program's own.

    Args:
        advise: returns what to do about an exception; empty if that is not known.
    """
    global _advise
    _advise = advise or _advise
    if sys.excepthook is sys.__excepthook__ and level() > LEVELS["debug"]:
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    whole = [(each, each.__traceback__) for each in _chain(error)]
    is_of_run = any("nightbus" in _packages(traced) for _, traced in whole)
    left_out = 0
    try:
        for each, traced in whole:
            own = _own(traced) if is_of_run else traced
            each.__traceback__ = own
            left_out += _length(traced) - _length(own)
        if left_out:  # before the traceback, whose last line says where the run is
            notify_user(
                f"nightbus: {left_out} calls within nightbus and torch are left out; "
                "NIGHTBUS_LOG=debug shows them"
            )
        if _advise is not None and (advice := _advise(error)):
            error.add_note(f"nightbus: {advice}")
        sys.__excepthook__(kind, error, error.__traceback__)
    finally:
        for each, traced in whole:
            each.__traceback__ = traced


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and those that led to it."""
    found: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        each = ahead.pop()
        if each is not None and all(each is not known for known in found):
            found.append(each)
            ahead += [each.__cause__, each.__context__]
    return found


def _own(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without what is left out; its last frame stays."""
    frames = []
    while trace is not None:
        if trace.tb_next is None or _package(trace) not in _LEFT_OUT:
            frames.append(trace)
        trace = trace.tb_next
    own: TracebackType | None = None
    for frame in reversed(frames):
        own = TracebackType(own, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return own


def _packages(trace: TracebackType | None) -> set[str]:
    """Return the packages that a traceback goes through."""
    found = set()
    while trace is not None:
        found.add(_package(trace))
        trace = trace.tb_next
    return found


def _package(trace: TracebackType) -> str:
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


def _length(trace: TracebackType | None) -> int:
    number = 0
    while trace is not None:
        number, trace = number + 1, trace.tb_next
    return number
