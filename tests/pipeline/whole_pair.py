"""WholePair: a decoded image and mask that are cropped like those that are read from files."""

from __future__ import annotations

import numpy as np

from imageseg.pipeline.crop import Box


class WholePair:
    """An (H, W, 3) uint8 RGB image and its (H, W) uint8 mask; parts of them are views."""

    def __init__(self, image: np.ndarray, mask: np.ndarray) -> None:
        self._image = image
        self._mask = mask

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._mask.shape
        return height, width

    def mask(self, box: Box) -> np.ndarray:
        return self._mask[box.top : box.bottom, box.left : box.right]

    def image(self, box: Box, *, shrink: float = 1.0) -> np.ndarray:
        return self._image[box.top : box.bottom, box.left : box.right]
