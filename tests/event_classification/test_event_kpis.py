"""KPIs of event classification: reference values worked out by hand, and other libraries'."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

from examples.event_classification.curves import curves_of
from examples.event_classification.errors import ClassListError
from examples.event_classification.utils_metrics import (
    calculate_time_to_prediction,
    confusion_matrix,
    evaluate_preds_seq,
    get_1st_nonzeros,
    plot_cm,
    plot_precision_recall_curve,
    plot_roc,
    unpack_metrics_dict,
)
from nightbus import UsageError

NAMES = ["rock", "paper", "scissors"]
SCORES = torch.tensor(
    [
        [0.7, 0.2, 0.1],
        [0.6, 0.3, 0.1],
        [0.2, 0.5, 0.3],
        [0.45, 0.35, 0.2],
        [0.1, 0.8, 0.1],
        [0.3, 0.6, 0.1],
        [0.2, 0.2, 0.6],
        [0.1, 0.3, 0.6],
        [0.5, 0.1, 0.4],
        [0.3, 0.3, 0.4],
        [0.25, 0.7, 0.05],
        [0.05, 0.15, 0.8],
    ]
)
TRUE = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2, 2, 1, 1, 2])
PREDICTED = SCORES.argmax(dim=1)
SAMPLES = [
    (torch.tensor([1, 1, 2, 2]), 2),
    (torch.tensor([0, 0, 0]), 0),
    (torch.tensor([3, 0, 1, 1, 1]), 2),
    (torch.tensor([2]), 2),
]


def random_frames(classes: int, levels: int | None) -> tuple[Tensor, Tensor]:
    """5,000 frames; with levels, their scores have many ties."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(5000, classes, generator=generator, dtype=torch.float64)
    if levels is not None:
        scores = (scores * levels).round() / levels
    return scores, torch.randint(0, classes, (5000,), generator=generator)


def test_the_first_nonzero_is_found_along_the_last_axis_and_else_the_last_index() -> None:
    rows = torch.tensor([[0, 0, 3, 1], [5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, -1]])

    assert get_1st_nonzeros(rows).tolist() == [2, 0, 3, 3]
    assert get_1st_nonzeros(rows.reshape(2, 2, 4)).tolist() == [[2, 0], [3, 3]]
    assert get_1st_nonzeros(rows.bool()).dtype == torch.int64
    assert get_1st_nonzeros(rows[0].double()).item() == 2


def test_nothing_is_first_in_an_empty_axis() -> None:
    with pytest.raises(UsageError, match="at least one item"):
        get_1st_nonzeros(torch.zeros(3, 0))


@pytest.mark.parametrize(
    ("delta_t", "times"),
    [(10_000, [20_000, 0, 40_000, 0]), (50_000, [100_000, 0, 200_000, 0])],
)
def test_time_to_prediction_counts_bins_and_one_never_right_has_its_last(
    delta_t: int, times: list[int]
) -> None:
    preds = [predicted for predicted, _ in SAMPLES]
    labels = [torch.full_like(predicted, true) for predicted, true in SAMPLES]

    found, figure = calculate_time_to_prediction(preds, labels, delta_t)

    assert found == times
    title = figure.axes[0].get_title()
    assert f"mean {sum(times) / 4000:.0f} ms" in title
    assert "never right: 1 of 4" in title


def test_samples_without_bins_or_with_other_labels_are_refused() -> None:
    one, two = torch.tensor([1]), torch.tensor([1, 1])

    with pytest.raises(UsageError, match="2 predictions and 1 labels"):
        calculate_time_to_prediction([two], [one])
    with pytest.raises(UsageError, match="0 predictions and 0 labels"):
        calculate_time_to_prediction([one[:0]], [one[:0]])
    with pytest.raises(UsageError, match="1 samples are predicted, and 2 labelled"):
        calculate_time_to_prediction([one], [one, one])


def test_the_confusion_matrix_has_a_row_for_each_true_class() -> None:
    counts = confusion_matrix(PREDICTED, TRUE, 3)

    assert counts.tolist() == [[3, 2, 0], [0, 2, 1], [1, 0, 3]]
    assert torch.equal(counts, MulticlassConfusionMatrix(3)(PREDICTED, TRUE))


@pytest.mark.parametrize("preds", [SCORES, PREDICTED], ids=["scores", "class ids"])
def test_the_error_map_is_the_confusion_matrix_without_its_diagonal(preds: Tensor) -> None:
    left, right = plot_cm(preds, TRUE, NAMES).axes[:2]

    shares, errors = left.images[0].get_array(), right.images[0].get_array()
    assert np.allclose(np.asarray(shares).sum(axis=1), 1)
    assert isinstance(errors, np.ma.MaskedArray)
    assert np.ma.filled(errors, 0).tolist() == [[0, 2, 0], [0, 0, 1], [1, 0, 0]]
    assert errors.mask.tolist() == np.eye(3, dtype=bool).tolist()


def test_a_class_without_samples_has_a_row_of_zeros() -> None:
    left = plot_cm(torch.tensor([0, 1]), torch.tensor([0, 0]), NAMES).axes[0]

    assert np.asarray(left.images[0].get_array()).tolist() == [[0.5, 0.5, 0], [0] * 3, [0] * 3]


def test_class_ids_without_a_name_are_refused() -> None:
    with pytest.raises(ClassListError, match="class ids from -1 to 2 do not fit 3"):
        plot_cm(torch.tensor([2, 1]), torch.tensor([-1, 0]), NAMES)
    with pytest.raises(ClassListError, match=re.escape("scores of shape (12, 3) do not fit 2")):
        plot_roc(SCORES, TRUE, NAMES[:2])


def test_areas_and_average_precisions_are_those_worked_out_by_hand() -> None:
    areas, roc = plot_roc(SCORES, TRUE, NAMES)
    means, curve = plot_precision_recall_curve(SCORES, TRUE, NAMES)

    assert list(areas.values()) == pytest.approx([0.685714, 0.777778, 0.984375], abs=1e-6)
    assert sum(areas.values()) / 3 == pytest.approx(0.815956, abs=1e-6)
    assert list(means.values()) == pytest.approx([0.729798, 0.513889, 0.95], abs=1e-6)
    assert len(roc.axes[0].lines) == len(curve.axes[0].lines) == 3


def test_the_roc_has_a_point_for_each_distinct_score() -> None:
    rock, scissors = curves_of(SCORES, TRUE, 0), curves_of(SCORES, TRUE, 2)

    assert rock is not None
    assert scissors is not None
    sevenths = [0, 0, 0, 1, 1, 3, 4, 5, 6, 7]
    assert rock.false_positive_rate == pytest.approx(np.array(sevenths) / 7)
    assert rock.true_positive_rate == pytest.approx([0, 0.2, 0.4, 0.4, 0.6, 0.6, 0.6, 0.8, 1, 1])
    assert scissors.false_positive_rate == pytest.approx([0, 0, 0, 1 / 8, 1 / 4, 3 / 8, 7 / 8, 1])
    assert scissors.true_positive_rate == pytest.approx([0, 0.25, 0.75, 1, 1, 1, 1, 1])


def test_a_class_that_is_absent_or_alone_has_no_area_and_no_curve() -> None:
    without_scissors = torch.where(TRUE == 2, 1, TRUE)

    areas, figure = plot_roc(SCORES, without_scissors, NAMES)
    alone, _ = plot_precision_recall_curve(SCORES, torch.zeros_like(TRUE), NAMES)

    assert [areas["rock"], areas["paper"]] == pytest.approx([0.685714, 0.328571], abs=1e-6)
    assert math.isnan(areas["scissors"])
    assert len(figure.axes[0].lines) == 2
    assert all(map(math.isnan, alone.values()))


@pytest.mark.parametrize("levels", [None, 20], ids=["random", "tied"])
def test_curves_agree_with_scikit_learn_and_torchmetrics(levels: int | None) -> None:
    scores, labels = random_frames(10, levels)
    names = [str(k) for k in range(10)]

    areas, _ = plot_roc(scores, labels, names)
    means, _ = plot_precision_recall_curve(scores, labels, names)

    of_sklearn = [sk.roc_auc_score(labels == k, scores[:, k]) for k in range(10)]
    assert list(areas.values()) == pytest.approx(of_sklearn, abs=1e-9)
    of_sklearn = [sk.average_precision_score(labels == k, scores[:, k]) for k in range(10)]
    assert list(means.values()) == pytest.approx(of_sklearn, abs=1e-9)
    # torchmetrics computes these in float32
    theirs = MulticlassAUROC(10, average=None)(scores, labels).tolist()
    assert list(areas.values()) == pytest.approx(theirs, abs=1e-5)
    theirs = MulticlassAveragePrecision(10, average=None)(scores, labels).tolist()
    assert list(means.values()) == pytest.approx(theirs, abs=1e-5)
    curves = curves_of(scores, labels, 3)
    assert curves is not None
    fpr, tpr, _ = sk.roc_curve(labels == 3, scores[:, 3], drop_intermediate=False)
    precision, recall, _ = sk.precision_recall_curve(labels == 3, scores[:, 3])
    assert curves.false_positive_rate == pytest.approx(fpr)
    assert curves.true_positive_rate == pytest.approx(tpr)
    assert curves.precision == pytest.approx(precision[:-1][::-1])
    assert curves.recall == pytest.approx(recall[:-1][::-1])


def test_values_of_classes_are_named_by_class_and_others_stay() -> None:
    per_class = {
        "precision": MulticlassPrecision(3, average=None)(PREDICTED, TRUE),
        "recall": MulticlassRecall(3, average=None)(PREDICTED, TRUE),
        "f1": MulticlassF1Score(3, average=None)(PREDICTED, TRUE),
        "accuracy": (PREDICTED == TRUE).float().mean(),
    }

    found = unpack_metrics_dict(per_class, NAMES)

    assert found.pop("accuracy") == pytest.approx(0.666667, abs=1e-6)
    assert list(found) == [f"{metric}/{name}" for metric in list(per_class)[:3] for name in NAMES]
    expected = [0.75, 0.5, 0.75, 0.6, 2 / 3, 0.75, 2 / 3, 0.571429, 0.75]
    assert list(found.values()) == pytest.approx(expected, abs=1e-6)


def test_values_for_another_number_of_classes_are_refused() -> None:
    with pytest.raises(ClassListError, match="recall has 2 values for 3 class names"):
        unpack_metrics_dict({"recall": torch.rand(2)}, NAMES)


def results(preds: list[int], labels: list[int]) -> dict[str, Any]:
    bins = len(preds)
    ts = [20_000 * (k + 1) for k in range(bins)]
    return {"ts": ts, "preds": preds, "labels": labels, "image": np.zeros((bins, 4, 4))}


def test_the_slowest_recordings_are_drawn_first_with_wrong_bins_marked() -> None:
    recordings = {"quick": results([1, 1], [1, 1]), "slow": results([0, 1, 2], [1, 1, -1])}
    preds = [[torch.tensor([1, 1])], [torch.tensor([0, 1])]]
    labels = [[torch.tensor([1, 1])], [torch.tensor([1, 1])]]

    figures = evaluate_preds_seq(preds, labels, recordings, {"classes": NAMES}, [0, 20_000])

    assert list(figures) == ["slow", "quick"]
    true, right, wrong = figures["slow"].axes[1].lines
    assert list(np.asarray(wrong.get_xdata())) == [20.0]
    assert list(np.asarray(right.get_xdata())) == [40.0, 60.0]  # what has no label is not wrong
    assert np.isnan(np.asarray(true.get_ydata(), float)[-1])
    only = evaluate_preds_seq(preds, labels, recordings, {"classes": NAMES}, [0, 20_000], limit=1)
    assert list(only) == ["slow"]


def test_results_that_do_not_belong_together_are_refused() -> None:
    recordings = {"one": results([1], [1])}
    sample = [[torch.tensor([1])]]

    with pytest.raises(UsageError, match="do not belong together"):
        evaluate_preds_seq(sample, [[]], recordings, {"classes": NAMES}, [0])
    with pytest.raises(UsageError, match="1 samples, and 2 times"):
        evaluate_preds_seq(sample, sample, recordings, {"classes": NAMES}, [0, 0])
