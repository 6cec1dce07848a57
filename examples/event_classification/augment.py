"""Augmentation: one random shift and zoom for a whole recording."""

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFT = 2  # pixels
ZOOM = 0.1


def shift_and_zoom(tensor: Tensor, seed: int) -> Tensor:
    """Move and enlarge every bin alike; nothing is mirrored, digits would become others.

    Args:
        tensor: float32 [bins, channels, height, width].
        seed: of the recording; its sequences are all moved alike.

    Returns:
        The same shape, 0 where nothing was.
    """
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    right, down, larger = drawn.tolist()
    height, width = tensor.shape[-2:]
    way = torch.tensor(
        [
            [1 + ZOOM * larger, 0.0, 2 * SHIFT / width * right],
            [0.0, 1 + ZOOM * larger, 2 * SHIFT / height * down],
        ]
    )
    # bins and channels as one image of many channels: the grid's weights are computed once
    image = tensor.flatten(0, 1)[None]
    grid = F.affine_grid(way[None], list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)[0].view_as(tensor)
