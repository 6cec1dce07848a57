"""The command line; its verbs are in ``cli``, one file each.

Results for programs go to stdout, messages for people go to stderr.
"""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from .bus.errors import LogError, NightbusError, RunFolderError, UsageError
from .cli.text import ERROR, OK, REFUSED, USAGE, print_note

INTERRUPTED = 130  # as shells do: 128 + SIGINT

_VERBS = (
    "ls",
    "board",
    "show",
    "plot",
    "compare",
    "diff",
    "tail",
    "top",
    "ranks",
    "send",
    "attach",
    "replay",
    "tag",
    "note",
    "rename",
    "archive",
    "rm",
    "doctor",
    "recover",
    "import_ckpt",
    "run",
    "export_ckpt",
    "migrate",
)

_EXIT_CODES = """\
exit codes:
  0  fine
  1  error
  2  the call is wrong, or there is no such run
  3  done, but not all could be read, delivered or compared
  4  two runs differ
  5  refused: not an event log, or one of a newer major version; or a file not trusted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not have all letters
            stream.reconfigure(errors="backslashreplace")
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(_needed(given)).parse_args(given)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        code = command(options)
        sys.stdout.flush()  # here, where a closed pipe is expected
        return code
    except BrokenPipeError:  # `nightbus show RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (NightbusError, OSError) as error:
        if os.environ.get("NIGHTBUS_LOG", "").lower() == "debug":
            traceback.print_exc()
        print_note(str(error))
        if isinstance(error, LogError):
            return REFUSED
        return USAGE if isinstance(error, UsageError | RunFolderError) else ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


class _VerbParser(argparse.ArgumentParser):
    """Accepts full options only: the meaning of an abbreviation could change with a new option."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)


def _needed(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the verb that is called; all of them where none is, for help and for errors."""
    verb = arguments[0].replace("-", "_") if arguments else ""
    return (verb,) if verb in _VERBS else _VERBS


def _parser(names: Sequence[str] = _VERBS) -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="nightbus",
        description="Look at runs, steer them, and replay them.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nightbus {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_VerbParser)

    for name in names:  # loaded here: all together take longer than most verbs
        import_module(f".cli.{name}", __package__).add(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
