"""ROC and precision-recall curves, exact at every distinct score."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Curves(NamedTuple):
    """Curves of one class against the rest, a point for each distinct score, highest first.

    Attributes:
        false_positive_rate: [points + 1], begins at 0.
        true_positive_rate: [points + 1], begins at 0.
        recall: [points].
        precision: [points].
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    recall: Floats
    precision: Floats

    @property
    def auroc(self) -> float:
        """Area under the ROC curve."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))

    @property
    def average_precision(self) -> float:
        """Precision, averaged over the steps of recall."""
        steps = np.diff(self.recall, prepend=0.0)
        return float(np.sum(steps * self.precision))


def curves_of(scores: Tensor, labels: Tensor, k: int) -> Curves | None:
    """Return the curves of class ``k`` against the rest.

    Args:
        scores: [M, K], probabilities or logits: only their order matters. Ties count together.
        labels: [M] class ids.
        k: the class.

    Returns:
        The curves; None if the class is absent, or alone.
    """
    score: NDArray[Any] = scores[:, k].detach().double().cpu().numpy()
    is_class = (labels == k).cpu().numpy()
    positives = int(is_class.sum())
    negatives = len(is_class) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-score, kind="stable")
    score, is_class = score[order], is_class[order]
    last_of_ties = np.r_[np.flatnonzero(np.diff(score)), len(score) - 1]
    true = np.cumsum(is_class)[last_of_ties].astype(np.float64)
    false = last_of_ties + 1 - true
    return Curves(
        false_positive_rate=np.r_[0.0, false / negatives],
        true_positive_rate=np.r_[0.0, true / positives],
        recall=true / positives,
        precision=true / (true + false),
    )
