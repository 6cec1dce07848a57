"""The threads that a bus uses, and the clock for its deadlines."""

import threading
import time
from collections.abc import Awaitable, Callable

import trio


class Threads:
    """The threads of this process; a simulation replaces them by its own, all in one thread.

    Only code that waits, or asks for its thread, uses this.
    """

    current = staticmethod(threading.get_ident)  # called in each step, so a bare C function
    now_s = staticmethod(time.monotonic)

    def start_bus_thread(
        self,
        main: Callable[[], Awaitable[None]],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """Run ``main`` under trio, on a new thread.

        Args:
            main: the coroutine function to run.
            ended: called on that thread at its end, with the exception that ended it.
        """
        threading.Thread(target=_run, args=(main, ended), name="nightbus", daemon=True).start()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait in this thread until the event is set, or the time is over.

        Args:
            event: the event.
            timeout_s: how long to wait, in s.

        Returns:
            Whether the event is set.
        """
        return event.wait(timeout_s)


def _run(
    main: Callable[[], Awaitable[None]], ended: Callable[[BaseException | None], None]
) -> None:
    failure: BaseException | None = None
    try:
        trio.run(main)
    except BaseException as error:
        failure = error
    finally:
        ended(failure)
