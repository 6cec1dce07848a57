"""The client of a run's control socket; waits without trio, which need not be loaded."""

import contextlib
import json
import time

from ..control.protocol import (
    MAX_LINE_BYTES,
    MAX_WAIT_S,
    Answer,
    Request,
    decode_answer,
    encode_line,
)
from ..control.socket import connect
from ..control.verbs import VERBS
from ..errors import ControlError, UsageError
from ..runs.run_folder import RunFolder

# Allowed for the way there and back, in addition to what the run itself waits.
GRACE_S = 5.0
BUSY_PAUSE_S = 0.1


def send(run: RunFolder, request: Request) -> Answer:
    """Send a request to a run, and wait for its answer.

    Args:
        run: the run.
        request: the request, with its timeout.

    Returns:
        The run's answer.

    Raises:
        UsageError: the timeout is out of range.
        ControlError: the run is over, is gone, or does not answer.
    """
    if not 0 <= request.timeout_s <= MAX_WAIT_S:
        raise UsageError(f"--timeout {request.timeout_s:g}: expected 0 to {MAX_WAIT_S:g} seconds")
    deadline_s = time.monotonic() + request.timeout_s + GRACE_S
    while True:
        answer = _ask(run, request, deadline_s)
        if answer.kind != "busy" or time.monotonic() + BUSY_PAUSE_S > deadline_s:
            return answer
        time.sleep(BUSY_PAUSE_S)


def outcome_of(request: Request, answer: Answer) -> str:
    """Return what has become of a request, for people; empty for a status.

    Args:
        request: what was asked.
        answer: what the run has answered.
    """
    if answer.kind != "done" or answer.status is None:
        return answer.message
    if request.command:
        reply = json.loads(bytes(answer.reply))
        if reply is None:
            return answer.message or "done"
        return reply if isinstance(reply, str) else json.dumps(reply)
    verb = VERBS.get(request.verb)
    return "" if verb is None else verb.outcome(answer.message, answer.status)


def _ask(run: RunFolder, request: Request, deadline_s: float) -> Answer:
    try:
        with connect(run.path, _left_s(deadline_s)) as connection:
            # A server with too many connections answers at once, without reading.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(encode_line(request))
            received = bytearray()
            # Twice the size of a request, because an answer may quote it.
            while b"\n" not in received and len(received) <= 2 * MAX_LINE_BYTES:
                connection.settimeout(_left_s(deadline_s))
                chunk = connection.recv(MAX_LINE_BYTES)
                if not chunk:
                    break
                received += chunk
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlError(_why_nobody_listens(run)) from None
    except TimeoutError:
        raise ControlError(
            f"{run.path} does not answer: its process may be stopped (kill -STOP) or hang"
        ) from None
    except OSError as error:
        raise ControlError(f"the connection to {run.path} broke: {error}") from error
    line, newline, _ = received.partition(b"\n")
    if not newline:
        raise ControlError(
            f"{run.path} gave no complete answer: it ended meanwhile, or is not a run of nightbus"
        )
    return decode_answer(bytes(line))


def _left_s(deadline_s: float) -> float:
    return max(deadline_s - time.monotonic(), 0.001)


def _why_nobody_listens(run: RunFolder) -> str:
    from .report import summarise

    if run.is_running():
        return (
            f"{run.path} is being written, but nobody listens at its control socket: it was "
            "started with Trainer(control=False), is about to begin or to end, runs on another "
            "machine, or could not create the socket, and logged a warning"
        )
    report = summarise(run)
    if not report.attempts:
        return f"{run.path} is not running: nothing was recorded"
    last = report.attempts[-1]
    if last.how == "killed":
        return f"{run.path} is not running: the process of attempt {last.attempt} is gone"
    return f"{run.path} is not running: attempt {last.attempt} has ended ({last.how})"
