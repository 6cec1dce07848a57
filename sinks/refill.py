"""How to deliver to a sink what it had not received when its run ended."""

import os
from typing import NamedTuple

from ..bus.errors import RunFolderError
from ..bus.runs.cursor import CursorFile
from ..bus.runs.run_folder import RunFolder
from ..bus.shown_text import quoted

# Option of the command line -> class in nightbus.sinks: those that write files.
FILE_SINKS = {
    "csv": "CSV",
    "jsonl": "JSONLines",
    "tensorboard": "TensorBoard",
    "sqlite": "SQLite",
    "parquet": "Parquet",
}
# The command line cannot name a server; a program can.
NETWORK_SINKS = ("MLflow", "WandB")
_FUNCTION, _LOGGER = "FunctionSink", "LoggerSink"
_MAX_SHOWN = 80


class Refill(NamedTuple):
    """The command that delivers the rest to a sink.

    Attributes:
        command: to be pasted into a shell or a program.
        is_shell: it is ``nightbus replay RUN --resume``, which serves all sinks it can.
    """

    command: str
    is_shell: bool

    @property
    def advice(self) -> str:
        """The command with a hint where to paste it."""
        return f"deliver the rest {'' if self.is_shell else 'in Python '}with: {self.command}"


def refill(
    run: RunFolder, name: str, kind: str, folder: str | os.PathLike[str] | None = None
) -> Refill:
    """Return the command that delivers the rest of a run to one of its sinks.

    The command line makes only sinks that nightbus itself defines, in the run's folder, that have a
    cursor. All others have to be made again in a program.

    Args:
        run: the run.
        name: the sink's name.
        kind: the name of its class.
        folder: where a sink without a cursor writes; the run's folder by default.

    Raises:
        RunFolderError: the cursor is damaged, or its class is not a name: a cursor may be a
            stranger's,
            and what is shown is meant for pasting.
    """
    if not kind.isidentifier():
        raise RunFolderError(
            f"the cursor of {name} names a sink of the class {kind[:_MAX_SHOWN]!r}, which is not "
            "a class name; nightbus did not write this file"
        )
    cursor = CursorFile(run, name).load()
    if kind in FILE_SINKS.values():
        kept = folder if cursor is None else cursor.state.get("folder")
        if cursor is not None and kept is None:
            return Refill(f"nightbus replay {quoted(run.path)} --resume", is_shell=True)
        sink = f"nightbus.{kind}({'' if kept is None else repr(str(kept))})"
    else:
        sink = _made(kind)
    return Refill(_python(run, name, kind, sink), is_shell=False)


def _made(kind: str) -> str:
    """Return how a sink without a file is passed to a replay."""
    if kind == _FUNCTION:
        return "your_function"
    if kind == _LOGGER:
        return "your_logger"
    return f"nightbus.{kind}()" if kind in NETWORK_SINKS else f"{kind}()"


def _python(run: RunFolder, name: str, kind: str, sink: str) -> str:
    """Return a line of Python that replays into the sink.

    A sink not named like its class gets its name first, because its cursor is found by name.
    """
    before = ""
    if name != kind.lower():
        if kind == _FUNCTION:
            sink = f"nightbus.{_FUNCTION}({sink})"
        elif kind == _LOGGER:
            before = f"from nightbus.sinks import {_LOGGER}; "
            sink = f"{_LOGGER}({sink})"
        before += f"sink = {sink}; sink.name = {name!r}; "
        sink = "sink"
    hint = "; add allow_network=True if it is to send to a server" if kind in NETWORK_SINKS else ""
    return f"{before}nightbus.replay({str(run.path)!r}, sinks=[{sink}], resume=True){hint}"
