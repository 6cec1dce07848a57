"""What the application refuses, each with a sentence that says what to do."""

import difflib
from collections.abc import Iterable

import nightbus as nb


class RecordingError(nb.UsageError):
    """A recording or its labels are missing, damaged, of another format, or do not fit."""


class ClassListError(nb.UsageError):
    """Class names of the data, of the model or of the command line do not fit together."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> nb.UsageError:
    """Return the error for a name that is not among those known.

    Args:
        what: what it names, such as ``model``.
        name: the given name.
        known: the names there are.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}? There are" if near else "there are"
    return nb.UsageError(f"there is no {what} {name!r}; {hint}: {', '.join(names)}")
