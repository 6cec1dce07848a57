"""The demo video: what its frames show, how it is written, and that training goes on as before."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nightbus as nb
from examples.event_classification.data_module import ClassificationDataModule
from examples.event_classification.demo import RIGHT, WRONG, frames_of
from examples.event_classification.event_types import Array
from examples.event_classification.labels import Recording
from examples.event_classification.lightning_model import ClassificationModel
from examples.event_classification.video import save_video, shown

Settings = Callable[..., Namespace]


def batch_of(labels: list[list[int]], bins: int) -> dict[str, Any]:
    """A batch [T][N] of which each recording has some bins of 20 ms; slot 2 is empty."""
    steps, slots = len(labels), len(labels[0])
    infos: list[Any] = [
        (Recording(str(n), bins * 20_000, 32, 32), 0, bins * 20_000) for n in range(slots)
    ]
    infos[2] = (None, 0, 0)
    generator = torch.Generator().manual_seed(0)
    return {
        "inputs": torch.rand(steps, slots, 2, 32, 32, generator=generator),
        "labels": torch.tensor(labels),
        "video_infos": infos,
    }


def says_one(batch: dict[str, Any]) -> torch.Tensor:
    """Predict class 1 of 3 everywhere."""
    steps, slots = batch["labels"].shape
    return torch.tensor([0.0, 9.0, 0.0]).expand(steps, slots, 3)


def drawn(labels: list[list[int]], bins: int = 2, show_pred: bool = True) -> list[Array]:
    names = ["rock", "paper", "scissors"]
    return list(frames_of(says_one, [batch_of(labels, bins)], 20_000, names, show_pred))


def has(frame: Array, colour: tuple[int, int, int]) -> bool:
    return bool((frame == colour).all(axis=-1).any())


def test_each_bin_is_a_frame_of_an_even_size() -> None:
    frames = drawn([[1, 1, -1], [1, 0, -1]])

    assert len(frames) == 2
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0].dtype == np.uint8
    assert not any(length % 2 for length in frames[0].shape[:2])


def test_right_and_wrong_predictions_have_their_colours_and_unlabelled_ones_none() -> None:
    first, second, third = drawn([[1, 1, -1], [1, 0, -1], [-1, -1, -1]], bins=3)

    assert (has(first, RIGHT), has(first, WRONG)) == (True, False)
    assert (has(second, RIGHT), has(second, WRONG)) == (True, True)
    assert (has(third, RIGHT), has(third, WRONG)) == (False, False)


def test_without_predictions_only_input_and_truth_are_shown() -> None:
    (frame,) = drawn([[1, 0, -1]], bins=1, show_pred=False)

    assert not has(frame, RIGHT)
    assert not has(frame, WRONG)


def test_bins_behind_a_recordings_end_and_empty_slots_show_nothing() -> None:
    within, behind = drawn([[1, 1, -1], [1, 1, -1]], bins=1)

    assert has(within, RIGHT)
    assert not has(behind, RIGHT)
    tile = within.shape[1] // 3
    assert len(np.unique(within[:192, 2 * tile : 2 * tile + 192])) == 1


def some_frames(count: int) -> Iterator[Array]:
    for k in range(count):
        yield np.full((32, 48, 3), 20 * k, np.uint8)


def test_a_video_holds_every_frame_in_a_form_that_browsers_play(tmp_path: Path) -> None:
    av = pytest.importorskip("av")

    file = save_video(some_frames(7), tmp_path / "videos" / "video#0.mp4", fps=25)

    with av.open(str(file)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 25
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 7
    assert [int(frame.mean()) for frame in frames] == pytest.approx(
        [20 * k for k in range(7)], abs=4
    )


def test_without_pyav_it_is_an_animated_webp_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)

    file = save_video(some_frames(3), tmp_path / "video#0.mp4", fps=25)

    assert file == tmp_path / "video#0.webp"
    with Image.open(file) as picture:
        assert (picture.n_frames, picture.size) == (3, (48, 32))  # type: ignore[attr-defined]
    assert capsys.readouterr().err.count("pip install 'nightbus[video]'") == 1


def test_a_video_without_frames_or_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="no frames for a video"):
        save_video(iter(()), tmp_path / "video#0.mp4", fps=25)
    with pytest.raises(nb.UsageError, match="0 frames a second"):
        save_video(some_frames(1), tmp_path / "video#0.mp4", fps=0)
    assert list(tmp_path.iterdir()) == []


def test_without_opencv_nothing_is_shown_and_the_frames_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)

    assert len(list(shown(some_frames(3), fps=30))) == 3

    assert capsys.readouterr().err.count("OpenCV (opencv-python) is not installed") == 1


class NoWindow:
    """OpenCV without windows."""

    class error(Exception):
        pass

    def imshow(self, name: str, image: Array) -> None:
        raise self.error

    def waitKey(self, ms: int) -> None:
        raise AssertionError("nothing is shown")


def test_without_a_window_nothing_is_shown_and_the_frames_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", NoWindow())

    assert len(list(shown(some_frames(3), fps=30))) == 3

    assert capsys.readouterr().err.count("there is no window for OpenCV") == 1


def test_pillow_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(nb.MissingPackageError, match=r"pip install 'nightbus\[events\]'"):
        drawn([[1, 1, -1]])


def test_a_demo_of_the_model_leaves_its_memory_and_mode_as_they_were(
    settings: Settings, tmp_path: Path
) -> None:
    hparams = settings(num_tbins=10)
    model = ClassificationModel(hparams)
    data = ClassificationDataModule(hparams)
    model(next(iter(data.loader("val"))))
    before = model.model.memory_state()[0]

    file = model.demo_video(data.loader("test"), epoch=3, num_batches=2)

    assert file.parent == tmp_path / "videos"
    assert file.stem == "video#3"
    assert file.stat().st_size > 1000
    after = model.model.memory_state()[0]
    assert before is not None
    assert after is not None
    assert all(map(torch.equal, before, after))
    assert model.training
