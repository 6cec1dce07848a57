"""What methods of a SummaryWriter record in a run."""

from collections.abc import Mapping
from typing import Any

from ..bus.media import encode_figure, encode_histogram, encode_image, encode_text
from .calls import Counterpart
from .logger import RecordedLogger
from .media_of_calls import in_order

_BINS = 64


def _scalar(
    logger: RecordedLogger,
    tag: str,
    scalar_value: Any,
    global_step: int | None = None,
    *_: Any,
    **__: Any,
) -> None:
    logger.log_metrics({tag: scalar_value}, global_step)


def _scalars(
    logger: RecordedLogger,
    main_tag: str,
    tag_scalar_dict: Mapping[str, Any],
    global_step: int | None = None,
    *_: Any,
) -> None:
    metrics = {f"{main_tag}/{name}": value for name, value in tag_scalar_dict.items()}
    logger.log_metrics(metrics, global_step)


def _image(
    logger: RecordedLogger,
    tag: str,
    img_tensor: Any,
    global_step: int | None = None,
    walltime: float | None = None,
    dataformats: str = "CHW",
) -> None:
    image = encode_image(tag, in_order(img_tensor, dataformats))
    logger.log_encoded({tag: image}, global_step)


def _images(
    logger: RecordedLogger,
    tag: str,
    img_tensor: Any,
    global_step: int | None = None,
    walltime: float | None = None,
    dataformats: str = "NCHW",
) -> None:
    _image(logger, tag, img_tensor, global_step, walltime, dataformats)


def _figure(
    logger: RecordedLogger,
    tag: str,
    figure: Any,
    global_step: int | None = None,
    close: bool = True,
    *_: Any,
) -> None:
    figures = figure if isinstance(figure, list) else [figure]
    several = len(figures) > 1
    for number, one in enumerate(figures):
        name = f"{tag}/{number}" if several else tag
        logger.log_encoded({name: encode_figure(name, one)}, global_step)
        if close:
            from matplotlib import pyplot

            pyplot.close(one)


def _histogram(
    logger: RecordedLogger,
    tag: str,
    values: Any,
    global_step: int | None = None,
    bins: Any = None,
    *_: Any,
    **__: Any,
) -> None:
    number = bins if isinstance(bins, int) else _BINS
    logger.log_encoded({tag: encode_histogram(tag, values, number)}, global_step)


def _text(
    logger: RecordedLogger, tag: str, text_string: str, global_step: int | None = None, *_: Any
) -> None:
    logger.log_encoded({tag: encode_text(tag, text_string)}, global_step)


COUNTERPARTS: Mapping[str, Counterpart] = {
    "add_scalar": _scalar,
    "add_scalars": _scalars,
    "add_image": _image,
    "add_images": _images,
    "add_figure": _figure,
    "add_histogram": _histogram,
    "add_text": _text,
}
"""Method -> what records its arguments."""
