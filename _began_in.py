"""The folder in which this process imported nightbus, where the processes that it starts begin."""

import os


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # it was removed, which only those who need it are told
        return None


BEGAN_IN = _working_directory()
"""None if there was none."""
