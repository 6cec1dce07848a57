"""KPIs of a classifier of event streams, as numbers and as figures.

Figures are returned, never shown.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import nightbus as nb
from examples.event_classification.curves import Curves, curves_of
from examples.event_classification.errors import ClassListError
from examples.event_classification.plotting import mark_classes, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNLABELLED = -1
PICTURES = 16  # of a recording, side by side


def get_1st_nonzeros(tensor: Tensor) -> Tensor:
    """Return where the first nonzero item along the last axis is.

    Args:
        tensor: [..., L] of any dtype, L at least 1.

    Returns:
        int64 [...]: the index; L - 1 if all are zero.

    Raises:
        UsageError: L is 0.
    """
    if tensor.shape[-1] == 0:
        raise nb.UsageError("get_1st_nonzeros needs at least one item along the last axis")
    is_hit = tensor != 0
    first = is_hit.int().argmax(dim=-1)
    return torch.where(is_hit.any(dim=-1), first, tensor.shape[-1] - 1)


def calculate_time_to_prediction(
    pred_seq: Sequence[Tensor], label_seq: Sequence[Tensor], delta_t: int = 10000
) -> tuple[list[int], "Figure"]:
    """Return how long each sample took to be classified right for the first time.

    A sample that is right in its first bin has 0. One that is never right has the time of its last
    bin, so that a constant classifier looks slow, not fast; the figure counts these apart.

    Args:
        pred_seq: for each sample, [bins] predicted class ids.
        label_seq: for each sample, [bins] true class ids.
        delta_t: duration of a bin, in us.

    Returns:
        The time of each sample in us, and a histogram of them.

    Raises:
        UsageError: a sample is empty, or predictions and labels differ in number.
    """
    if len(pred_seq) != len(label_seq):
        raise nb.UsageError(f"{len(pred_seq)} samples are predicted, and {len(label_seq)} labelled")
    times, is_never = [], []
    for preds, labels in zip(pred_seq, label_seq, strict=True):
        if len(preds) != len(labels) or len(preds) == 0:
            raise nb.UsageError(
                f"a sample has {len(preds)} predictions and {len(labels)} labels; "
                "expected as many of each, and at least one"
            )
        is_right = preds == labels
        times.append(int(get_1st_nonzeros(is_right)) * delta_t)
        is_never.append(not bool(is_right.any()))
    return times, _histogram(np.array(times) / 1000, np.array(is_never, bool), delta_t / 1000)


def _histogram(times_ms: Any, is_never: Any, bin_ms: float) -> "Figure":
    figure = new_figure(5, 3.5)
    axes = figure.subplots()
    if len(times_ms):
        edges = (np.arange(times_ms.max() / bin_ms + 2) - 0.5) * bin_ms
        axes.hist(
            [times_ms[~is_never], times_ms[is_never]],
            bins=edges.tolist(),
            stacked=True,
            color=["tab:blue", "tab:red"],
            label=["right", "never right"],
        )
        axes.legend(fontsize=8)
        axes.set_title(
            f"mean {times_ms.mean():.0f} ms, median {np.median(times_ms):.0f} ms, "
            f"never right: {is_never.sum()} of {len(times_ms)}",
            fontsize=9,
        )
    axes.set(xlabel="time to the first right prediction (ms)", ylabel="samples")
    return figure


def evaluate_preds_seq(
    preds_seq: Sequence[Sequence[Tensor]],
    labels_seq: Sequence[Sequence[Tensor]],
    res_per_recording: Mapping[str, Mapping[str, Any]],
    hparams: Mapping[str, Any],
    latency_seq: Sequence[int],
    limit: int = 8,
) -> dict[str, "Figure"]:
    """Draw the recordings in which a sample took longest to be classified right.

    Args:
        preds_seq: for each recording, for each of its samples, [bins] predicted class ids.
        labels_seq: the same of true class ids.
        res_per_recording: path -> ``ts`` [T], the end of each bin in us; ``preds`` [T];
            ``labels`` [T], -1 where there is none; ``image`` [T, H, W], from -1 to 1.
        hparams: has ``classes``, the class names.
        latency_seq: the time to prediction of each sample in us, in the same order.
        limit: number of recordings.

    Returns:
        path -> figure, slowest first: the events above, below them the true class as a band and
        the predictions as dots, wrong ones as crosses.

    Raises:
        UsageError: the arguments differ in the number of recordings or samples.
    """
    counts = [len(samples) for samples in preds_seq]
    expected = [len(samples) for samples in labels_seq]
    if counts != expected or len(counts) != len(res_per_recording):
        raise nb.UsageError("predictions, labels and recordings do not belong together")
    if sum(counts) != len(latency_seq):
        raise nb.UsageError(f"{sum(counts)} samples, and {len(latency_seq)} times to prediction")
    times = iter(latency_seq)
    worst = [max(islice(times, n), default=0) for n in counts]
    paths = list(res_per_recording)
    slowest = sorted(range(len(paths)), key=lambda i: (-worst[i], paths[i]))[:limit]
    names = list(hparams["classes"])
    return {paths[i]: _recording(paths[i], res_per_recording[paths[i]], names) for i in slowest}


def _recording(path: str, result: Mapping[str, Any], names: list[str]) -> "Figure":
    figure = new_figure(9, 3.5)
    above, below = figure.subplots(2, 1, height_ratios=[1, 1.6])
    images = np.asarray(result["image"])
    shown = np.linspace(0, len(images) - 1, min(PICTURES, len(images))).astype(int)
    above.imshow(np.concatenate(images[shown], axis=1), cmap="gray", vmin=-1, vmax=1)
    above.axis("off")
    above.set_title("/".join(Path(path).parts[-2:]), fontsize=8)

    ms = np.asarray(result["ts"]) / 1000
    preds, labels = np.asarray(result["preds"]), np.asarray(result["labels"])
    true = np.where(labels == UNLABELLED, np.nan, labels)
    is_wrong = (labels != UNLABELLED) & (preds != labels)
    below.plot(ms, true, lw=6, alpha=0.3, label="true", solid_capstyle="butt")
    below.plot(ms[~is_wrong], preds[~is_wrong], ".", color="tab:green", label="predicted")
    below.plot(ms[is_wrong], preds[is_wrong], "x", color="tab:red", label="wrong")
    below.set(xlabel="ms", xlim=(0, ms[-1]), ylim=(-0.5, len(names) - 0.5))
    below.set_yticks(range(len(names)), names)
    below.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def confusion_matrix(preds: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Count what was predicted for each true class.

    Args:
        preds: [M] class ids.
        labels: [M] class ids.
        num_classes: K.

    Returns:
        int64 [K, K]: rows are true, columns predicted.
    """
    places = labels * num_classes + preds
    return torch.bincount(places, minlength=num_classes**2).reshape(num_classes, num_classes)


def plot_cm(preds_all: Tensor, labels_all: Tensor, labels: Sequence[str]) -> "Figure":
    """Draw the confusion matrix and, with its diagonal masked, the error map.

    Args:
        preds_all: [M] class ids, or [M, K] scores, of which the highest counts.
        labels_all: [M] true class ids.
        labels: the K class names.

    Returns:
        Left the matrix, as shares of each row; right the errors, as counts.

    Raises:
        ClassListError: a class id has no name.
    """
    names = list(map(str, labels))
    preds = preds_all.argmax(dim=-1) if preds_all.dim() > labels_all.dim() else preds_all
    _check_ids(torch.cat([preds, labels_all]), names)
    counts = confusion_matrix(preds, labels_all, len(names)).numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    errors = np.ma.array(counts, mask=np.eye(len(names), dtype=bool))
    figure = new_figure(10, 4.5)
    left, right = figure.subplots(1, 2)
    _matrix(left, "confusion matrix (share of the true class)", shares, "Blues", "{:.2f}", names)
    _matrix(right, "error map (number of bins)", errors, "Reds", "{:.0f}", names)
    return figure


def _matrix(axes: Any, title: str, values: Any, colours: str, form: str, names: list[str]) -> None:
    largest = max(float(values.max() or 0), 1e-9)
    axes.imshow(values, cmap=colours, vmin=0, vmax=largest)
    axes.set(title=title, xlabel="predicted", ylabel="true")
    mark_classes(axes, names)
    for (row, column), value in np.ndenumerate(np.ma.filled(values.astype(float), 0.0)):
        if value:
            colour = "white" if value > 0.6 * largest else "black"
            text = form.format(value)
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


def plot_roc(
    preds_all: Tensor, labels_all: Tensor, labels: Sequence[str]
) -> tuple[dict[str, float], "Figure"]:
    """Draw the ROC curve of each class against the rest.

    Args:
        preds_all: [M, K], probabilities or logits: only their order matters.
        labels_all: [M] true class ids.
        labels: the K class names.

    Returns:
        Class name -> AUROC, NaN and no curve where the class is absent or alone; and the figure.

    Raises:
        ClassListError: the scores are of another number of classes, or an id has no name.
    """
    found = _curves(preds_all, labels_all, labels)
    areas = {name: each.auroc if each else float("nan") for name, each in found.items()}
    figure = new_figure(5, 4.5)
    axes = figure.subplots()
    for name, each in found.items():
        if each is not None:
            text = f"{name}: AUROC {areas[name]:.3f}"
            axes.plot(each.false_positive_rate, each.true_positive_rate, label=text, lw=1)
    _finish(axes, "ROC, one against the rest", "false positive rate", "true positive rate", "right")
    return areas, figure


def plot_precision_recall_curve(
    preds_all: Tensor, labels_all: Tensor, labels: Sequence[str]
) -> tuple[dict[str, float], "Figure"]:
    """Draw precision over recall of each class against the rest.

    Args:
        preds_all: [M, K], probabilities or logits: only their order matters.
        labels_all: [M] true class ids.
        labels: the K class names.

    Returns:
        Class name -> average precision, NaN and no curve where the class is absent or alone; and
        the figure.

    Raises:
        ClassListError: the scores are of another number of classes, or an id has no name.
    """
    found = _curves(preds_all, labels_all, labels)
    means = {name: each.average_precision if each else float("nan") for name, each in found.items()}
    figure = new_figure(5, 4.5)
    axes = figure.subplots()
    for name, each in found.items():
        if each is not None:
            axes.plot(each.recall, each.precision, label=f"{name}: AP {means[name]:.3f}", lw=1)
    _finish(axes, "precision and recall, one against the rest", "recall", "precision", "left")
    return means, figure


def _curves(scores: Tensor, labels_all: Tensor, labels: Sequence[str]) -> dict[str, Curves | None]:
    names = list(map(str, labels))
    if scores.dim() != 2 or scores.shape[1] != len(names):
        shape = tuple(scores.shape)
        raise ClassListError(f"scores of shape {shape} do not fit {len(names)} class names")
    _check_ids(labels_all, names)
    return {name: curves_of(scores, labels_all, k) for k, name in enumerate(names)}


def _check_ids(ids: Tensor, names: list[str]) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(names):
        raise ClassListError(
            f"class ids from {int(ids.min())} to {int(ids.max())} do not fit {len(names)} class "
            "names; leave bins without a label out"
        )


def _finish(axes: Any, title: str, x: str, y: str, side: str) -> None:
    axes.set(title=title, xlabel=x, ylabel=y, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    if axes.lines:
        axes.legend(fontsize=7, loc=f"lower {side}")


def unpack_metrics_dict(
    metrics_per_category: Mapping[str, Any], label: Sequence[str]
) -> dict[str, float]:
    """Name each class's value of metrics that were computed per class.

    Args:
        metrics_per_category: name -> a value for each class, or one value for all.
        label: the class names.

    Returns:
        ``name/class`` -> value; a single value stays under its name.

    Raises:
        ClassListError: a metric has another number of values.
    """
    unpacked: dict[str, float] = {}
    for name, values in metrics_per_category.items():
        tensor = torch.as_tensor(values)
        if tensor.dim() == 0:
            unpacked[name] = float(tensor)
            continue
        if len(tensor) != len(label):
            raise ClassListError(f"{name} has {len(tensor)} values for {len(label)} class names")
        unpacked |= {f"{name}/{one}": float(v) for one, v in zip(label, tensor, strict=True)}
    return unpacked
