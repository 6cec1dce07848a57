"""``nightbus board [ROOT]``: a page in the browser on which people look at runs."""

import argparse
import functools
import sys
from typing import Any

from ..bus.errors import UsageError
from ..bus.system.paths import as_path
from .ls import add_root
from .text import OK, as_json, as_json_line, how_many, print_note, size


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "board",
        help="look at runs in the browser, live and recorded",
        description="Serve a page on this machine, until it is stopped, with the runs of a folder: "
        "a table, curves, and what each recorded. Only who has the address that is printed can "
        "ask for anything.",
    )
    add_root(parser)
    parser.add_argument(
        "--export",
        metavar="FILE.html",
        default="",
        help="write the page with these runs into one file, which needs no server",
    )
    parser.add_argument(
        "--where",
        metavar="CONDITION",
        default="",
        help="only runs for which this holds: \"lr < 0.01 and ending == 'completed'\"",
    )
    parser.add_argument("--archived", action="store_true", help="also those put away")
    parser.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="listen on another address than this machine's own; what is sent is not encrypted",
    )
    parser.add_argument(
        "--port", type=int, default=None, metavar="N", help="listen on this port; 0 for a free one"
    )
    parser.add_argument(
        "--steer",
        action="store_true",
        help="let the page stop, pause and resume runs, have them validate and save, and send them "
        "commands of your own; without it, it only reads",
    )
    parser.add_argument("--json", action="store_true", help="the address, for programs")
    parser.set_defaults(command=_board)


def _board(options: argparse.Namespace) -> int:
    from ..sinks.board.shelf import Shelf

    shelf = Shelf(as_path(options.root), options.archived, options.where)
    if options.export:
        return _export(shelf, options)
    from ..sinks.board.server import serve_board

    announce = functools.partial(_announce, options=options)
    serve_board(shelf, announce, options.host, options.port, options.steer)
    return OK


def _announce(address: str, options: argparse.Namespace) -> None:
    if options.json:
        sys.stdout.write(as_json_line({"address": address}))
        sys.stdout.flush()
        return
    from ..sinks.board.address import is_loopback

    print_note(f"the runs of {options.root} are at {address} until Ctrl-C")
    if not is_loopback(options.host):
        may = "read and steer" if options.steer else "read"
        print_note(
            f"who has this address can {may} the runs, and what is sent is not encrypted; "
            "ssh -L needs no other address than this machine's own"
        )


def _export(shelf: Any, options: argparse.Namespace) -> int:
    from ..bus.runs.run_folder import write_atomically
    from ..sinks.board.export import exported

    path = as_path(options.export)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--export {path}: expected a file that ends in .html")
    content = exported(shelf)
    write_atomically(path, content)
    number = len(shelf.table().runs)
    if options.json:
        sys.stdout.write(as_json({"path": str(path), "runs": number, "bytes": len(content)}))
    else:
        print_note(f"{how_many(number, 'run')} in {path}, {size(len(content))}")
    return OK
