"""Reading a pair of files: whole or in parts, checked against each other and the labels. No torch, so that processes start fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import OpenImage, image_size, read_mask
from imageseg.labels import LabelSpace

ReadStored = Callable[[Path], npt.NDArray[Any]]


class OpenFiles:
    """A picture and its mask as they lie on disk, decoded when they are asked for.

    Args:
        pair: the files.
        labels: turns stored values into class indices.
        read_stored: reads a mask file as ``labels`` takes it.

    Raises:
        InputError: here or when reading, for a pair without mask, an unreadable file, a mask of another size than its
            picture, or an undeclared value in what is read.
    """

    def __init__(self, pair: Pair, labels: LabelSpace, read_stored: ReadStored) -> None:
        if pair.mask is None:
            raise InputError(f"{pair.image}: this split has no masks; predict it, it cannot be trained on or scored")
        self._pair = pair
        self._mask_path = pair.mask
        self._labels = labels
        self._read_stored = read_stored
        self._picture = OpenImage(pair.image)
        self._stored: npt.NDArray[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), upright, from the picture's header."""
        return self._picture.size

    def mask(self, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) uint8 class indices of (top, left, bottom, right).

        The file is decoded once, and perhaps again where a later box reaches further down.
        """
        top, left, bottom, right = box
        return self._labels.encode(self._rows(bottom)[top:bottom, left:right], self._mask_path)

    def image(self, box: tuple[int, int, int, int], *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of (top, left, bottom, right), smaller as ``OpenImage.read`` says where ``shrink`` allows it."""
        return self._picture.read(box, shrink=shrink)

    def whole(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB and (H, W) uint8 class indices."""
        image = self._picture.read()
        return image, self._labels.encode(self._rows(self.size[0]), self._mask_path)

    def _rows(self, bottom: int) -> npt.NDArray[Any]:
        """Stored values, of the rows above ``bottom`` at least."""
        if self._stored is None or len(self._stored) < bottom:
            if self._read_stored is read_mask and bottom < self.size[0]:
                self._check(image_size(self._mask_path))
                self._stored = read_mask(self._mask_path, rows=bottom)
            else:
                self._stored = self._read_stored(self._mask_path)
                self._check(self._stored.shape[:2])
        return self._stored

    def _check(self, size: tuple[int, ...]) -> None:
        """Of the mask, against the picture's."""
        if size != self.size:
            sizes = [f"{width} x {height}" for height, width in (size, self.size)]
            turned = "; they are turned against each other (EXIF orientation?)" if size[::-1] == self.size else ""
            raise InputError(
                f"{self._mask_path}: is {sizes[0]} pixels, its picture {self._pair.image} is {sizes[1]}{turned}"
            )
