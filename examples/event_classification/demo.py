"""Frames of a demo: each time bin of all streams side by side, with what is said of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

import nightbus as nb
from examples.event_classification.event_types import Array
from examples.event_classification.streams import UNLABELLED, Batch, image_of

LARGE_ENOUGH = 192  # pixels of a stream's image; smaller ones are enlarged
CAPTION = 28  # pixels of text below it
GAP = 2  # pixels between streams
COLUMNS = 4
BACKGROUND, PAPER = (20, 20, 20), (48, 48, 48)
TEXT, DIM = (225, 225, 225), (150, 150, 150)
RIGHT, WRONG = (70, 200, 90), (235, 80, 70)


class Tile(NamedTuple):
    """What is shown of a stream in one bin.

    Attributes:
        image: float32 [H, W], from -1 to 1.
        label: true class id, -1 where there is none.
        end_us: end of the bin in its recording.
        pred: predicted class id; -1 to say nothing.
        probability: of the predicted class.
    """

    image: Array
    label: int
    end_us: int
    pred: int
    probability: float


def frames_of(
    predict: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    delta_t: int,
    classes: Sequence[str],
    show_pred: bool,
) -> Iterator[Array]:
    """Draw batches of streams, a frame for each time bin.

    Args:
        predict: returns logits [T, N, K] of a batch.
        batches: of streams, all of as many slots as the first.
        delta_t: duration of a bin, in us.
        classes: names of the K classes.
        show_pred: draw what is predicted too.

    Yields:
        uint8 [height, width, 3], all of one size, both even.

    Raises:
        MissingPackageError: Pillow is missing.
    """
    draw = _Drawing(classes)
    for batch in batches:
        probability, preds = predict(batch).softmax(dim=-1).max(dim=-1)
        if not show_pred:
            preds = preds.new_full(preds.shape, UNLABELLED)
        images = image_of(batch["inputs"]).cpu().numpy()
        for k, of_slots in enumerate(images):
            tiles: list[Tile | None] = []
            for n, image in enumerate(of_slots):
                recording, begin, duration = batch["video_infos"][n]
                if recording is None or k * delta_t >= duration:
                    tiles.append(None)
                    continue
                end_us, label = begin + (k + 1) * delta_t, int(batch["labels"][k, n])
                said = int(preds[k, n]), float(probability[k, n])
                tiles.append(Tile(image, label, end_us, *said))
            yield draw.frame(tiles, images.shape[-2:])


class _Drawing:
    """Draws frames with Pillow.

    Args:
        classes: names of the classes.

    Raises:
        MissingPackageError: Pillow is missing.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        try:
            from PIL import Image, ImageDraw, ImageFont
        except ModuleNotFoundError:
            raise nb.MissingPackageError("a demo video", "pillow", "events") from None
        self._image, self._draw = Image, ImageDraw
        self._font = ImageFont.load_default(12)
        self._classes = list(classes)

    def frame(self, tiles: Sequence[Tile | None], size: tuple[int, int]) -> Array:
        """Return the streams side by side: uint8 [height, width, 3].

        Args:
            tiles: of the slots; None for one that is empty.
            size: height and width of their images.
        """
        columns = min(COLUMNS, len(tiles))
        drawn = [np.asarray(self._tile(tile, size)) for tile in tiles]
        empty = np.zeros_like(drawn[0])
        drawn += [empty] * (-len(drawn) % columns)
        rows = [
            np.concatenate(drawn[i : i + columns], axis=1) for i in range(0, len(drawn), columns)
        ]
        whole = np.concatenate(rows, axis=0)
        uneven = [(0, length % 2) for length in whole.shape[:2]]  # videos need even sizes
        padded: Array = np.pad(whole, [*uneven, (0, 0)])
        return padded

    def _tile(self, tile: Tile | None, size: tuple[int, int]) -> Any:
        zoom = max(1, -(-LARGE_ENOUGH // max(size)))
        height, width = (length * zoom for length in size)
        picture = self._image.new("RGB", (width + GAP, height + CAPTION + GAP), BACKGROUND)
        if tile is None:
            self._draw.Draw(picture).rectangle((0, 0, width - 1, height - 1), fill=PAPER)
            return picture
        gray = (128 + 127 * np.clip(2 * tile.image, -1, 1)).astype(np.uint8)
        enlarged = self._image.fromarray(gray).resize(
            (width, height), self._image.Resampling.NEAREST
        )
        picture.paste(enlarged, (0, 0))
        self._caption(self._draw.Draw(picture), tile, height, width)
        return picture

    def _caption(self, draw: Any, tile: Tile, height: int, width: int) -> None:
        true = self._classes[tile.label] if tile.label != UNLABELLED else "-"
        time_s = f"{tile.end_us / 1e6:.2f} s"
        draw.text((3, height + 3), f"true {true}", TEXT, self._font)
        draw.text((width - 3, height + 3), time_s, DIM, self._font, anchor="ra")
        if tile.pred == UNLABELLED:
            return
        is_right = tile.pred == tile.label
        colour = DIM if tile.label == UNLABELLED else RIGHT if is_right else WRONG
        middle = width // 2
        said = f"said {self._classes[tile.pred]}, {tile.probability:.0%}"
        draw.text((middle, height + 3), said, colour, self._font, anchor="ma")
        if tile.label != UNLABELLED:  # a mark besides the colour
            self._mark(draw, is_right, middle - 52, height + 5, colour)
        draw.rectangle((0, height + 21, int(width * tile.probability), height + 26), fill=colour)

    def _mark(self, draw: Any, is_right: bool, x: int, y: int, colour: tuple[int, ...]) -> None:
        """Draw a tick or a cross, 10 pixels wide."""
        if is_right:
            draw.line((x, y + 6, x + 4, y + 10, x + 10, y), fill=colour, width=2)
        else:
            draw.line((x, y, x + 10, y + 10), fill=colour, width=2)
            draw.line((x, y + 10, x + 10, y), fill=colour, width=2)
