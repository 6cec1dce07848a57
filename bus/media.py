"""Encodes values that are more than numbers as bytes of a Media event, and decodes them."""

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import MetricError, MissingPackageError
from .events import Media, MediaKind, Plain

if TYPE_CHECKING:
    import numpy as np

DEFAULT_MEDIA_BYTES = 256 << 10
LARGEST_MEDIA_BYTES = 1_000_000  # fits into a frame of the log, with room for the rest
MAX_BINS = 10_000  # of a histogram: a picture is not as wide
EncodedMedia = tuple[MediaKind, bytes]


def encode_image(name: str, image: Any) -> EncodedMedia:
    """Return an image as PNG.

    Args:
        name: the metric, for errors.
        image: a tensor or array of shape (H, W), (H, W, C) or (C, H, W) with C = 1, 3 or 4; uint8,
            or floats from 0 to 1; or a Pillow image.

    Raises:
        MetricError: it is none of these.
        MissingPackageError: Pillow is missing.
    """
    pillow = _import_pillow()
    is_picture = isinstance(image, pillow.Image)
    picture = image if is_picture else pillow.fromarray(_pixels(name, image))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "image", buffer.getvalue()


def encode_figure(name: str, figure: Any) -> EncodedMedia:
    """Return a matplotlib figure as PNG.

    Args:
        name: its name, for errors.
        figure: the figure.

    Raises:
        MetricError: it is not a figure.
    """
    save = getattr(figure, "savefig", None)
    if save is None:
        raise MetricError(
            f"put_figure({name!r}) takes a matplotlib figure, not {type(figure).__name__}; "
            "torchmetrics' plot() returns figure and axes: pass the first"
        )
    buffer = io.BytesIO()
    save(buffer, format="png")
    return "figure", buffer.getvalue()


def encode_histogram(name: str, values: Any, bins: int) -> EncodedMedia:
    """Return counts of values in bins of equal width; NaN and infinities are left out.

    Args:
        name: the metric, for errors.
        values: a tensor, array or sequence of numbers, of any shape.
        bins: number of bins.

    Raises:
        MetricError: there are no finite values, or bins is not an int from 1 to MAX_BINS.
    """
    import numpy as np

    if not isinstance(bins, int) or bins < 1:
        raise MetricError(f"put_histogram({name!r}, bins={bins!r}): expected an int of at least 1")
    if bins > MAX_BINS:
        raise MetricError(
            f"put_histogram({name!r}, bins={bins:,}): at most {MAX_BINS:,} can be; choose fewer, "
            "or write the values themselves into a file of your own"
        )
    numbers = _array(name, "put_histogram", values).astype(np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        raise MetricError(f"put_histogram({name!r}) got no finite values")
    counts, edges = np.histogram(numbers, bins=bins)
    return "histogram", json.dumps({"edges": edges.tolist(), "counts": counts.tolist()}).encode()


def encode_text(name: str, text: str) -> EncodedMedia:
    """Return a text as UTF-8.

    Args:
        name: its name, for errors.
        text: the text.

    Raises:
        MetricError: it is not a string.
    """
    if not isinstance(text, str):
        raise MetricError(f"put_text({name!r}) takes a string, not {type(text).__name__}")
    return "text", text.encode("utf-8", "backslashreplace")


def encode_table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[Plain]]
) -> EncodedMedia:
    """Return a table of plain values as JSON.

    Args:
        name: the metric, for errors.
        columns: the columns' titles.
        rows: for each row, a value for each column: None, bool, int, float or str.

    Raises:
        MetricError: a row has another length, or a value is not plain.
    """
    titles = [str(column) for column in columns]
    for number, row in enumerate(rows):
        if len(row) != len(titles):
            raise MetricError(
                f"put_table({name!r}): row {number} has {len(row)} values for {len(titles)} columns"
            )
    table = {"columns": titles, "rows": [[_plain(name, value) for value in row] for row in rows]}
    return "table", json.dumps(table).encode()


def decoded(event: Media) -> Any:
    """Return the content of a Media event.

    That is: PNG bytes of an image or figure, a str, or a dict of a table or histogram.
    """
    if event.kind in ("image", "figure"):
        return event.data
    return event.data.decode() if event.kind == "text" else json.loads(event.data)


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise MissingPackageError("put_image", "pillow", "media") from None
    return Image


def _array(name: str, verb: str, values: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    if hasattr(values, "detach"):  # a tensor: this layer does not import torch
        values = values.detach().float().cpu() if values.is_floating_point() else values.cpu()
        return values.numpy()  # type: ignore[no-any-return]
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise MetricError(f"{verb}({name!r}) takes numbers, not {type(values).__name__}")
    return array


def _pixels(name: str, image: Any) -> "np.ndarray[Any, Any]":
    import numpy as np

    array = _array(name, "put_image", image)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise MetricError(
            f"put_image({name!r}) got shape {array.shape}; expected (H, W), (H, W, C) or (C, H, W) "
            "with 1, 3 or 4 channels"
        )
    if array.dtype != np.uint8:
        array = (np.nan_to_num(array.astype(np.float64)).clip(0.0, 1.0) * 255).round()
    return np.ascontiguousarray(array.astype(np.uint8))


def _plain(name: str, value: Any) -> Plain:
    if hasattr(value, "item") and getattr(value, "size", 1) in (1, ()):
        value = value.item()
    if value is not None and not isinstance(value, bool | int | float | str):
        raise MetricError(
            f"put_table({name!r}) holds a {type(value).__name__}; expected None, bool, int, float "
            "or str"
        )
    return value
