"""The threads that a bus works with, and the clock that its deadlines go by."""

import threading
import time
from collections.abc import Awaitable, Callable

import trio


class Threads:
    """Those of this process. A simulation puts its own in their place, all of them in one thread.

    Only what waits, or asks which thread it is in, goes through here.
    """

    current = staticmethod(threading.get_ident)  # in the step: a call of C and nothing more
    now_s = staticmethod(time.monotonic)

    def start_beside(
        self,
        main: Callable[[], Awaitable[None]],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        """Run ``main`` under trio, beside this thread.

        Args:
            main: what to run.
            ended: called there when it has ended, with what it raised.
        """
        threading.Thread(target=_run, args=(main, ended), name="nightbus", daemon=True).start()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait in this thread until the event is set, or the time is over."""
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
