"""Reading a pair of files: whole or in parts, checked against each other and the labels. No torch, so that processes start fast."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.datasets.base import Pair
from imageseg.errors import InputError
from imageseg.images import OpenImage
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

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), upright, from the picture's header."""
        return self._picture.size

    def mask(self, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) uint8 class indices of (top, left, bottom, right); the file is decoded once."""
        top, left, bottom, right = box
        return self._labels.encode(self._stored[top:bottom, left:right], self._mask_path)

    def image(self, box: tuple[int, int, int, int], *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of (top, left, bottom, right), smaller as ``OpenImage.read`` says where ``shrink`` allows it."""
        return self._picture.read(box, shrink=shrink)

    def whole(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB and (H, W) uint8 class indices."""
        image = self._picture.read()
        return image, self._labels.encode(self._stored, self._mask_path)

    @cached_property
    def _stored(self) -> npt.NDArray[Any]:
        stored = self._read_stored(self._mask_path)
        if stored.shape[:2] != self.size:
            sizes = [f"{width} x {height}" for height, width in (stored.shape[:2], self.size)]
            turned = (
                "; they are turned against each other (EXIF orientation?)" if stored.shape[1::-1] == self.size else ""
            )
            raise InputError(
                f"{self._mask_path}: is {sizes[0]} pixels, its picture {self._pair.image} is {sizes[1]}{turned}"
            )
        return stored
