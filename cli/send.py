"""``nightbus send RUN VERB``: steer a run from another process."""

import argparse
import sys
from typing import Any

from ..bus.control.protocol import VERBS, Answer, Request, RunStatus, Verb
from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import ERROR, OK, as_json, duration, how_many, one_line, plain, print_note

MAX_FAULTS_SHOWN = 5


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "send",
        help="steer a run that goes on",
        description="Steer a run that goes on, through the socket in its folder: stop or pause it "
        "after the step, let it go on, have it validate or save a checkpoint, or ask where it is.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument("verb", choices=VERBS, help="what the run is to do")
    parser.add_argument("--reason", default="", help="for stop: one line that the log will keep")
    parser.add_argument(
        "--timeout",
        type=float,
        default=None,
        metavar="S",
        help="wait so long until it is done, in s (10; for validate and checkpoint 600)",
    )
    parser.add_argument("--json", action="store_true", help="the answer for programs")
    parser.set_defaults(command=_send)


def _send(options: argparse.Namespace) -> int:
    from ..bus.inspection.control_client import send

    run = find_run(options.run)
    verb: Verb = options.verb
    timeout_s = options.timeout
    if timeout_s is None:
        timeout_s = 600.0 if verb in ("validate", "checkpoint") else 10.0
    answer = send(run, Request(verb, options.reason, timeout_s))
    known = _what_the_log_says(run) if verb == "status" and answer.status is not None else {}
    if options.json:
        sys.stdout.write(as_json({"verb": verb, **_fields(answer), **known}))
    elif answer.kind != "done" or answer.status is None:
        print_note(f"{verb}: {answer.message}{_now(answer.status)}")
    elif verb == "status":
        sys.stdout.write(_status_text(answer.status, known))
    else:
        print(plain(f"{verb}: {_done(verb, answer, answer.status)}{_now(answer.status)}"))
    return OK if answer.kind == "done" else ERROR


def _fields(answer: Answer) -> dict[str, Any]:
    return {"kind": answer.kind, "message": answer.message, "status": answer.status}


def _what_the_log_says(run: Any) -> dict[str, Any]:
    """Latest metrics and faults: read from the log, so that the run need not look for them."""
    from ..bus.inspection.report import summarise

    report = summarise(run)
    metrics = {name: metric.last for name, metric in report.metrics.items()}
    faults = [
        {"source": fault.source, "hook": fault.hook, "error": fault.error, "message": fault.message}
        for fault in report.faults
    ]
    counted = sum(attempt.events.get("Fault", 0) for attempt in report.attempts)
    return {"metrics": metrics, "faults": faults, "number_of_faults": counted}


def _done(verb: Verb, answer: Answer, status: RunStatus) -> str:
    """What was done, in words."""
    if verb == "stop":
        when = "after the step" if status.may_stop else "when min_epochs and min_steps are reached"
        return f"the run ends {when}"
    if verb == "pause":
        return "the run holds here, until resume or stop"
    if verb == "resume":
        return "the run goes on"
    if verb == "checkpoint":
        return f"saved in {answer.message}"
    return one_line(answer.message)  # validate: what was validated, or why nothing


def _now(status: RunStatus | None) -> str:
    return f"; now {_place(status)}" if status else ""


def _place(status: RunStatus) -> str:
    return f"epoch {status.epoch:,}, step {status.step:,}"


def _status_text(status: RunStatus, known: dict[str, Any]) -> str:
    state = "paused" if status.paused else "stopping" if status.stopping else "running"
    batch = f", batch {status.batch_idx:,}" if status.batch_idx >= 0 else ""
    lines = [
        f"{status.run} attempt {status.attempt}: {status.fn} {state} (pid {status.pid})",
        f"  {status.stage or 'between stages'}, {_place(status)}{batch}, "
        f"{duration(status.running_s)} so far",
    ]
    lines += [f"  {name} = {value:.6g}" for name, value in known["metrics"].items()]
    if known["number_of_faults"]:
        lines.append(f"  {how_many(known['number_of_faults'], 'fault')}:")
    for fault in known["faults"][:MAX_FAULTS_SHOWN]:
        where = f" in {fault['hook']}" if fault["hook"] else ""
        lines.append(
            f"    {fault['source']}{where}: {fault['error']}: {one_line(fault['message'])}"
        )
    if status.dead_letters:
        lines.append(f"  {how_many(status.dead_letters, 'dead letter')}")
    return "".join(f"{plain(line)}\n" for line in lines)
