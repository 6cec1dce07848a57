"""The token of a user's boards, kept between their starts, so that pages go on working after one.

It lies in a file that only its user can read, beside what other programs keep of their state. A
board that other machines can reach does not use it: there, what is sent can be read on the way. One
that no board was started with for a week is replaced, so that nobody has it for ever.
"""

import os
import re
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

from ...bus.errors import NightbusError
from ...bus.system.logging_setup import get_logger
from .address import is_loopback, new_token

FILE = "board-token"
KEPT_S = 7 * 24 * 3600
_CLOCKS_S = 3600.0  # by which a clock may have been set back since
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}\n", re.ASCII)
_log = get_logger("nightbus.board")


class _NotPrivateError(NightbusError):
    """Others than this user could read or change the file, or its folder."""


def token_for(host: str) -> str:
    """Return the token of a board: of this user's boards, or a new one if others can reach it.

    Where none can be kept, a new one is returned, and a warning logged.

    Args:
        host: the address or name that is listened on.
    """
    if not is_loopback(host):
        return new_token()
    try:
        return kept_token(state_folder())
    except (NightbusError, OSError, RuntimeError) as error:
        _log.warning(f"the board's token is for this start alone, open pages lose it: {error}")
        return new_token()


def state_folder() -> Path:
    """Return the folder in which what a user's boards keep lies; it need not be there.

    Raises:
        RuntimeError: the user has no home.
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".local" / "state") / "nightbus"


def kept_token(folder: Path) -> str:
    """Return the token that is kept in a folder; made if there is none, or others could read it.

    Args:
        folder: made if it is not there.

    Raises:
        NightbusError: the folder or the file is another user's.
        OSError: it cannot be read or written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _NotPrivateError(f"{folder} is not this user's alone: expected chmod 700")
    path = folder / FILE
    if (token := _read(path)) is not None:
        return token
    temporary = folder / f"{FILE}.{os.getpid()}-{secrets.token_hex(4)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w") as file:
            file.write(f"{new_token()}\n")
        with suppress(FileExistsError):  # another board that started now made it
            os.link(temporary, path)
    finally:
        temporary.unlink()
    token = _read(path)
    if token is None:
        raise _NotPrivateError(f"{path} is changed by another program")
    return token


def _read(path: Path) -> str | None:
    """Return the token in a file; None if there is none, or one that cannot be used any more."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, encoding="ascii", errors="replace") as file:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or not stat.S_ISREG(about.st_mode):
            raise _NotPrivateError(f"{path} is not a file of this user")
        text = file.read(64)
        is_old = not -_CLOCKS_S <= time.time() - about.st_mtime <= KEPT_S
        if not is_old:
            os.utime(fd)
    if is_old or stat.S_IMODE(about.st_mode) & 0o077 or not _TOKEN.fullmatch(text):
        path.unlink()  # it may be known to others, or is none: a new one takes its place
        return None
    return text.strip()
