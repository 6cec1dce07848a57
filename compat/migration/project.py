"""Migrates the files of a project."""

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from ...bus.errors import UsageError
from .lightning_names import DOTTED, LightningName, lightning_name
from .rewriter import Note, Rewritten, rewrite

_CONFIGS = frozenset({".yaml", ".yml"})
_MIGRATED = _CONFIGS | {".py"}
_NO_SOURCES = frozenset({"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"})


@dataclass
class MigratedFile:
    """A file, before and after.

    Attributes:
        path: the file.
        before: its text.
        after: its text with nightbus in place of Lightning.
        notes: what is left to do in it.
    """

    path: Path
    before: str
    after: str
    notes: list[Note] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after

    def diff(self) -> str:
        """Return the change as a unified diff."""
        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            self.after.splitlines(keepends=True),
            f"a/{self.path}",
            f"b/{self.path}",
        )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def write(self) -> None:
        """Write the new text into the file.

        Raises:
            OSError: it cannot be written.
        """
        with self.path.open("w", encoding="utf-8", newline="") as file:
            file.write(self.after)


def migrate(
    root: Path, begins: Callable[[int, int, Path], None] | None = None
) -> list[MigratedFile]:
    """Return what becomes of a file, or of the Python and YAML files below a folder.

    Args:
        root: the file or folder. Hidden folders, environments and builds are left out.
        begins: is called before each file, with its number from 1, how many there are and its
            path.

    Returns:
        The files that change or in which something is left to do.

    Raises:
        UsageError: there is no such file or folder.
    """
    if not root.exists():
        raise UsageError(f"there is no {root}; give a Python file, or a folder")
    found = [root] if root.is_file() else _files(root)
    files: list[MigratedFile] = []
    for number, path in enumerate(found, 1):
        if begins is not None:
            begins(number, len(found), path)
        file = _migrated(path)
        if file.is_changed or file.notes:
            files.append(file)
    return files


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [each for each in folders if each[0] != "." and each not in _NO_SOURCES]
        paths = (Path(folder, name) for name in names)
        found += [each for each in paths if each.suffix in _MIGRATED and each.is_file()]
    return sorted(found)


def _migrated(path: Path) -> MigratedFile:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            before = file.read()
    except UnicodeDecodeError:
        return MigratedFile(path, "", "", [Note(1, "this is not UTF-8; it was left as it is")])
    if "lightning" not in before:
        return MigratedFile(path, before, before)
    if path.suffix in _CONFIGS:
        return MigratedFile(path, before, *_rewritten_config(before))
    try:
        return MigratedFile(path, before, *rewrite(before))
    except cst.ParserSyntaxError as error:
        text = f"this is not Python of this version ({error.message}); it was left as it is"
        return MigratedFile(path, before, before, [Note(error.raw_line, text)])


def _rewritten_config(source: str) -> Rewritten:
    """Rewrite the paths to classes that Hydra, LightningCLI and others have in their configs."""
    notes: list[Note] = []
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        body, mark, comment = line.partition("#")
        for dotted in DOTTED.findall(body):
            name = lightning_name(dotted)
            if name is None or not name.name:
                continue
            if name.advice:
                notes.append(Note(number + 1, name.advice))
            else:
                body = body.replace(dotted, _whole(name))
        lines[number] = f"{body}{mark}{comment}"
    return Rewritten("".join(lines), notes)


def _whole(name: LightningName) -> str:
    return f"{name.own_path}.{name.rest}" if name.rest else name.own_path
