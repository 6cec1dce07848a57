"""Says why an entry that a hook looks for is not in a checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


@contextmanager
def explaining_left_out(state: Mapping[str, Any]) -> Iterator[None]:
    """Add to a KeyError why the checkpoint was saved without this entry.

    Args:
        state: the checkpoint, which hooks read within.
    """
    try:
        yield
    except KeyError as error:
        name = error.args[0] if error.args else None
        if why := state.get("left_out", {}).get(name):
            error.add_note(f"nightbus: the checkpoint was saved without {name!r}: {why}")
        raise
