"""Streams: slots go on where they ended, each label is read once, batches are what they say."""

import json
import shutil
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nightbus as nb
from examples.event_classification.augment import shift_and_zoom
from examples.event_classification.dat import write_dat
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.errors import ClassListError, RecordingError
from examples.event_classification.event_types import EVENT_BBOX, EVENT_CD
from examples.event_classification.schedule import EMPTY, Item, Schedule

Settings = Callable[..., Namespace]
DURATIONS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
LENGTH = 10


def check_that_slots_go_on(plan: list[list[Item]], durations: list[int]) -> None:
    for before, after in pairwise(plan):
        for last, item in zip(before, after, strict=True):
            is_over = last == EMPTY or last.start + LENGTH >= durations[last.recording]
            goes_on = item.recording == last.recording and item.start == last.start + LENGTH
            assert item.is_first if is_over else goes_on and not item.is_first


@settings(max_examples=150, deadline=None)
@given(durations=DURATIONS, slots=st.integers(1, 6))
def test_evaluation_reads_each_sequence_once_and_knows_how_many_batches(
    durations: list[int], slots: int
) -> None:
    schedule = Schedule(durations, LENGTH, slots, shuffle=False)

    plan = list(schedule)

    read = Counter(
        (item.recording, item.start) for batch in plan for item in batch if item != EMPTY
    )
    expected = [(n, start) for n, end in enumerate(durations) for start in range(0, end, LENGTH)]
    assert read == Counter(expected)
    assert len(plan) == len(schedule)
    check_that_slots_go_on(plan, durations)


@settings(max_examples=150, deadline=None)
@given(durations=DURATIONS, slots=st.integers(1, 6), seed=st.integers(0, 1000))
def test_training_reads_every_sequence_leaves_no_slot_empty_and_always_has_as_many_batches(
    durations: list[int], slots: int, seed: int
) -> None:
    schedule = Schedule(durations, LENGTH, slots, shuffle=True, seed=seed)

    plan = list(schedule)

    read = {(item.recording, item.start) for batch in plan for item in batch}
    assert read == {(n, t) for n, end in enumerate(durations) for t in range(0, end, LENGTH)}
    assert len(plan) == len(schedule) == len(Schedule(durations[::-1], LENGTH, slots, True))
    check_that_slots_go_on(plan, durations)


def test_each_pass_has_an_order_and_augmentations_of_its_own_from_the_seed() -> None:
    first, again = (Schedule([30] * 20, LENGTH, 4, shuffle=True, seed=7) for _ in range(2))

    plan, next_plan = list(first), list(first)

    assert plan == list(again)
    assert plan != next_plan
    seeds = {item.recording: item.seed for batch in plan for item in batch}
    assert all(item.seed == seeds[item.recording] for batch in plan for item in batch)
    assert len(set(seeds.values())) == 20


def test_augmentation_moves_all_bins_of_a_recording_alike() -> None:
    images = torch.rand(1, 2, 32, 32).expand(6, -1, -1, -1)

    moved = shift_and_zoom(images, seed=5)

    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    assert torch.equal(moved, moved[:1].expand_as(moved))
    assert torch.equal(shift_and_zoom(images[:2], seed=5), moved[:2])
    assert not torch.equal(shift_and_zoom(images, seed=6), moved)


def test_a_batch_has_the_shapes_and_types_that_models_take(settings: Settings) -> None:
    data = ClassificationDataModule(settings())
    data.setup("fit")

    batch = next(iter(data.train_dataloader()))

    assert {
        name: (value.shape, value.dtype) for name, value in batch.items() if name != "video_infos"
    } == {
        "inputs": ((25, 3, 2, 32, 32), torch.float32),
        "labels": ((25, 3), torch.int64),
        "track_ids": ((25, 3), torch.int64),
        "frame_is_labeled": ((25, 3), torch.bool),
        "mask_keep_memory": ((3, 1, 1, 1), torch.float32),
    }
    assert [info[1:] for info in batch["video_infos"]] == [(0, 500_000)] * 3
    assert not batch["mask_keep_memory"].any()
    assert 0 < batch["inputs"].max() <= 1
    assert torch.equal(batch["frame_is_labeled"], batch["labels"] >= 0)


def test_each_labelled_bin_is_read_once_and_padding_has_no_label(settings: Settings) -> None:
    data = ClassificationDataModule(settings(batch_size=2, num_tbins=7, data_aug=False))
    loader = data.loader("train")
    labelled = sum(int((one.labels >= 0).sum()) for one in data.recordings("train").recordings)

    seen = 0
    last: list[object] = [None, None]
    for batch in loader:
        seen += int(batch["frame_is_labeled"].sum())
        for n, (recording, start, duration) in enumerate(batch["video_infos"]):
            assert float(batch["mask_keep_memory"][n]) == (
                last[n] == (recording, start) and start > 0
            )
            bins = duration // 20_000
            assert not batch["frame_is_labeled"][bins:, n].any()
            assert not batch["inputs"][bins:, n].any()
            last[n] = (recording, start + duration)

    assert seen == labelled > 0


def test_only_tensors_are_moved_to_the_device(settings: Settings) -> None:
    data = ClassificationDataModule(settings())

    moved = data.transfer_batch_to_device(
        {"a": torch.zeros(1), "b": ["kept"]}, torch.device("meta")
    )

    assert moved["a"].device.type == "meta"
    assert moved["b"] == ["kept"]


@pytest.mark.long
def test_workers_change_nothing(settings: Settings) -> None:
    sums = []
    for workers in (0, 2):
        data = ClassificationDataModule(settings(num_workers=workers))
        loader = data.loader("train", shuffle=True)
        sums.append([batch["inputs"].sum().item() for batch in loader])
        del loader

    assert sums[0] == sums[1]


def test_more_streams_than_recordings_are_refused(settings: Settings) -> None:
    data = ClassificationDataModule(settings(batch_size=6))

    with pytest.raises(
        nb.UsageError, match="there are 5 for training; use a batch size of at most 5"
    ):
        data.setup("fit")


def test_what_does_not_exist_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"there is no folder .*nowhere/val; make it with"):
        ClassificationDataModule(settings(dataset_path=str(tmp_path / "nowhere"))).setup("validate")
    with pytest.raises(nb.UsageError, match="did you mean histo"):
        ClassificationDataModule(settings(preprocess="histogram"))
    with pytest.raises(nb.UsageError, match="diff makes 1 channels, and the model takes cin=2"):
        ClassificationDataModule(settings(preprocess="diff"))
    with pytest.raises(ClassListError, match="the data's classes lack rock"):
        ClassificationDataModule(settings(classes=["rock"])).setup("test")


def test_classes_that_are_left_out_have_no_labels(settings: Settings) -> None:
    data = ClassificationDataModule(settings(classes=["7", "3"], num_classes=2))

    kept = set(torch.cat([one.labels for one in data.recordings("train").recordings]).tolist())

    assert kept == {-1, 0, 1}


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    """A data set of another camera: two recordings of 4 x 3 pixels and 30 ms."""
    for n in range(2):
        folder = tmp_path / "set" / "test"
        folder.mkdir(parents=True, exist_ok=True)
        events = np.zeros(3, EVENT_CD)
        events["t"] = [0, 9_999, 29_999]
        write_dat(folder / f"{n}_td.dat", events, 3, 4)
        rows = np.zeros(1, EVENT_BBOX)
        rows["t"] = 10_000
        np.save(folder / f"{n}_bbox.npy", rows)
    (tmp_path / "set" / "label_map_dictionary.json").write_text(json.dumps({"0": "0"}))
    return tmp_path / "set"


def of_small_set(root: Path, settings: Settings, delta_t: int = 10_000) -> ClassificationDataModule:
    of_set = {"dataset_path": str(root), "classes": ["0"], "num_classes": 1}
    return ClassificationDataModule(settings(**of_set, delta_t=delta_t))


def test_recordings_of_another_camera_and_bin_are_read(small_set: Path, settings: Settings) -> None:
    recordings = of_small_set(small_set, settings).recordings("test")

    assert recordings.recordings[0].tensor.shape == (3, 2, 3, 4)
    assert recordings.recordings[0].labels.tolist() == [0, -1, -1]


def test_recordings_of_two_sensors_do_not_mix(small_set: Path, settings: Settings) -> None:
    write_dat(small_set / "test" / "1_td.dat", np.zeros(1, EVENT_CD), 8, 8)
    rows = np.zeros(0, EVENT_BBOX)
    np.save(small_set / "test" / "1_bbox.npy", rows)

    with pytest.raises(RecordingError, match="recordings of one sensor are needed"):
        of_small_set(small_set, settings).recordings("test")


def test_hdf5_tensors_take_the_place_of_events(small_set: Path, settings: Settings) -> None:
    h5py = pytest.importorskip("h5py")
    shutil.rmtree(small_set / "test")
    (small_set / "test").mkdir()
    np.save(small_set / "test" / "0_bbox.npy", np.zeros(1, EVENT_BBOX))
    with h5py.File(small_set / "test" / "0.h5", "w") as file:
        data = file.create_dataset("data", data=np.full((3, 2, 3, 4), 51, np.uint8))
        data.attrs["delta_t"] = 10_000

    loaded = of_small_set(small_set, settings).recordings("test").recordings[0]

    assert loaded.recording.duration == 30_000
    assert loaded.tensor.unique().tolist() == [25]  # 0.2 in 127ths
    other_bins = of_small_set(small_set, settings, delta_t=20_000)
    with pytest.raises(RecordingError, match="has bins of 10000 us; use --delta-t 10000"):
        other_bins.recordings("test")
