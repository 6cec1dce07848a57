"""CheckpointUploads: which checkpoints a logger uploads, and when."""

import os
from collections.abc import Callable, Mapping
from typing import Any, Literal

Upload = Callable[[Any, str, float | None], None]
"""Uploads a checkpoint of a ModelCheckpoint: its path, and its score or None."""


class CheckpointUploads:
    """Uploads each checkpoint once, as it is saved or when the run ends.

    Args:
        log_model: ``all`` for each as it is saved, True for those that are kept at the end, which
            are all if ``save_top_k`` is -1, False for none.
    """

    def __init__(self, log_model: Literal["all"] | bool) -> None:
        self._log_model = log_model
        self._uploaded: dict[str, float] = {}  # path -> when that had been saved
        self._waiting: dict[int, Any] = {}

    def saved(self, callback: Any, upload: Upload) -> None:
        """Upload what a ModelCheckpoint has saved, or remember to at the end.

        Args:
            callback: the ModelCheckpoint.
            upload: uploads one.
        """
        if self._log_model == "all" or (self._log_model is True and callback.save_top_k == -1):
            self._upload_new(callback, upload)
        elif self._log_model is True:
            self._waiting[id(callback)] = callback

    def upload_waiting(self, upload: Upload) -> None:
        """Upload what waits for the end of the run.

        Args:
            upload: uploads one.
        """
        for callback in self._waiting.values():
            self._upload_new(callback, upload)

    def _upload_new(self, callback: Any, upload: Upload) -> None:
        for when, path, score in new_checkpoints(callback, self._uploaded):
            upload(callback, path, score)
            self._uploaded[path] = when

    def __getstate__(self) -> dict[str, Any]:
        """Leave out callbacks."""
        return {**self.__dict__, "_waiting": {}}


def new_checkpoints(
    callback: Any, uploaded: Mapping[str, float]
) -> list[tuple[float, str, float | None]]:
    """Return checkpoints of a ModelCheckpoint that are new or newer, the oldest first.

    Args:
        callback: the ModelCheckpoint.
        uploaded: path -> when what was uploaded had been saved.

    Returns:
        For each: when it was saved, its path, its score or None.
    """
    kept: dict[str, Any] = dict(callback.best_k_models)
    if callback.best_model_path:
        kept.setdefault(callback.best_model_path, callback.best_model_score)
    if callback.last_model_path:
        kept.setdefault(callback.last_model_path, callback.current_score)
    found = []
    for path, score in kept.items():
        if not os.path.exists(path) or os.path.islink(path):
            continue
        when = os.path.getmtime(path)
        if uploaded.get(path, -1.0) < when:
            number = score.item() if hasattr(score, "item") else score
            found.append((when, path, number))
    return sorted(found, key=lambda entry: entry[:2])
