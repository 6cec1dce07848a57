"""Recordings as sequences of event tensors, and batches of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from examples.event_classification.errors import RecordingError
from examples.event_classification.event_files import read_events
from examples.event_classification.event_types import Array
from examples.event_classification.hdf5 import read_tensors
from examples.event_classification.labels import Recording, check_labels
from examples.event_classification.preprocess import Bins, channels_of, tensor_of
from examples.event_classification.schedule import Item

LEVELS = 127  # tensors are kept as int8
UNLABELLED = -1

Batch = dict[str, Any]
LoadLabels = Callable[[Recording, int, int, Array], tuple[list[Array], Array]]
Transform = Callable[[Tensor, int], Tensor]


class Reading(NamedTuple):
    """What a slot of a batch reads.

    Attributes:
        inputs: float32 [T, C, H, W].
        labels: int64 [T], -1 where there is none.
        track_ids: int64 [T], -1 where there is no label.
        keep: 1 if it goes on where the slot's last sequence ended, 0 if not.
        info: recording, begin and duration in us; (None, 0, 0) for an empty slot.
    """

    inputs: Tensor
    labels: Tensor
    track_ids: Tensor
    keep: float
    info: tuple[Recording | None, int, int]


class Loaded(NamedTuple):
    """A recording in memory.

    Attributes:
        recording: what is known of it.
        tensor: int8 [bins, C, H, W], in 127ths.
        labels: int64 [bins], -1 where there is none.
        track_ids: int64 [bins], -1 where there is no label.
    """

    recording: Recording
    tensor: Tensor
    labels: Tensor
    track_ids: Tensor


def load_recording(file: Path, delta_t: int, preprocess: str, load_labels: LoadLabels) -> Loaded:
    """Read a recording and its labels, and compute its event tensor.

    Args:
        file: its events or tensors.
        delta_t: duration of a bin, in us.
        preprocess: name of the preprocessing.
        load_labels: ``load_classes`` with its options.

    Raises:
        RecordingError: it is damaged, of another format, or was preprocessed with other bins.
    """
    tensor, height, width = _tensor(file, delta_t, preprocess)
    recording = Recording(str(file), len(tensor) * delta_t, height, width)
    check_labels(recording)
    rows, is_labelled = load_labels(recording, 0, recording.duration, tensor)
    labels = torch.full((len(tensor),), UNLABELLED)
    track_ids = labels.clone()
    for k in np.flatnonzero(is_labelled):
        labels[k] = int(rows[k]["class_id"][-1])
        track_ids[k] = int(rows[k]["track_id"][-1])
    quantised = torch.from_numpy(np.rint(tensor * LEVELS).astype(np.int8))
    return Loaded(recording, quantised, labels, track_ids)


def _tensor(file: Path, delta_t: int, preprocess: str) -> tuple[Array, int, int]:
    if file.suffix == ".h5":
        found = read_tensors(file)
        if found.delta_t not in (0, delta_t):
            raise RecordingError(
                f"{file} has bins of {found.delta_t} us; use --delta-t {found.delta_t}"
            )
        channels, height, width = found.tensor.shape[1:]
        if channels != channels_of(preprocess):
            raise RecordingError(
                f"{file} has {channels} channels, and {preprocess} makes "
                f"{channels_of(preprocess)}; use the --preprocess that it was made with"
            )
        return found.tensor, height, width
    found_events = read_events(file)
    events = found_events.events
    height = found_events.height or int(events["y"].max()) + 1
    width = found_events.width or int(events["x"].max()) + 1
    bins = Bins(int(events["t"][-1]) // delta_t + 1, delta_t, height, width)
    try:
        return tensor_of(preprocess, events, bins), height, width
    except RecordingError as error:
        raise RecordingError(f"{file}: {error}") from None


class Recordings(Dataset[Reading]):
    """Recordings whose tensors are in memory, read by Items.

    Args:
        recordings: at least one, all of one size.
        num_tbins: bins of a sequence.
        transform: changes a sequence, given the recording's seed.

    Raises:
        RecordingError: their tensors differ in size.
    """

    def __init__(
        self, recordings: Sequence[Loaded], num_tbins: int, transform: Transform | None = None
    ) -> None:
        self.recordings = list(recordings)
        self.num_tbins = num_tbins
        self.transform = transform
        first, *others = self.recordings
        self.shape = tuple(first.tensor.shape[1:])
        for other in others:
            if tuple(other.tensor.shape[1:]) != self.shape:
                raise RecordingError(
                    f"{other.recording.path} has images of {tuple(other.tensor.shape[1:])}, and "
                    f"{first.recording.path} of {self.shape}; recordings of one sensor are needed"
                )

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, item: Item) -> Reading:
        inputs = torch.zeros(self.num_tbins, *self.shape)
        labels = torch.full((self.num_tbins,), UNLABELLED)
        track_ids = labels.clone()
        if item.recording < 0:
            return Reading(inputs, labels, track_ids, 0.0, (None, 0, 0))
        recording, tensor, all_labels, all_track_ids = self.recordings[item.recording]
        delta_t = recording.duration // len(tensor)
        begin = item.start // delta_t
        part = tensor[begin : begin + self.num_tbins].float() / LEVELS
        bins = len(part)
        if self.transform is not None and item.seed:
            part = self.transform(part, item.seed)
        inputs[:bins] = part
        labels[:bins] = all_labels[begin : begin + bins]
        track_ids[:bins] = all_track_ids[begin : begin + bins]
        info = (recording, item.start, bins * delta_t)
        return Reading(inputs, labels, track_ids, 0.0 if item.is_first else 1.0, info)


def image_of(inputs: Tensor) -> Tensor:
    """Return what an event tensor shows as one image: ON above 0, OFF below.

    Args:
        inputs: [..., C, H, W], whatever the preprocessing.

    Returns:
        [..., H, W], from -1 to 1.
    """
    if inputs.shape[-3] == 1:
        return inputs[..., 0, :, :]
    on, off = inputs[..., 1::2, :, :], inputs[..., ::2, :, :]
    return (on.sum(dim=-3) - off.sum(dim=-3)).clip(-1, 1)


def collate(sequences: Sequence[Reading]) -> Batch:
    """Put the sequences of all slots into a batch.

    Args:
        sequences: of the N slots.

    Returns:
        ``inputs`` float32 [T, N, C, H, W]; ``labels`` and ``track_ids`` int64 [T, N], -1 where
        there is no label; ``frame_is_labeled`` bool [T, N]; ``mask_keep_memory`` float32
        [N, 1, 1, 1], 1 where a slot goes on where it ended; ``video_infos``, for each slot its
        recording, begin and duration in us.
    """
    inputs, labels, track_ids, keep, infos = zip(*sequences, strict=True)
    all_labels = torch.stack(labels, dim=1)
    return {
        "inputs": torch.stack(inputs, dim=1),
        "labels": all_labels,
        "track_ids": torch.stack(track_ids, dim=1),
        "frame_is_labeled": all_labels != UNLABELLED,
        "mask_keep_memory": torch.tensor(keep).view(-1, 1, 1, 1),
        "video_infos": list(infos),
    }
