"""Pairs that are in memory as a whole, read like those that can be read in parts."""

from __future__ import annotations

from typing import Protocol

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


class ReadableSamples(Protocol):
    """Pairs that can only be read as a whole."""

    def __len__(self) -> int:
        """How many there are."""

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) picture and (H, W) mask."""

    def name(self, index: int) -> str:
        """The sample's name."""


class WholeSamples:
    """Samples that are read as a whole, opened as ``RegionSamples`` are."""

    def __init__(self, samples: ReadableSamples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def name(self, index: int) -> str:
        """The sample's name."""
        return self._samples.name(index)

    def open(self, index: int) -> WholePair:
        """One pair, decoded now."""
        return WholePair(*self._samples.read(index))
