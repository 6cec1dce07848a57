"""KPIs of an epoch of validation or testing: as metrics, as a table, as figures."""

from argparse import Namespace
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from examples.event_classification.results import Result, Results, Showing
from examples.event_classification.streams import LEVELS
from examples.event_classification.utils_metrics import (
    calculate_time_to_prediction,
    confusion_matrix,
    evaluate_preds_seq,
    get_1st_nonzeros,
    plot_cm,
    plot_precision_recall_curve,
    plot_roc,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PREDICTIONS = ["recording", "showing", "true", "predicted", "bin_us"]
TABLE_CHARACTERS = 100_000  # in one table of predictions: a run's log takes 256 KiB


def times_to_prediction(showings: list[Showing], delta_t: int) -> list[int]:
    """Return how long each showing took to be predicted right, in us.

    The same times as ``calculate_time_to_prediction`` returns, without its figure.

    Args:
        showings: the showings.
        delta_t: duration of a bin, in us.
    """
    return [int(get_1st_nonzeros(each.preds == each.labels)) * delta_t for each in showings]


def metrics_of(results: Results) -> dict[str, float]:
    """Return the KPIs that are one number: without any showing, those of bins alone.

    ``loss`` and ``acc`` are of bins with a label; ``showings_acc`` of showings, by the class
    predicted most often; ``never_right`` is the share of showings without a right bin.
    """
    loss, accuracy = results.loss_and_accuracy()
    found = {"loss": loss, "acc": accuracy}
    showings = [each for some in results.showings() for each in some]
    if showings:
        times_ms = np.array(times_to_prediction(showings, results.delta_t)) / 1000
        found |= {
            "showings_acc": float(np.mean([each.vote_is_right for each in showings])),
            "time_to_prediction_ms": float(times_ms.mean()),
            "median_time_to_prediction_ms": float(np.median(times_ms)),
            "never_right": float(np.mean([each.is_never_right for each in showings])),
        }
    return found


def metrics_per_class(results: Results, num_classes: int) -> dict[str, torch.Tensor]:
    """Return precision, recall and F1 of bins: a value for each class, NaN where undefined."""
    logits, labels = results.labelled()
    counts = confusion_matrix(logits.argmax(dim=-1), labels, num_classes).double()
    right, predicted, true = counts.diagonal(), counts.sum(dim=0), counts.sum(dim=1)
    return {
        "precision": right / predicted,
        "recall": right / true,
        "f1": 2 * right / (predicted + true),
    }


def prediction_rows(results: Results) -> Iterator[list[list[Any]]]:
    """Return rows of ``PREDICTIONS`` in parts small enough for a table of the log.

    ``predicted`` holds the class id of each bin, with spaces between them.
    """
    part: list[list[Any]] = []
    length = 0
    for showing in (each for some in results.showings() for each in some):
        predicted = " ".join(map(str, showing.preds.tolist()))
        true = int(showing.labels[0])
        name = Path(showing.path).name
        part.append([name, showing.track_id, true, predicted, results.delta_t])
        length += len(predicted) + len(name) + 40
        if length > TABLE_CHARACTERS:
            yield part
            part, length = [], 0
    if part:
        yield part


def figures_of(results: Results, hparams: Namespace, slowest: int) -> dict[str, "Figure"]:
    """Draw the KPIs.

    Args:
        results: what was said.
        hparams: has ``classes``, the class names.
        slowest: number of recordings to draw, those whose time to prediction is longest.

    Returns:
        Name -> figure: ``confusion``, ``roc``, ``precision_recall``, ``time_to_prediction``,
        ``slowest_1`` and so on.
    """
    logits, labels = results.labelled()
    names = list(hparams.classes)
    showings = results.showings()
    preds = [[each.preds for each in some] for some in showings]
    true = [[each.labels for each in some] for some in showings]
    times_us, histogram = calculate_time_to_prediction(
        list(chain(*preds)), list(chain(*true)), results.delta_t
    )
    by_path = {result.path: _as_drawn(result, results.delta_t) for result in results.recordings}
    drawn = evaluate_preds_seq(preds, true, by_path, {"classes": names}, times_us, slowest)
    return {
        "confusion": plot_cm(logits, labels, names),
        "roc": plot_roc(logits, labels, names)[1],
        "precision_recall": plot_precision_recall_curve(logits, labels, names)[1],
        "time_to_prediction": histogram,
        **{f"slowest_{number}": figure for number, figure in enumerate(drawn.values(), 1)},
    }


def _as_drawn(result: Result, delta_t: int) -> dict[str, Any]:
    return {
        "ts": delta_t * np.arange(1, len(result.labels) + 1),
        "preds": result.preds.numpy(),
        "labels": result.labels.numpy(),
        "image": result.images.numpy().astype(np.float32) / LEVELS,
    }
