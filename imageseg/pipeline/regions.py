"""What can be read of a pair without reading all of it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Box(NamedTuple):
    """In pixels of the picture, half open."""

    top: int
    left: int
    bottom: int
    right: int


class OpenPair(Protocol):
    """A picture and its mask, of which any part can be read."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), upright."""

    def mask(self, box: Box) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) class indices; not to be written to."""

    def image(self, box: Box, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) RGB of exactly that box; not to be written to.

        Args:
            box: inside the picture.
            shrink: how many times smaller the result will be made. h x w is the box's size, or a smaller one of the same
                proportions (within a pixel) that is still at least 1 / shrink of it.
        """


class RegionSamples(Protocol):
    """Pairs that can be read in parts."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, index: int) -> str:
        """The sample's name."""

    def open(self, index: int) -> OpenPair:
        """One pair, to read from."""
