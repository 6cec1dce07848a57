"""What a classifier said of whole recordings, put together from the outputs of its steps."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from examples.event_classification.streams import UNLABELLED


class Showing(NamedTuple):
    """One object that a recording shows: its bins with one track id.

    Attributes:
        path: of the recording.
        track_id: which object.
        preds: int64 [bins], predicted class ids.
        labels: int64 [bins], true class ids.
    """

    path: str
    track_id: int
    preds: Tensor
    labels: Tensor

    @property
    def is_never_right(self) -> bool:
        """Return whether no bin is predicted right."""
        return not bool((self.preds == self.labels).any())

    @property
    def vote_is_right(self) -> bool:
        """Return whether the class predicted most often is the true one."""
        return bool(self.preds.mode().values == self.labels[0])


class Result(NamedTuple):
    """What was said of a recording.

    Attributes:
        path: of the recording.
        logits: float32 [bins, K].
        labels: int64 [bins], -1 where there is none.
        track_ids: int64 [bins], -1 where there is no label.
        images: int8 [bins, H, W], ON above 0, in 127ths.
    """

    path: str
    logits: Tensor
    labels: Tensor
    track_ids: Tensor
    images: Tensor

    @property
    def preds(self) -> Tensor:
        """Predicted class ids, int64 [bins]."""
        return self.logits.argmax(dim=-1)

    def showings(self) -> list[Showing]:
        """Return the objects that the recording shows, by their track id.

        Bins without a label between two bins of one track do not cut it.
        """
        preds = self.preds
        found = []
        for track_id in self.track_ids[self.track_ids != UNLABELLED].unique().tolist():
            mine = self.track_ids == track_id
            found.append(Showing(self.path, track_id, preds[mine], self.labels[mine]))
        return found


class Results:
    """All that was said in an epoch of validation or testing.

    Args:
        outputs: of the steps: ``logits`` [T, N, K], ``labels`` and ``track_ids`` [T, N],
            ``images`` [T, N, H, W], ``video_infos``.
        delta_t: duration of a bin, in us.

    Attributes:
        recordings: in the order in which they began.
        delta_t: duration of a bin, in us.
    """

    def __init__(self, outputs: Iterable[Mapping[str, Any]], delta_t: int) -> None:
        self.delta_t = delta_t
        parts: dict[str, list[list[Tensor]]] = {}
        for output in outputs:
            columns = [output[name] for name in ("logits", "labels", "track_ids", "images")]
            for n, (recording, _, duration) in enumerate(output["video_infos"]):
                if recording is not None:
                    bins = duration // delta_t
                    mine = [column[:bins, n].cpu() for column in columns]
                    parts.setdefault(recording.path, []).append(mine)
        self.recordings = [
            Result(path, *(torch.cat(column) for column in zip(*found, strict=True)))
            for path, found in parts.items()
        ]

    def showings(self) -> list[list[Showing]]:
        """Return the showings of each recording."""
        return [result.showings() for result in self.recordings]

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Return logits [M, K] and class ids [M] of all bins that have a label."""
        logits = torch.cat([result.logits for result in self.recordings])
        labels = torch.cat([result.labels for result in self.recordings])
        is_labelled = labels != UNLABELLED
        return logits[is_labelled].float(), labels[is_labelled]

    def loss_and_accuracy(self) -> tuple[float, float]:
        """Return the mean cross entropy and the share of right ones, of bins with a label."""
        logits, labels = self.labelled()
        accuracy = (logits.argmax(dim=-1) == labels).float().mean()
        return float(F.cross_entropy(logits, labels)), float(accuracy)
