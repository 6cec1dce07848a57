"""Which checkpoints a logger has not uploaded yet."""

import os
from collections.abc import Mapping
from typing import Any


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
