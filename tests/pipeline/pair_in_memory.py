"""WholePair: a pair that is in memory, cut like those that are read in parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from imageseg.pipeline.regions import Box


class WholePair:
    """A decoded picture and its mask; parts of them are views.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 class indices.
    """

    def __init__(self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        self._image = image
        self._mask = mask

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self._mask.shape
        return height, width

    def mask(self, box: Box) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) class indices."""
        return self._mask[box.top : box.bottom, box.left : box.right]

    def image(self, box: Box, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left, 3) RGB: nothing is saved by shrinking what is decoded already."""
        return self._image[box.top : box.bottom, box.left : box.right]
