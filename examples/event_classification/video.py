"""Writes frames as a video, one by one: a long demo is never in memory as a whole."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import nightbus as nb
from examples.event_classification.event_types import Array


def save_video(frames: Iterable[Array], file: Path, fps: int) -> Path:
    """Write frames as an H.264 video with PyAV; without it, as an animated WebP with Pillow.

    Args:
        frames: uint8 [height, width, 3], of one even size; at least one.
        file: where to; ends in ``.mp4``.
        fps: frames in a second.

    Returns:
        The path of what was written; a line on stderr says so if it is a WebP.

    Raises:
        UsageError: there are no frames, or fps is not positive.
    """
    if fps < 1:
        raise nb.UsageError(
            f"a video of {fps} frames a second cannot be written; expected 1 or more"
        )
    coming = iter(frames)
    first = next(coming, None)
    if first is None:
        raise nb.UsageError("there are no frames for a video; are there batches?")
    file.parent.mkdir(parents=True, exist_ok=True)
    every = chain([first], coming)
    try:
        import av
    except ModuleNotFoundError:
        file = file.with_suffix(".webp")
        print(
            f"PyAV is missing, so {file} is an animated WebP; "
            "for MP4: pip install 'nightbus[video]'",
            file=sys.stderr,
        )
        _save_webp(every, file, fps)
        return file
    _save_mp4(av, every, first.shape[:2], file, fps)
    return file


def _save_mp4(
    av: Any, frames: Iterable[Array], size: tuple[int, ...], file: Path, fps: int
) -> None:
    options = {"preset": "veryfast", "crf": "28"}
    # What plays in browsers: pixels in 4:2:0, and the index before the frames.
    with av.open(str(file), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _save_webp(frames: Iterable[Array], file: Path, fps: int) -> None:
    from PIL import Image

    pictures = map(Image.fromarray, frames)
    first = next(pictures)
    duration_ms = round(1000 / fps)
    first.save(
        file,
        save_all=True,
        append_images=pictures,
        duration=duration_ms,
        loop=0,
        quality=60,
        method=0,
    )


def shown(frames: Iterable[Array], fps: int) -> Iterator[Array]:
    """Show frames in a window while they are read; without OpenCV's windows, say so and go on.

    Args:
        frames: uint8 [height, width, 3].
        fps: frames in a second.

    Yields:
        The same frames.
    """
    try:
        import cv2
    except ModuleNotFoundError:
        cv2 = None
        print("the video is not shown: OpenCV (opencv-python) is not installed", file=sys.stderr)
    for frame in frames:
        if cv2 is not None:
            try:
                cv2.imshow("demo", frame[..., ::-1])
                cv2.waitKey(max(1, 1000 // fps))
            except cv2.error:
                print("the video is not shown: there is no window for OpenCV", file=sys.stderr)
                cv2 = None
        yield frame
    if cv2 is not None:
        cv2.destroyAllWindows()
