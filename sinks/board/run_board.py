"""Board: has the runs of a folder in the browser while this process trains."""

import threading

from ...bus.errors import UsageError
from ...bus.events import Event
from ...bus.system.console_tee import unnoted
from ...bus.system.logging_setup import get_logger
from ...bus.system.streams import notify_user
from ..sink import Sink
from .address import HOST
from .own_process import BoardProcess, Wanted
from .packages import refuse_missing_packages
from .page_files import page_files

_log = get_logger("nightbus.board")
_processes: dict[Wanted, BoardProcess] = {}
_lock = threading.Lock()


class Board(Sink):
    """A page in the browser with this run and the others of its folder, as ``nightbus board``.

    Its address is printed when the run begins. It is served by a process of its own, which reads
    the run's log: training does nothing for it. One board serves all runs of a folder that a
    process trains, and ends with that process, even if it is killed. If it cannot listen, or ends,
    a warning is logged and training goes on. Needs the extra ``board``.

    Args:
        port: listen on this port; 0 for any free one. By default 7979, or any if that is in use.
        host: listen on another address than this machine's own; what is sent is not encrypted.
        stays: go on when this process has ended, until it is stopped as it says when it begins.
        steer: let the page stop, pause and resume runs, have them validate and save, and send them
            commands.

    Raises:
        MissingPackageError: a package of the extra is missing.
        UsageError: the page is not built.
    """

    destination = None
    events: tuple[type[Event], ...] = ()
    why_not_replayed = "it reads recorded runs itself: nightbus board"

    def __init__(
        self,
        port: int | None = None,
        host: str = HOST,
        *,
        stays: bool = False,
        steer: bool = False,
    ) -> None:
        refuse_missing_packages("Board")
        page_files()
        self._port, self._host, self._stays, self._steers = port, host, stays, steer
        self._process: BoardProcess | None = None

    @property
    def address(self) -> str:
        """The address to open; empty while there is no board."""
        process = self._process
        return process.address if process is not None and process.is_there else ""

    def stop(self) -> None:
        """End the board now, for all runs that it serves."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    @property
    def needs_run_folder(self) -> bool:
        """True: it shows what is in folders."""
        return True

    def _reads_log(self) -> bool:
        return False

    def open(self, resumed: bool) -> None:
        root = self.run_path.parent.resolve()
        wanted = Wanted(root, self._host, self._port, self._stays, self._steers)
        with _lock:
            process = _processes.get(wanted)
            if process is None or not process.is_there:
                try:
                    process = BoardProcess(wanted)
                except (UsageError, OSError) as error:
                    _log.warning(f"there is no board, training goes on: {error}")
                    return
                _processes[wanted] = process
                until = f" until it is stopped: kill {process.pid}" if self._stays else ""
                with unnoted():  # the token does not belong into a log, which others may read
                    notify_user(f"nightbus: the board is at {process.address}{until}")
            self._process = process
