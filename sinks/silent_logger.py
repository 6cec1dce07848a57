"""SilentLogger: takes the place of a logger, and writes nothing."""

from typing import Any


class SilentLogger:
    """``self.logger`` with ``fast_dev_run``: calls on it and on its ``experiment`` do nothing."""

    name = ""
    version = ""
    save_dir = None
    log_dir = None
    root_dir = None

    @property
    def experiment(self) -> "SilentLogger":
        """An object that accepts any call."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _do_nothing

    def __getitem__(self, key: Any) -> "SilentLogger":
        return self

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __iter__(self) -> Any:
        return iter(())


def _do_nothing(*_: Any, **__: Any) -> None: ...
