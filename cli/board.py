"""``nightbus board [ROOT]``: a page in the browser on which people look at runs."""

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from ..bus.errors import UsageError
from ..bus.system.paths import as_path
from .ls import add_choice_options, add_root, seconds_of
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
        metavar="FILE.html|FOLDER",
        default="",
        help="write the page with these runs into one file, or into a folder, which need no server",
    )
    add_choice_options(parser)
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

    since_s = seconds_of(options.since) if options.since else None
    shelf = Shelf(
        as_path(options.root),
        options.archived,
        options.where,
        since_s=since_s,
        tags=options.tag,
        group=options.group,
    )
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
    path = as_path(options.export)
    is_file = path.suffix.lower() in (".html", ".htm")
    length = _export_file(shelf, path) if is_file else _export_folder(shelf, path)
    number = len(shelf.table().runs)
    if options.json:
        sys.stdout.write(as_json({"path": str(path), "runs": number, "bytes": length}))
    else:
        print_note(f"{how_many(number, 'run')} in {path}, {size(length)}")
    return OK


def _export_file(shelf: Any, path: Path) -> int:
    from ..bus.runs.run_folder import write_atomically
    from ..sinks.board.export import exported

    content = exported(shelf)
    write_atomically(path, content)
    return len(content)


def _export_folder(shelf: Any, folder: Path) -> int:
    """Write the page into a folder that is new, empty, or has one that was written before."""
    from ..bus.runs.run_folder import write_atomically
    from ..sinks.board.export import PAGE, RUNS, exported_files, is_exported

    former = folder / PAGE
    is_former = former.is_file() and is_exported(former.read_bytes())
    if folder.exists() and not is_former and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"--export {folder}: it is there, and not what nightbus board has written; expected a "
            "new or empty folder, or a file that ends in .html"
        )
    files = exported_files(shelf)
    page = next(files)  # refused before anything is changed
    (folder / RUNS).mkdir(parents=True, exist_ok=True)
    for old in (folder / RUNS).glob("*.js"):  # of runs that were chosen then
        old.unlink()
    length = 0
    for name, content in (page, *files):
        write_atomically(folder / name, content)
        length += len(content)
    return length
