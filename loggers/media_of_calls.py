"""Media as loggers are given them, encoded for the log."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..bus.media import EncodedMedia, encode_figure, encode_image

_CHANNELS_OF = {"CHW": (1, 2, 0), "HWC": (0, 1, 2)}


def images_of(key: str, images: Sequence[Any]) -> Mapping[str, EncodedMedia]:
    """Return images by name: the key for a single one, ``key/0`` and so on for several.

    Args:
        key: their name.
        images: tensors, arrays, Pillow images or matplotlib figures.
    """
    several = len(images) > 1
    return {
        f"{key}/{number}" if several else key: image_of(key, image)
        for number, image in enumerate(images)
    }


def image_of(name: str, image: Any) -> EncodedMedia:
    """Return a single image.

    Args:
        name: its name, for errors.
        image: a tensor, an array, a Pillow image, a matplotlib figure, or an Image of W&B.
    """
    if hasattr(image, "savefig"):
        return encode_figure(name, image)
    inner = getattr(image, "image", None)  # of wandb.Image
    return encode_image(name, image if inner is None else inner)


def in_order(image: Any, dataformats: str) -> Any:
    """Return an image, or several side by side, as (H, W, C) or (H, W).

    Args:
        image: a tensor or an array.
        dataformats: order of its dimensions: ``CHW``, ``HWC``, ``HW``, or with ``N`` for several.
    """
    import numpy as np

    array = image.detach().cpu().numpy() if hasattr(image, "detach") else np.asarray(image)
    order = dataformats.upper()
    if "N" in order:
        several = np.moveaxis(array, order.index("N"), 0)
        inner = order.replace("N", "")
        return np.concatenate([in_order(entry, inner) for entry in several], axis=1)
    return array.transpose(_CHANNELS_OF[order]) if order in _CHANNELS_OF else array
