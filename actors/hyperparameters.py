"""Hyperparameters: what a module or datamodule was made with, kept for the log and checkpoints."""

import inspect
from argparse import Namespace
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from ..bus.errors import UsageError
from ..bus.redaction import redact_setting
from ..bus.secret_names import is_secret_name


class Hyperparameters(dict[str, Any]):
    """A dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "none"
            raise AttributeError(
                f"there is no hyperparameter {name!r}; there are: {known}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class HyperparametersMixin:
    """``save_hyperparameters`` and ``hparams``."""

    @property
    def hparams(self) -> Hyperparameters:
        """The hyperparameters that were saved."""
        found = self.__dict__.get("_hparams")
        if found is None:
            found = Hyperparameters()
            object.__setattr__(self, "_hparams", found)
        return found

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: str | Iterable[str] = (),
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Keep what ``__init__`` was called with in ``self.hparams``; call it in ``__init__``.

        The log's first event has them, checkpoints keep them, and sinks that show
        hyperparameters get them.

        Args:
            args: names of arguments, to keep only these; or one mapping or Namespace, to keep its
                items instead.
            ignore: names of arguments not to keep.
            frame: where the arguments are; the caller's by default.
            logger: whether the log and sinks get them.

        Raises:
            UsageError: an argument of that name does not exist.
        """
        ignored = {ignore} if isinstance(ignore, str) else set(ignore)
        if frame is None:
            current = inspect.currentframe()
            frame = current.f_back if current else None
        if len(args) == 1 and isinstance(args[0], Mapping | Namespace):
            given = args[0]
            object.__setattr__(self, "_hparams_argument", self._argument_of(frame, given))
            found = dict(given) if isinstance(given, Mapping) else vars(given)
        else:
            found = self._init_arguments(frame)
            unknown = [name for name in args if name not in found]
            if unknown:
                raise UsageError(
                    f"save_hyperparameters({', '.join(map(repr, unknown))}): "
                    f"{type(self).__name__}.__init__ has no such argument; it has "
                    f"{', '.join(found) or 'none'}"
                )
            if args:
                found = {name: found[name] for name in args}
        kept = {name: value for name, value in found.items() if name not in ignored}
        for name in ignored & found.keys():
            if is_secret_name(name):
                redact_setting(name, found[name])  # so that an error's text is recorded without it
        self.hparams.update(kept)
        object.__setattr__(self, "_logs_hparams", logger)

    def _argument_of(self, frame: FrameType | None, given: object) -> str:
        """Which argument of ``__init__`` an object is; empty if none."""
        arguments = self._init_arguments(frame)
        return next((name for name, value in arguments.items() if value is given), "")

    def _init_arguments(self, frame: FrameType | None) -> dict[str, Any]:
        """Arguments of the ``__init__`` that runs in a frame, and of those of the subclasses that
        called it, whose values win.
        """
        found: dict[str, Any] = {}
        while frame is not None and frame.f_code.co_name == "__init__":
            names = inspect.getargvalues(frame)
            if not names.args or names.locals.get(names.args[0]) is not self:
                break
            code = frame.f_code
            keyword_only = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
            found |= {name: names.locals[name] for name in (*names.args[1:], *keyword_only)}
            if names.keywords:
                found |= names.locals[names.keywords]
            frame = frame.f_back
        return found


def restored_arguments(
    kind: type, hparams: Mapping[str, Any], argument: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """What to call a class with, to make again what hyperparameters were saved of.

    Args:
        kind: the class.
        hparams: what was saved.
        argument: the one argument that had them all, if it was so.
        given: by the user, which wins.

    Raises:
        UsageError: an argument is missing.
    """
    parameters = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if argument:
        inner = {k: v for k, v in given.items() if k != argument and k not in parameters}
        outer = {k: v for k, v in given.items() if k in parameters}
        return {argument: Hyperparameters({**hparams, **inner}), **outer}
    known = {k: v for k, v in hparams.items() if takes_any or k in parameters}
    arguments = {**known, **given}
    missing = [
        p.name
        for p in list(parameters.values())[1:]
        if p.default is p.empty
        and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        and p.name not in arguments
    ]
    if missing:
        raise UsageError(
            f"the checkpoint does not say what {kind.__name__} was made with: "
            f"{', '.join(missing)}; give it to load_from_checkpoint, and call "
            "self.save_hyperparameters() in __init__ to have checkpoints keep it"
        )
    return arguments
