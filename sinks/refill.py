"""How a sink gets what it had not got when its run ended: what is printed is what works."""

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
# The command line has no way to a server: a server is named in a program.
NETWORK_SINKS = ("MLflow", "WandB")
_FUNCTION, _LOGGER = "FunctionSink", "LoggerSink"
_MAX_SHOWN = 80


class Refill(NamedTuple):
    """What delivers the rest to a sink.

    Attributes:
        command: to be pasted, into a shell or into a program.
        is_shell: whether it is ``nightbus replay RUN --resume``, which serves all sinks that it
            can serve.
    """

    command: str
    is_shell: bool

    @property
    def told(self) -> str:
        """The same for people, who have to know where to paste it."""
        return f"deliver the rest {'' if self.is_shell else 'in Python '}with: {self.command}"


def refill(
    run: RunFolder, name: str, kind: str, folder: str | os.PathLike[str] | None = None
) -> Refill:
    """What delivers the rest of a run to one of its sinks.

    The command line makes sinks by names that nightbus itself knows, where the run's folder is, and
    only those that kept a cursor; others have to be made in a program, as they were.

    Args:
        run: the run.
        name: the sink.
        kind: its class.
        folder: where it writes, for one that kept no cursor; the run's own by default.

    Raises:
        RunFolderError: the cursor is damaged, or its class is none: a cursor may be a stranger's,
            and what is shown is for pasting.
    """
    if not kind.isidentifier():
        raise RunFolderError(
            f"the cursor of {name} names a sink of the class {kind[:_MAX_SHOWN]!r}, which is no "
            "name of a class; this file was not written by nightbus"
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
    """How a sink that is no file is given to a replay."""
    if kind == _FUNCTION:
        return "your_function"
    if kind == _LOGGER:
        return "your_logger"
    return f"nightbus.{kind}()" if kind in NETWORK_SINKS else f"{kind}()"


def _python(run: RunFolder, name: str, kind: str, sink: str) -> str:
    """A line of Python; one that has not the name of its class gets its name first, by which its
    cursor is found.
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
