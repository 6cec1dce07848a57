"""Ten pages on one run, without a browser: ``python board_readers.py ADDRESS METRIC KEY``.

They listen, and ask for the run's curve whenever they are told that it has moved. A line "open" on
the standard input opens them all, "close" closes them; each is answered with a line.
"""

import socket
import subprocess
import sys
import threading
from contextlib import suppress

from board_server import Board

PAGES = 10


class Reader:
    """A page."""

    def __init__(self, board: Board, metric: str, key: str) -> None:
        self._board, self._metric, self._key = board, metric, key
        self._connection = board.stream("live", run=key)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(OSError, ValueError, AttributeError), self._connection.getresponse() as told:
            for line in told:
                if line.startswith(b"data"):
                    self._board.curve(self._metric, self._key)

    def close(self) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()


def main() -> None:
    """Do as is said."""
    address, metric, key = sys.argv[1:]
    board = Board(subprocess.Popen(["true"], text=True), address)
    pages: list[Reader] = []
    for line in sys.stdin:
        if line.strip() == "open":
            pages = [Reader(board, metric, key) for _ in range(PAGES)]
        else:
            for page in pages:
                page.close()
            pages = []
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main()
