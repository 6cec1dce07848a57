"""What people note about a run: its name, tags, notes and group; whether it is put away.

run.json keeps what was started. What is changed later is in marks.json beside it, as a whole: a
reader sees all of the old or all of the new, also of a run that goes on.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec

from ..errors import MALFORMED, RunFolderError, UsageError
from ..secrets.redaction import without_secrets
from ..system.plain_file import read_small
from .run_folder import RunFolder, write_atomically

MARKS = "marks.json"
MAX_TAGS = 100
MAX_NOTES = 10_000  # characters
MAX_GROUP = 200
_TAG = re.compile(r"[^\s,@][^\r\n,@]{0,62}[^\s,@]|[^\s,@]")


class Marks(msgspec.Struct, frozen=True):
    """What is noted about a run.

    Attributes:
        name: what it is called; several runs may have the same.
        tags: words to find it by, in the order in which they were given.
        notes: text for people.
        group: the runs that it belongs to, such as a sweep.
        is_archived: left out of tables that do not ask for it.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    notes: str = ""
    group: str = ""
    is_archived: bool = False


def read_marks(run: RunFolder) -> Marks:
    """Return what is noted about a run.

    Args:
        run: the run.

    Raises:
        RunFolderError: the file cannot be read.
    """
    path = run.path / MARKS
    try:
        return msgspec.json.decode(read_small(path, RunFolderError), type=Marks)
    except FileNotFoundError:
        info = run.info
        return Marks(info.name, info.tags, info.notes, info.group)
    except NotADirectoryError:  # a file of last events
        return Marks(run.info.name)
    except (*MALFORMED, OSError) as error:
        raise RunFolderError(
            f"{path} is damaged: {error}; delete it to go back to what the run was started with"
        ) from error


@contextmanager
def changing_marks(run: RunFolder) -> Iterator[Marks]:
    """Hold the run's marks for a change, so that no other process changes them meanwhile.

    Args:
        run: the run.

    Yields:
        What is noted now.

    Raises:
        RunFolderError: they cannot be read or written.
    """
    try:
        with run.deciding():
            yield read_marks(run)
    except OSError as error:
        raise RunFolderError(f"{run.path / MARKS} cannot be written: {error.strerror}") from error


def write_marks(run: RunFolder, marks: Marks) -> None:
    """Write what is noted about a run; call it within ``changing_marks``.

    Args:
        run: the run.
        marks: what is noted.

    Raises:
        OSError: it cannot be written.
    """
    data = msgspec.json.format(msgspec.json.encode(marks))
    write_atomically(run.path / MARKS, data)
    os.utime(run.path)  # whoever keeps a summary of the run reads it again


def checked_tags(tags: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return tags without secrets, each once.

    Args:
        tags: a tag, or several.

    Raises:
        UsageError: one is not a tag.
    """
    given = (tags,) if isinstance(tags, str) else tuple(tags or ())
    for tag in given:
        if not isinstance(tag, str) or not _TAG.fullmatch(tag):
            raise UsageError(
                f"{tag!r} is not a tag; expected 1 to 64 characters without a comma, an @ or a "
                "line break, and without a space at its ends"
            )
    if len(given) > MAX_TAGS:
        raise UsageError(f"{len(given)} tags were given; a run can have {MAX_TAGS}")
    return tuple(dict.fromkeys(map(without_secrets, given)))


def checked_text(what: str, text: str | None, most: int = MAX_NOTES) -> str:
    """Return a text that a user gave, without secrets.

    Args:
        what: its argument, for errors.
        text: what was given; None for nothing.
        most: how many characters it can have.

    Raises:
        UsageError: it is not a text, or too long.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UsageError(f"{what}={text!r} is a {type(text).__name__}; expected a text")
    if len(text) > most:
        raise UsageError(f"{what} has {len(text):,} characters; expected at most {most:,}")
    return without_secrets(text)
