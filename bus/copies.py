"""Makes copies and pickles of an object leave out what ties it to a run."""

from typing import Any, ClassVar


class LeavesRunBehind:
    """Copied, deep-copied and pickled without its ties to a run.

    This is done where Python asks an object for its content, so that it holds for ``copy``,
    ``pickle``,
    ``torch.save`` and spawned workers, also if a subclass has its own ``__getstate__``.
    """

    _of_run: ClassVar[tuple[str, ...]] = ()
    """Attributes that belong to a run; a copy has the class's defaults. Base classes add theirs."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(protocol)
        if isinstance(reduced, str) or len(reduced) < 3:
            return reduced
        make, arguments, state, *rest = reduced
        if isinstance(state, tuple):  # with __slots__
            state = tuple(self._without_run(part) for part in state)
        return make, arguments, self._without_run(state), *rest

    def _without_run(self, state: Any) -> Any:
        if not isinstance(state, dict):
            return state
        kinds = type(self).__mro__
        names = {name for kind in kinds for name in vars(kind).get("_of_run", ())}
        return {name: value for name, value in state.items() if name not in names}


class StaysInRun:
    """A part of a run: what refers to it is copied with None instead."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _nothing, ()


def _nothing() -> None:
    return None
