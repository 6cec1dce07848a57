"""``nightbus replay RUN``: deliver a recorded run to sinks and actors."""

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bus.errors import NightbusError, UsageError
from ..bus.event_kinds import kind_of, own_fields
from ..bus.named_types import label_of
from ..bus.runs.find_run import find_events, find_run
from ..bus.runs.run_folder import RunFolder
from ..sinks.refill import refill
from .file_sinks import (
    WANTED,
    add_folder_options,
    given_folders,
    make_file_sinks,
    print_sinks,
    sink_reports,
)
from .find import LAST_EVENTS_HELP
from .named_actor import load_actor
from .text import ERROR, LOSSY, OK, as_json, as_json_line, how_many, print_missing, print_note

if TYPE_CHECKING:
    from ..bus.replay.replay import Replayed
    from ..bus.runs.cursor import Cursor

_OPTION_OF = {
    "start": "--from",
    "until": "--until",
    "rate": "--rate",
    "metrics": "--metric",
    "hooks": "--hook",
    "events": "--event",
    "stages": "--stage",
    "steps": "--steps",
    "times": "--times",
}


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "replay",
        help="deliver a recorded run to sinks",
        description="Deliver a recorded run to new files or to actors, or deliver to its own sinks "
        "what they have not received.",
    )
    parser.add_argument("run", metavar="RUN", help=LAST_EVENTS_HELP)
    add_folder_options(parser)
    parser.add_argument(
        "--actor",
        metavar="MODULE:CLASS",
        action="append",
        default=[],
        help="import this class, from this folder or installed, and give it the run; repeatable; "
        "what it puts and tells is printed, one JSON object a line",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="deliver to the files of the run's own sinks what they lack",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one report for programs, with what actors put and tell in it",
    )
    _add_playback(parser)
    _add_filters(parser)
    parser.set_defaults(command=_replay)


def _add_playback(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("playback")
    group.add_argument(
        "--rate",
        default="max",
        metavar="R",
        help="max, as fast as possible (the default); realtime; or a factor: x10, x0.5",
    )
    group.add_argument(
        "--clock",
        choices=("recorded", "wall"),
        help="the clock that actors see; the recording's by default",
    )
    group.add_argument(
        "--from",
        dest="start",
        metavar="PLACE",
        help="begin here: step=N, epoch=N, time=1h30m since the run began, seq=N or seq=ATTEMPT:N",
    )
    group.add_argument("--until", metavar="PLACE", help="end before this place")
    group.add_argument(
        "--all-attempts",
        action="store_true",
        help="also deliver what a resumed attempt has superseded",
    )
    group.add_argument(
        "--rank",
        type=_rank,
        default=0,
        metavar="N",
        help="what this rank recorded (0); all for all in one, in the order of time, for actors",
    )


def _rank(text: str) -> int | str:
    return text if text == "all" else int(text)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "filters", "each applies only to events that have the named property"
    )
    for option, metavar, what in (
        ("--metric", "PATTERN", "metrics of these names, as in a shell: 'val_*'"),
        ("--hook", "PATTERN", "hooks of these names"),
        ("--event", "TYPE", "events of these types: Put, Hook, Fault, ..."),
        ("--stage", "STAGE", "these stages: train, validate, test, predict, sanity_check"),
    ):
        group.add_argument(
            option, metavar=metavar, action="append", default=[], help=f"only {what}; repeatable"
        )
    group.add_argument("--steps", metavar="A..B", help="only these optimizer steps, both included")
    group.add_argument("--times", metavar="A..B", help="only this time since the run began")


def _playback(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for ``nightbus.replay``."""
    return {
        "rate": options.rate,
        "clock": options.clock,
        "start": options.start,
        "until": options.until,
        "all_attempts": options.all_attempts,
        "rank": options.rank,
        "metrics": options.metric,
        "hooks": options.hook,
        "events": options.event,
        "stages": options.stage,
        "steps": options.steps,
        "times": options.times,
    }


def _replay(options: argparse.Namespace) -> int:
    folders = given_folders(options)
    playback = _playback(options)
    if options.resume:
        if folders or options.actor:
            raise UsageError(
                f"--resume delivers to the run's own sinks; leave out {WANTED}, --actor"
            )
        if any(value for name, value in playback.items() if (name, value) != ("rate", "max")):
            raise UsageError(
                "--resume delivers all that the run's own sinks lack; leave out the rate, the "
                "stretch and the filters"
            )
        return _resume(find_run(options.run), options.json)
    if not folders and not options.actor:
        raise UsageError(f"name a destination: {WANTED}; or --actor MODULE:CLASS, or --resume")
    if options.rank == "all" and folders:
        raise UsageError(
            "--rank all is for actors: a file has the metrics of one rank, named with --rank N"
        )
    run = find_events(options.run)
    return _replay_into(run, folders, options.actor, playback, options.json)


def _replay_into(
    run: RunFolder,
    folders: dict[str, str],
    named: list[str],
    playback: dict[str, Any],
    wants_json: bool,
) -> int:
    from ..bus.replay.pace import parse_rate
    from ..bus.replay.replay import replay
    from ..bus.replay.selection import Selection

    # Before anything is written, so that a wrong call leaves no files behind.
    unselective = ("rate", "clock", "all_attempts", "rank")
    try:
        parse_rate(playback["rate"])
        Selection(**{name: value for name, value in playback.items() if name not in unselective})
    except UsageError as error:
        raise UsageError(_in_words_of_the_command_line(str(error))) from None
    actors = [load_actor(name) for name in named]
    sinks = make_file_sinks(folders)
    goes_on = run.is_running()
    replayed = replay(run, actors=actors, sinks=sinks, **playback)
    numbers = list(replayed.events.values())
    by_actors, by_sinks = numbers[: len(named)], numbers[len(named) :]
    if wants_json:
        report = {
            "id": run.info.id,
            "path": str(run.path),
            "actors": [
                {"name": name, "events": number}
                for name, number in zip(named, by_actors, strict=True)
            ],
            "sinks": sink_reports(sinks, by_sinks),
            "emitted": _emitted(replayed),
            "goes_on": goes_on,
            "unclean": replayed.unclean,
            "missing": replayed.missing,
        }
        sys.stdout.write(as_json(report))
    else:
        for name, number in zip(named, by_actors, strict=True):
            print_note(f"{how_many(number, 'event')} read by {name}")
        print_sinks(sinks, by_sinks)
        sys.stdout.write("".join(map(as_json_line, _emitted(replayed))))
    print_missing(replayed.missing)
    if not replayed.unclean:
        return LOSSY if replayed.missing else OK
    if goes_on:
        print_note("the run goes on: this is what it had recorded so far")
    else:
        print_note(f"the recording ends early, this is what there is of it: {replayed.unclean}")
    return LOSSY


def _in_words_of_the_command_line(message: str) -> str:
    """Return an error about an argument of ``nightbus.replay`` with the option's name instead."""
    for name, option in _OPTION_OF.items():
        message = re.sub(rf"\b{name}=(?=')", f"{option} ", message)
    return message


def _emitted(replayed: "Replayed") -> list[dict[str, object]]:
    """Return what actors put and told, for programs."""
    emitted: list[dict[str, object]] = []
    for source, name, value in replayed.puts:
        is_media = isinstance(value, tuple)
        shown = f"{value[0]}, {len(value[1])} bytes" if is_media else value
        if hasattr(shown, "item"):
            shown = shown.item()
        emitted.append({"put": name, "value": shown, "source": source})
    for source, event in replayed.emitted:
        emitted.append({"emit": kind_of(event), "fields": own_fields(event), "source": source})
    for told in replayed.commands:
        emitted.append(
            {
                "ask" if told.asked else "tell": label_of(type(told.command)),
                "target": told.target,
                "arguments": told.command,
                "source": told.sender,
                "attempt": told.at.attempt,
                "seq": told.at.seq,
                "epoch": told.epoch,
                "step": told.step,
            }
        )
    return emitted


class _Resumed(NamedTuple):
    """Result of resuming one of the run's own sinks: events delivered, or why there are none."""

    code: int
    message: str
    events: int = 0
    path: str = ""


def _resume(run: RunFolder, wants_json: bool) -> int:
    """Deliver the rest to the sinks that nightbus defines; users' own sinks need their class."""
    from ..bus.runs.cursor import CursorFile, list_cursors

    if run.is_running():
        print_note(
            f"{run.path} is still being written, and its own sinks are running; wait for its end"
        )
        return ERROR
    reports, codes = [], []
    for name in list_cursors(run):
        cursor = CursorFile(run, name).load()
        if cursor is None:
            continue
        resumed = _resume_sink(run, name, cursor)
        codes.append(resumed.code)
        if not wants_json:
            print_note(resumed.message)
        reports.append(
            {
                "name": name,
                "kind": cursor.kind,
                "path": resumed.path,
                "events": resumed.events,
                "problem": "" if resumed.code == OK else resumed.message,
            }
        )
    if not codes:
        raise UsageError(f"{run.path} had no sinks; name a destination: {WANTED}")
    if wants_json:
        report = {"id": run.info.id, "path": str(run.path), "sinks": reports}
        sys.stdout.write(as_json(report))
    return ERROR if ERROR in codes else max(codes)


def _resume_sink(run: RunFolder, name: str, cursor: "Cursor") -> _Resumed:
    from ..bus.replay.replay import replay

    # The class comes from a table, the folder is the run's: no file decides which code is loaded
    # or where it writes.
    kind = cursor.kind
    how = refill(run, name, kind)
    if not how.is_shell:
        folder = cursor.state.get("folder")
        what = f"is a sink of your own, {kind}" if folder is None else f"wrote to {folder}"
        return _Resumed(LOSSY, f"{name} {what}; {how.advice}")
    try:
        (sink,) = make_file_sinks({kind: None})
        sink.name = name
        replayed = replay(run, sinks=[sink], resume=True)
    except (NightbusError, OSError) as error:  # the other sinks are served all the same
        return _Resumed(ERROR, f"{name} could not resume: {error}")
    # Events after it had finished, such as other observers' faults, may not concern it.
    if all(cursor.state.get(key) == value for key, value in sink.state().items()):
        return _Resumed(OK, f"{name} had received everything already", 0, str(sink.path))
    number = replayed.events[name]
    read = how_many(number, "more event")
    message = f"{name}: {read} read, their metrics are in {sink.path}"
    return _Resumed(OK, message, number, str(sink.path))
