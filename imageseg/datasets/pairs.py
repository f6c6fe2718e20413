"""The files of a split: pairs of image and mask, reading them, their listing with its faults, and archives to download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError, counted
from imageseg.images import OpenImage, image_size, read_mask
from imageseg.labels import LabelSpace

ReadStored = Callable[[Path], npt.NDArray[Any]]
"""Reads a mask file as the label table expects it."""


class Pair(NamedTuple):
    """One image file and its mask file; ``mask`` is None where the ground truth is not public."""

    image: Path
    mask: Path | None
    name: str


class Listing(NamedTuple):
    """The files of a split on disk. A file that is missing is listed with its expected path."""

    pairs: list[Pair]
    without_mask: list[Pair]
    without_image: list[Pair]
    by_choice: str = ""
    """Description of what the dataset's own arguments exclude, empty if nothing."""

    def faults(self) -> list[tuple[str, Pair]]:
        """Return a description such as ``2 images without mask`` and the first such pair, for each of the two kinds that occurs."""
        kinds = (
            (self.without_mask, "image without mask", "images without mask"),
            (self.without_image, "mask without image", "masks without image"),
        )
        return [(counted(len(pairs), one, many), pairs[0]) for pairs, one, many in kinds if pairs]


class Archive(NamedTuple):
    """One archive that the owner of a dataset offers for download."""

    url: str
    md5: str
    """MD5 checksum of the file, 32 hexadecimal digits."""
    folder: str = ""
    """Folder below the root into which it is unpacked."""


class OpenFiles:
    """An image file and its mask file, decoded on demand and checked against each other and the labels.

    Args:
        pair: Image file and mask file.
        labels: Label table that converts stored values to class indices.
        read_stored: Function that reads a mask file as ``labels`` expects it.

    Raises:
        InputError: Here or when reading: the pair has no mask, a file is unreadable, the mask differs from its image in size, or
            the part that is read contains an undeclared value.
    """

    def __init__(self, pair: Pair, labels: LabelSpace, read_stored: ReadStored) -> None:
        if pair.mask is None:
            raise InputError(f"{pair.image}: this split has no masks; predict it, it cannot be trained on or scored")
        self._pair = pair
        self._mask_path = pair.mask
        self._labels = labels
        self._read_stored = read_stored
        self._image = OpenImage(pair.image)
        self._stored: npt.NDArray[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) after the EXIF rotation, from the image's header."""
        return self._image.size

    def mask(self, box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) uint8 class indices of (top, left, bottom, right).

        The file is decoded once, and again if a later box extends further down.
        """
        top, left, bottom, right = box
        return self._labels.encode(self._rows(bottom)[top:bottom, left:right], self._mask_path)

    def image(self, box: tuple[int, int, int, int], *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of (top, left, bottom, right), downscaled as ``OpenImage.read`` does if ``shrink`` allows it."""
        return self._image.read(box, shrink=shrink)

    def read(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """The complete image, (H, W, 3) uint8 RGB, and its mask, (H, W) uint8 class indices."""
        image = self._image.read()
        return image, self._labels.encode(self._rows(self.size[0]), self._mask_path)

    def _rows(self, bottom: int) -> npt.NDArray[Any]:
        """Stored values of at least the rows above ``bottom``."""
        if self._stored is None or len(self._stored) < bottom:
            if self._read_stored is read_mask and bottom < self.size[0]:
                self._check_size(image_size(self._mask_path))
                self._stored = read_mask(self._mask_path, rows=bottom)
            else:
                self._stored = self._read_stored(self._mask_path)
                self._check_size(self._stored.shape[:2])
        return self._stored

    def _check_size(self, size: tuple[int, ...]) -> None:
        if size != self.size:
            sizes = [f"{width} x {height}" for height, width in (size, self.size)]
            rotated = "; they are rotated against each other (EXIF orientation?)" if size[::-1] == self.size else ""
            raise InputError(
                f"{self._mask_path}: is {sizes[0]} pixels, its image {self._pair.image} is {sizes[1]}{rotated}"
            )
