"""``nightbus send RUN VERB``: steer a run from another process."""

import argparse
import json
import sys
from abc import ABC, abstractmethod
from typing import Any

from ..bus.control.protocol import COMMAND, STATUS, Answer, Request, RunStatus
from ..bus.control.verbs import WORDS, usual_timeout_s
from ..bus.errors import UsageError
from ..bus.runs.find_run import find_run
from .find import RUN_HELP
from .text import ERROR, OK, as_json, duration, how_many, one_line, plain, print_note

MAX_FAULTS_SHOWN = 5
_EXAMPLE = """--command myteam.SetRate --json '{"rate": 0.1}'"""


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "send",
        help="steer a running run",
        usage="nightbus send RUN VERB [--reason TEXT] [--timeout S] [--json]\n"
        "       nightbus send RUN [--to ACTOR] --command NAME [--json '{...}'] [--timeout S] "
        "[--json]",
        description="Steer a running run, through the socket in its folder: stop or pause it "
        "after the step, resume it, have it validate or save a checkpoint, or ask where it is. "
        "Or send a command of your own to one of its actors.",
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    word = parser.add_argument(
        "verb", metavar="VERB", type=_word, help=f"what the run is to do: {', '.join(WORDS)}"
    )
    parser.add_argument("--reason", default="", help="for stop: one line for the log")
    parser.add_argument("--to", default="", metavar="ACTOR", help="who is to take --command (fit)")
    parser.add_argument(
        "--command",
        dest="name",
        metavar="NAME",
        action=_Command,
        stands_for=word,
        help="the name of a command, instead of a verb: myteam.SetRate",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=None,
        metavar="S",
        help="how long to wait until it is done, in s (10; for validate and checkpoint 600)",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        metavar="{...}",
        action=_Json,
        stands_for=word,
        help="with an object: the fields of --command; without: the answer for programs",
    )
    parser.set_defaults(command=_send, fields=None, as_json=False, before=None)


def _word(text: str) -> str:
    if text not in WORDS:
        known = ", ".join(map(repr, WORDS))
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from {known})")
    return text


class _StandsForVerb(argparse.Action, ABC):
    """An option after which no verb is required.

    Args:
        stands_for: the verb's own action.
        **options: as for any action.
    """

    def __init__(self, *, stands_for: argparse.Action, **options: Any) -> None:
        super().__init__(**options)
        self._stands_for = stands_for

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        self._stands_for.required = False
        self.take(namespace, values)

    @abstractmethod
    def take(self, namespace: argparse.Namespace, value: str | None) -> None:
        """Keep what was given.

        Args:
            namespace: all options.
            value: what was given.
        """


class _Command(_StandsForVerb):
    def take(self, namespace: argparse.Namespace, value: str | None) -> None:
        namespace.name = value


class _Json(_StandsForVerb):
    """Parses ``--json '{...}'``, which sets fields, and ``--json`` alone, which requests JSON.

    A word that follows it is the run or the verb, which come in this order.
    """

    def take(self, namespace: argparse.Namespace, value: str | None) -> None:
        if value is not None and value.lstrip().startswith("{"):
            namespace.fields = value
            return
        namespace.as_json = True
        if value is not None and namespace.run is None:
            namespace.before = value
        elif value is not None:
            namespace.verb = value


def _send(options: argparse.Namespace) -> int:
    from ..bus.inspection.control_client import outcome_of, send

    run_name, request = _asked_for(options)
    run = find_run(run_name)
    answer = send(run, request)
    what = request.command or request.verb
    known = {}
    if request.verb == STATUS and answer.status is not None:
        known = _what_the_log_says(run)
    if options.as_json:
        head = {COMMAND: request.command} if request.command else {"verb": request.verb}
        reply = {"reply": json.loads(bytes(answer.reply))} if request.command else {}
        sys.stdout.write(as_json({**head, **_fields(answer), **reply, **known}))
    elif answer.kind != "done" or answer.status is None:
        print_note(f"{what}: {answer.message}{_now(answer.status)}")
    elif request.verb == STATUS:
        sys.stdout.write(_status_text(answer.status, known))
    elif request.command:
        said = "\n".join(plain(line) for line in outcome_of(request, answer).splitlines())
        print(f"{plain(what)}: {said}{_now(answer.status)}")
    else:
        print(plain(f"{what}: {one_line(outcome_of(request, answer))}{_now(answer.status)}"))
    return OK if answer.kind == "done" else ERROR


def _asked_for(options: argparse.Namespace) -> tuple[str, Request]:
    """Return the run and what is asked of it.

    Raises:
        UsageError: the options contradict each other.
    """
    words = [word for word in (options.before, options.run, options.verb) if word is not None]
    run_name, verb = words[0], _word_of(words[1:])
    if options.name is None:
        for option, given in (("--to", options.to), ("--json '{...}'", options.fields)):
            if given:
                raise UsageError(f"{option} goes with --command NAME, as in: {_EXAMPLE}")
        if not verb:
            raise UsageError(f"what is the run to do? expected {', '.join(WORDS)}, or {_EXAMPLE}")
        return run_name, Request(verb, options.reason, _timeout_s(options, verb))
    if verb or options.reason:
        given = f"the verb {verb}" if verb else "--reason"
        raise UsageError(f"{given} and --command {options.name}: expected one of them")
    return run_name, Request(
        COMMAND,
        timeout_s=_timeout_s(options, COMMAND),
        to=options.to,
        command=options.name,
        arguments=_arguments(options.fields or "{}"),
    )


def _word_of(words: list[str]) -> str:
    try:
        return _word(words[0]) if words else ""
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None


def _timeout_s(options: argparse.Namespace, verb: str) -> float:
    return usual_timeout_s(verb) if options.timeout is None else float(options.timeout)


def _arguments(fields: str) -> Any:
    """Return the fields of a command in one line.

    Raises:
        UsageError: they are not JSON.
    """
    import msgspec

    from ..bus.errors import MALFORMED

    try:
        msgspec.json.decode(fields)
        return msgspec.Raw(msgspec.json.format(fields.encode(), indent=-1))
    except MALFORMED as error:
        raise UsageError(f"--json {fields[:100]!r}: expected a JSON object: {error}") from None


def _fields(answer: Answer) -> dict[str, Any]:
    return {"kind": answer.kind, "message": answer.message, "status": answer.status}


def _what_the_log_says(run: Any) -> dict[str, Any]:
    """Return latest metrics and faults, from the log, so that the run need not collect them."""
    from ..bus.inspection.report import summarise

    report = summarise(run)
    metrics = {name: metric.last for name, metric in report.metrics.items()}
    faults = [
        {"source": fault.source, "hook": fault.hook, "error": fault.error, "message": fault.message}
        for fault in report.faults
    ]
    counted = sum(attempt.events.get("Fault", 0) for attempt in report.attempts)
    return {"metrics": metrics, "faults": faults, "number_of_faults": counted}


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
