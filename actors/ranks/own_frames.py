"""The traceback of a rank that raised: the user's frames, without those of nightbus and torch."""

import sys
from types import TracebackType

from ...bus.system.logging_setup import LEVELS, level

_LEFT_OUT = ("nightbus", "torch")


def show_own_frames() -> None:
    """Have an exception that ends this process show the user's frames, and the one that raised it.

    NIGHTBUS_LOG=debug shows all, and so does an excepthook of the program's own.
    """
    if sys.excepthook is sys.__excepthook__ and level() > LEVELS["debug"]:
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    whole = [(each, each.__traceback__) for each in _chain(error)]
    left_out = 0
    try:
        for each, traced in whole:
            each.__traceback__ = own = _own(traced)
            left_out += _length(traced) - _length(own)
        sys.__excepthook__(kind, error, error.__traceback__)
    finally:
        for each, traced in whole:
            each.__traceback__ = traced
    if left_out:
        print(
            f"nightbus: {left_out} calls within nightbus and torch are left out; "
            "NIGHTBUS_LOG=debug shows them",
            file=sys.stderr,
        )


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
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if trace.tb_next is None or name.partition(".")[0] not in _LEFT_OUT:
            frames.append(trace)
        trace = trace.tb_next
    own: TracebackType | None = None
    for frame in reversed(frames):
        own = TracebackType(own, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return own


def _length(trace: TracebackType | None) -> int:
    number = 0
    while trace is not None:
        number, trace = number + 1, trace.tb_next
    return number
