"""Says why an entry that somebody looks for is not in a checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ReadHyperparameters(dict[str, Any]):
    """The hyperparameters of a checkpoint; the KeyError of one that is not there says why.

    Args:
        values: name -> value.
        path: the checkpoint.
        left_out: name -> why the checkpoint was saved without it.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, left_out: Mapping[str, str]) -> None:
        super().__init__(values)
        self._path, self._left_out = path, left_out

    def __missing__(self, name: str) -> Any:
        error = KeyError(name)
        if why := self._left_out.get(name):
            error.add_note(
                f"nightbus: the checkpoint {self._path} was saved without the hyperparameter "
                f"{name!r}: {why}; pass it to load_from_checkpoint, or call "
                "nightbus.register_type for its type before training"
            )
        raise error

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def explained_hyperparameters(state: Mapping[str, Any], path: Path) -> ReadHyperparameters:
    """Return the hyperparameters of a checkpoint so that a missing one says why.

    Args:
        state: content of the checkpoint.
        path: the checkpoint.
    """
    left_out = state.get("hparams_form", {}).get("left_out", {})
    return ReadHyperparameters(state["hyper_parameters"], path, left_out)


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
