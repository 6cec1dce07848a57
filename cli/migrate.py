"""``nightbus migrate PATH``: rewrite code that was written for Lightning."""

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bus.errors import MissingPackageError
from ..bus.system.paths import as_path
from ..bus.system.streams import is_terminal
from .text import LOSSY, OK, as_json, how_many, plain, print_note


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser(
        "migrate",
        help="rewrite code that was written for Lightning",
        description="Rewrite imports, uses of imported modules, arguments and the classes named in "
        "YAML files, and list what has no counterpart. Shows a diff; nothing is run.",
    )
    parser.add_argument("path", metavar="PATH", help="a file, or the folder of a project")
    parser.add_argument("--write", action="store_true", help="change the files")
    parser.add_argument("--json", action="store_true", help="the report for programs")
    parser.set_defaults(command=_migrate)


def _migrate(options: argparse.Namespace) -> int:
    if find_spec("libcst") is None:
        raise MissingPackageError("nightbus migrate", "libcst", "migrate")
    from ..compat.migration.project import migrate

    if is_terminal(sys.stderr):
        files = migrate(as_path(options.path), _show_file)
        _show_line("")
    else:
        files = migrate(as_path(options.path))
    changed = [file for file in files if file.is_changed]
    for file in changed:
        if options.write:
            file.write()
        elif not options.json:
            for line in file.diff().split("\n")[:-1]:
                print(plain(line) if sys.stdout.isatty() else line)
    left = [(file.path, note) for file in files for note in file.notes]
    if options.json:
        report = {
            "changed": [str(file.path) for file in changed],
            "written": options.write,
            "left": [{"path": str(path), "line": n.line, "what": n.text} for path, n in left],
        }
        sys.stdout.write(as_json(report))
        return LOSSY if left else OK
    for path, note in left:
        print(plain(f"{path}:{note.line}: {note.text}"))
    done = f"{how_many(len(changed), 'file')} {'changed' if options.write else 'would change'}"
    by_hand = f"; {how_many(len(left), 'place')} left to change by hand" if left else ""
    how = "; write the changes with --write" if changed and not options.write else ""
    print_note(f"{done}{by_hand}{how}")
    return LOSSY if left else OK


def _show_file(number: int, count: int, path: Path) -> None:
    columns = shutil.get_terminal_size().columns - 1  # the last one would wrap the line
    _show_line(plain(f"file {number:,} of {count:,}: {path}")[:columns])


def _show_line(line: str) -> None:
    """Put a line in place of the terminal's last one."""
    sys.stderr.write(f"\r\x1b[2K{line}")
    sys.stderr.flush()
