"""DAT files and labels: read back as they were written, and refused where they are damaged."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nightbus as nb
from examples.event_classification.dat import LARGEST_TIME_US, read_dat, write_dat
from examples.event_classification.errors import (
    ClassListError,
    RecordingError,
)
from examples.event_classification.event_files import read_events, recordings_in
from examples.event_classification.event_types import EVENT_BBOX, EVENT_CD, Array
from examples.event_classification.hdf5 import read_tensors
from examples.event_classification.labels import (
    Recording,
    check_labels,
    class_names,
    load_classes,
    lookup_of,
    read_labels,
)

HEADER = b"% Data file containing CD events\n% Version 2\n"


def events_of(*rows: tuple[int, int, int, int]) -> Array:
    """Events of (t, x, y, p)."""
    events = np.zeros(len(rows), EVENT_CD)
    for name, values in zip("txyp", zip(*rows, strict=True), strict=True):
        events[name] = values
    return events


def packed(t: int, x: int, y: int, p: int) -> bytes:
    return t.to_bytes(4, "little") + (x | y << 14 | p << 28).to_bytes(4, "little")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "0000_td.dat"


@st.composite
def recordings(draw: st.DrawFn) -> tuple[Array, int, int]:
    """Events of a sensor, and its height and width."""
    height, width = draw(st.integers(1, 2**14)), draw(st.integers(1, 2**14))
    rows = st.tuples(
        st.integers(0, LARGEST_TIME_US),
        st.integers(0, width - 1),
        st.integers(0, height - 1),
        st.integers(0, 1),
    )
    found = sorted(draw(st.lists(rows, max_size=20)))
    return (events_of(*found) if found else np.zeros(0, EVENT_CD)), height, width


@settings(max_examples=40, deadline=None)
@given(recorded=recordings())
def test_what_is_written_as_dat_is_read_back(
    recorded: tuple[Array, int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    events, height, width = recorded
    file = tmp_path_factory.getbasetemp() / "one_td.dat"

    write_dat(file, events, height, width)
    found = read_dat(file)

    assert (found.events == events).all()
    assert (found.height, found.width) == (height, width)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=60), begins_well=st.booleans())
def test_any_bytes_are_read_or_refused_with_our_own_error(
    raw: bytes, begins_well: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any_td.dat"
    file.write_bytes((HEADER + bytes([12, 8]) if begins_well else b"") + raw)

    with contextlib.suppress(RecordingError):
        assert read_dat(file).events.dtype == EVENT_CD


def test_a_dat_file_of_another_camera_is_read(file: Path) -> None:
    header = b"% Date 2020-09-14 14:18:29\n% Version 2\n% Width 640\n% Height 480\n"
    file.write_bytes(header + bytes([0, 8]) + packed(7, 639, 479, 1) + packed(9, 3, 4, 0))

    found = read_dat(file)

    assert found.events.tolist() == [(639, 479, 1, 7), (3, 4, 0, 9)]
    assert (found.height, found.width) == (480, 640)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"RIFF", "does not begin with '%'.*convert RAW files"),
        (b"% Version 2", "ends within its header; copy it again"),
        (HEADER + b"\x0c", "ends behind its header; copy it again"),
        (HEADER + bytes([14, 8]), "events of kind 14 with 8 bytes; expected kind 0 or 12 with 8"),
        (HEADER + bytes([12, 8]) + b"12345", "ends within an event: 5 bytes are left"),
        (HEADER + bytes([12, 8]) + packed(2, 0, 0, 1) + packed(1, 0, 0, 1), "times go back"),
        (
            HEADER + b"% Width 4\n% Height 4\n" + bytes([12, 8]) + packed(2, 4, 0, 1),
            r"event at \(4, 0\) is outside the sensor of 4 x 4",
        ),
    ],
)
def test_a_damaged_or_foreign_dat_file_is_refused(file: Path, raw: bytes, said: str) -> None:
    file.write_bytes(raw)

    with pytest.raises(RecordingError, match=said) as refused:
        read_dat(file)
    assert str(file) in str(refused.value)


def test_events_that_dat_cannot_hold_are_refused(file: Path) -> None:
    with pytest.raises(RecordingError, match="cut the recording into shorter ones"):
        write_dat(file, events_of((LARGEST_TIME_US + 1, 0, 0, 1)), 4, 4)
    with pytest.raises(RecordingError, match=r"event at \(0, 4\), and the sensor has 4 x 4"):
        write_dat(file, events_of((1, 0, 4, 1)), 4, 4)
    assert not file.exists()


def test_eventcd_npy_is_read_and_other_arrays_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "0000_td.npy"
    events = events_of((1, 2, 3, 1), (5, 0, 0, 0))
    np.save(file, events)
    assert (read_events(file).events == events).all()

    np.save(file, np.arange(3))
    with pytest.raises(RecordingError, match="expected a structured array of EventCD"):
        read_events(file)
    file.write_bytes(b"\x93NUMPY")
    with pytest.raises(RecordingError, match="cannot be read as npy"):
        read_events(file)
    np.save(file, events[::-1])
    with pytest.raises(RecordingError, match="times go back; sort it by t"):
        read_events(file)
    np.save(file, events[:0])
    with pytest.raises(RecordingError, match="has no events"):
        read_events(file)


def test_a_folder_that_is_missing_or_empty_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=f"event_classification make {tmp_path}"):
        recordings_in(tmp_path / "train")
    with pytest.raises(RecordingError, match="holds no recordings; expected files that end in"):
        recordings_in(tmp_path)


def save_labels(file: Path, *rows: tuple[int, int]) -> Recording:
    """Save labels of (us, class id), each a track of its own; the recording has 40 ms."""
    saved = np.zeros(len(rows), EVENT_BBOX)
    for k, (t, class_id) in enumerate(rows):
        saved[k]["t"], saved[k]["class_id"], saved[k]["track_id"] = t, class_id, k
    np.save(str(file).replace("_td.dat", "_bbox.npy"), saved)
    return Recording(str(file), 40_000, 2, 3)


def test_a_label_belongs_to_the_bin_that_ends_with_it(file: Path) -> None:
    recording = save_labels(file, (10_000, 4), (20_000, 5), (30_001, 6))

    labels, is_labelled = load_classes(
        recording, 0, 40_000, np.zeros(4), class_lookup=np.arange(10) + 1
    )

    assert [rows["class_id"].tolist() for rows in labels] == [[5], [6], [], [7]]
    assert is_labelled.tolist() == [True, True, False, True]


def test_labels_of_a_part_are_those_within_it(file: Path) -> None:
    recording = save_labels(file, (10_000, 4), (20_000, 5), (30_001, 6))

    labels, is_labelled = load_classes(recording, 10_000, 20_000, np.zeros(2))

    assert [rows["class_id"].tolist() for rows in labels] == [[5], []]
    assert is_labelled.tolist() == [True, False]


def test_dropped_classes_and_labels_off_the_period_do_not_label(file: Path) -> None:
    recording = save_labels(file, (10_000, 0), (20_000, 1), (30_001, 1))

    _, by_class = load_classes(recording, 0, 40_000, np.zeros(4), class_lookup=np.array([-1, 0]))
    _, by_time = load_classes(recording, 0, 40_000, np.zeros(4), labelling_delta_t=20_000)

    assert by_class.tolist() == [False, True, False, True]
    assert by_time.tolist() == [False, True, False, False]


def test_labels_that_do_not_fit_are_refused(file: Path) -> None:
    recording = save_labels(file, (10_000, 4))

    with pytest.raises(ClassListError, match="have class 4, which is not in label_map"):
        load_classes(recording, 0, 40_000, np.zeros(4), class_lookup=np.arange(3))
    with pytest.raises(RecordingError, match="40000 us cannot be 3 bins of one duration"):
        load_classes(recording, 0, 40_000, np.zeros(3))
    check_labels(recording)
    late = save_labels(file, (40_001, 4))
    with pytest.raises(RecordingError, match="to 40001 us, and the recording ends at 40000 us"):
        check_labels(late)


def test_labels_that_are_missing_or_damaged_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "0000_bbox.npy"
    with pytest.raises(RecordingError, match="there are no labels"):
        read_labels(file)
    file.write_bytes(b"nothing")
    with pytest.raises(RecordingError, match="cannot be read as npy"):
        read_labels(file)
    np.save(file, np.zeros(2, [("t", "<i8")]))
    with pytest.raises(RecordingError, match="expected rows of EventBbox"):
        read_labels(file)


def test_labels_whose_time_is_called_ts_are_read(tmp_path: Path) -> None:
    file = tmp_path / "0000_bbox.npy"
    fields = [("ts", "<u8"), ("class_id", "u1"), ("track_id", "<u4")]
    np.save(file, np.array([(20, 1, 0), (10, 2, 0)], fields))

    assert read_labels(file)["t"].tolist() == [10, 20]


def test_class_ids_of_the_data_are_mapped_to_the_models_by_name(tmp_path: Path) -> None:
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps({"0": "rock", "2": "paper"}))
    names = class_names(tmp_path)

    assert names == {0: "rock", 2: "paper"}
    assert lookup_of(names, ["paper", "rock"]).tolist() == [1, -1, 0]
    assert lookup_of(names, ["paper"]).tolist() == [-1, -1, 0]
    with pytest.raises(ClassListError, match="data's classes lack lizard; there are: rock, paper"):
        lookup_of(names, ["rock", "lizard"])
    with pytest.raises(ClassListError, match="are to be named once each"):
        lookup_of(names, ["rock", "rock"])


@pytest.mark.parametrize("text", ["[1, 2]", "{", '{"a": "rock"}', '{"0": "a", "1": "a"}', "{}"])
def test_a_class_list_that_names_no_classes_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ClassListError, match="it maps class ids to names"):
        class_names(tmp_path)

    (tmp_path / "label_map_dictionary.json").write_text(text)
    with pytest.raises(ClassListError, match=r"label_map_dictionary\.json"):
        class_names(tmp_path)


def test_hdf5_tensors_are_read_normalised_with_the_duration_of_their_bins(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "0000.h5"
    with h5py.File(file, "w") as opened:
        data = opened.create_dataset("data", data=np.full((3, 2, 4, 4), 255, np.uint8))
        data.attrs["delta_t"] = np.uint32(50_000)

    found = read_tensors(file)

    assert found.delta_t == 50_000
    assert (found.tensor.shape, found.tensor.dtype.name) == ((3, 2, 4, 4), "float32")
    assert (found.tensor == 1).all()


def test_other_hdf5_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "0000.h5"
    file.write_bytes(b"no")
    with pytest.raises(RecordingError, match="is no file of HDF5 tensors"):
        read_tensors(file)
    for name, data in (("events", np.zeros((1, 2, 3, 4))), ("data", np.zeros((1, 2)))):
        with h5py.File(file, "w") as opened:
            opened[name] = data
        with pytest.raises(RecordingError, match=r"0000\.h5"):
            read_tensors(file)
    with h5py.File(file, "w") as opened:
        opened["data"] = np.full((1, 2, 3, 4), 2.0)
    with pytest.raises(RecordingError, match="values beyond -1 to 1"):
        read_tensors(file)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(nb.MissingPackageError, match=r"pip install 'nightbus\[hdf5\]'"):
        read_tensors(file)


def test_all_errors_are_usage_errors() -> None:
    assert issubclass(RecordingError, nb.UsageError)
    assert issubclass(ClassListError, nb.UsageError)
    assert issubclass(nb.MissingPackageError, nb.UsageError)
