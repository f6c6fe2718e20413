"""Crops: a random window of an image and its mask is drawn first; only the pixels below it are then read and resized, once.

Windows have the same distribution as scaling the complete image, padding it to the crop size and cropping it at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE

Array = npt.NDArray[np.uint8]

PADDING = (124, 116, 104)  # mean color of ImageNet

_AREA_FROM = 1.25  # image pixels per crop pixel from which on pixel areas are averaged
_TRIES = 10  # number of crops that mmsegmentation tries for cat_max_ratio
_JUDGED_SIDE = 128  # rows and columns of a window from which cat_max_ratio is judged
_SEARCHED_PIXELS = 1 << 20  # pixels of a mask that are searched for a class at first


class Box(NamedTuple):
    """A rectangle in pixels of the image; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int


class OpenPair(Protocol):
    """An image and its mask, of which any part can be read."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W), after the EXIF rotation."""

    def mask(self, box: Box) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) class indices; must not be written to."""

    def image(self, box: Box, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) RGB of exactly this box; must not be written to.

        Args:
            box: Rectangle inside the image.
            shrink: Factor by which the caller will downscale the result. (h, w) is the size of the box, or a smaller size of
                the same aspect ratio (within one pixel) of at least 1 / shrink of it.
        """


@dataclass(frozen=True, kw_only=True)
class Window:
    """The part of an image that becomes a crop: a box that is resized to the crop size, then rotated, sheared and flipped.

    Args:
        box: Rectangle in whole pixels of the image. It may extend beyond the image on all sides, but overlaps it.
        crop_size: Height and width of the crop.
        flip: Whether the crop is flipped horizontally.
        rotate: Clockwise rotation of the contents in degrees, around the center of the visible part of the image.
        shear: Horizontal shear in degrees, the angle of originally vertical lines.
    """

    box: Box
    crop_size: tuple[int, int]
    flip: bool = False
    rotate: float = 0.0
    shear: float = 0.0

    def cut(self, pair: OpenPair) -> tuple[Array, Array]:
        """Read the crop: (h, w, 3) RGB and (h, w) mask, both writable.

        Images are resized bilinearly, or by averaging areas if they are downscaled; masks by nearest neighbor. Outside the
        image, the crop has the color ``PADDING`` and the mask is ignored.
        """
        image, mask = self._rotated(pair) if self.rotate or self.shear else self._axis_aligned(pair)
        return (cv2.flip(image, 1), cv2.flip(mask, 1)) if self.flip else (image, mask)  # type: ignore[return-value]

    def visible(self, size: tuple[int, int]) -> tuple[Box, Box]:
        """The visible part of an image of this (H, W), and its place in the crop before rotation, shear and flip."""
        (top, bottom), (row, row_end) = _visible_range(self.box.top, self.box.bottom, size[0], self.crop_size[0])
        (left, right), (column, column_end) = _visible_range(self.box.left, self.box.right, size[1], self.crop_size[1])
        return Box(top, left, bottom, right), Box(row, column, row_end, column_end)

    @property
    def shrink(self) -> float:
        """Image pixels per crop pixel, at least 1.

        Computed from the box, not from its visible part, whose place in the crop is rounded: at a scale of 0.5 the ratio would
        sometimes exceed 2, above which readers may return downscaled images.
        """
        height, width = self.box.bottom - self.box.top, self.box.right - self.box.left
        return max(1.0, min(height / self.crop_size[0], width / self.crop_size[1]))

    def _axis_aligned(self, pair: OpenPair) -> tuple[Array, Array]:
        visible, place = self.visible(pair.size)
        height, width = place.bottom - place.top, place.right - place.left
        image = _resized(pair.image(visible, shrink=self.shrink), (height, width))
        # INTER_NEAREST rounds down, which would shift masks by up to a pixel relative to their images.
        mask = cv2.resize(pair.mask(visible), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        if (height, width) != self.crop_size:
            margins = (place.top, self.crop_size[0] - place.bottom, place.left, self.crop_size[1] - place.right)
            image = cv2.copyMakeBorder(image, *margins, cv2.BORDER_CONSTANT, value=PADDING)  # type: ignore[assignment]
            mask = cv2.copyMakeBorder(mask, *margins, cv2.BORDER_CONSTANT, value=IGNORE)
        return image, mask  # type: ignore[return-value]

    def _rotated(self, pair: OpenPair) -> tuple[Array, Array]:
        to_image = self._to_image(pair.size)
        height, width = self.crop_size
        corners = to_image @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])  # x over y
        margin = math.ceil(self.shrink) + 1  # neighbors for the interpolation
        (left, top), (right, bottom) = (
            np.maximum(0, np.floor(corners.min(axis=1)).astype(int) - margin),
            np.minimum(pair.size[::-1], np.ceil(corners.max(axis=1)).astype(int) + margin),
        )
        region = Box(int(top), int(left), int(bottom), int(right))
        image = pair.image(region, shrink=self.shrink)
        factor = int(self.shrink * min(image.shape[0] / (bottom - top), image.shape[1] / (right - left)))
        if factor > 1:
            image = _resized(image, (-(-image.shape[0] // factor), -(-image.shape[1] // factor)))
        return (
            _warped(image, region, to_image, self.crop_size, cv2.INTER_LINEAR, PADDING),
            _warped(pair.mask(region), region, to_image, self.crop_size, cv2.INTER_NEAREST, (IGNORE,)),
        )

    def _to_image(self, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """(2, 3) matrix from (x, y, 1) of the crop to (x, y) of the image; whole numbers are the edges of pixels.

        The rotation is around the center of the visible part, which therefore stays visible. Around the center of a box that
        is mostly padding, a small image could leave the crop.
        """
        visible, place = self.visible(size)
        angle, shear = math.radians(self.rotate), math.tan(math.radians(self.shear))
        rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        scaling = np.diag(
            [
                (self.box.right - self.box.left) / self.crop_size[1],
                (self.box.bottom - self.box.top) / self.crop_size[0],
            ]
        )
        linear = rotation @ np.array([[1.0, shear], [0.0, 1.0]]) @ scaling
        crop_center = np.array([place.left + place.right, place.top + place.bottom]) / 2
        image_center = np.array([visible.left + visible.right, visible.top + visible.bottom]) / 2
        return np.column_stack([linear, image_center - linear @ crop_center])


@dataclass(frozen=True, kw_only=True)
class RandomWindow:
    """Draw random windows, distributed like scaling the image, padding it to the crop size and cropping it at random.

    Args:
        crop_size: Height and width of the crop.
        scale: Range of the scale, crop pixels per image pixel, from which it is drawn uniformly.
        flip: Probability of a horizontal flip.
        rotate: Maximum rotation in degrees, in either direction.
        shear: Maximum shear in degrees, in either direction.
        cat_max_ratio: Maximum share of the most frequent class among the labeled pixels. The first of up to 10 windows below it
            is used, otherwise the last one. Judged from about 128 x 128 evenly spaced pixels of the mask, which determines the
            share to about 0.01.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float]
    flip: float
    rotate: float = 0.0
    shear: float = 0.0
    cat_max_ratio: float | None = None

    def __call__(self, pair: OpenPair, rng: np.random.Generator, *, focus: int | None = None) -> Window:
        """A window of this image. With ``focus``, it contains a pixel of that class if the mask has any."""
        scale = rng.uniform(*self.scale)
        flip = bool(rng.random() < self.flip)
        rotate = float(rng.uniform(-self.rotate, self.rotate)) if self.rotate else 0.0
        shear = float(rng.uniform(-self.shear, self.shear)) if self.shear else 0.0
        sides = (max(1, round(self.crop_size[0] / scale)), max(1, round(self.crop_size[1] / scale)))
        pixels = None if focus is None else _pixels_of(pair, focus, rng)
        for _ in range(1 if self.cat_max_ratio is None else _TRIES):
            pixel = None if pixels is None else pixels[rng.integers(len(pixels))]
            top, left = (
                _start(side, size, rng, None if pixel is None else int(pixel[axis]))
                for axis, (side, size) in enumerate(zip(sides, pair.size, strict=True))
            )
            window = Window(
                box=Box(top, left, top + sides[0], left + sides[1]),
                crop_size=self.crop_size,
                flip=flip,
                rotate=rotate,
                shear=shear,
            )
            if self.cat_max_ratio is None or _is_mixed(pair.mask(window.visible(pair.size)[0]), self.cat_max_ratio):
                break
        return window


def _start(side: int, size: int, rng: np.random.Generator, pixel: int | None) -> int:
    """Random start of a window of ``side`` pixels on one axis: inside the image, or around the complete image.

    With ``pixel``, uniform among the starts whose window contains that pixel.
    """
    if side > size:
        return -int(rng.integers(side - size, endpoint=True))
    if pixel is None:
        return int(rng.integers(size - side, endpoint=True))
    return int(rng.integers(max(0, pixel - side + 1), min(size - side, pixel), endpoint=True))


def _pixels_of(pair: OpenPair, index: int, rng: np.random.Generator) -> npt.NDArray[np.intp] | None:
    """(n, 2) rows and columns of the pixels of a class; None if it does not occur.

    A large mask is searched on a coarse grid with a random offset first, and completely only if the grid has no such pixel.
    """
    height, width = pair.size
    mask = pair.mask(Box(0, 0, height, width))
    step = max(1, math.isqrt(height * width // _SEARCHED_PIXELS))
    first = rng.integers(step, size=2)
    found = np.argwhere(mask[first[0] :: step, first[1] :: step] == index) * step + first
    if not len(found) and step > 1:
        found = np.argwhere(mask == index)
    return found if len(found) else None


def _is_mixed(mask: Array, max_ratio: float) -> bool:
    """Whether the most frequent class fills less than this share of the labeled pixels."""
    step = max(1, mask.shape[0] // _JUDGED_SIDE), max(1, mask.shape[1] // _JUDGED_SIDE)
    counts = np.bincount(mask[:: step[0], :: step[1]].ravel(), minlength=256)[:IGNORE]
    labeled = counts.sum()
    return bool(labeled and counts.max() < max_ratio * labeled)


def _visible_range(start: int, end: int, size: int, crop: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """On one axis: the part of the image between start and end, and its place in the crop, at least one pixel."""
    first, last = max(0, start), min(size, end)
    per_pixel = crop / (end - start)
    place = min(crop - 1, round((first - start) * per_pixel))
    return (first, last), (place, max(place + 1, round((last - start) * per_pixel)))


def _resized(image: Array, size: tuple[int, int]) -> Array:
    """Resize bilinearly, or by averaging areas if both sides are downscaled to less than 80 %; always a copy.

    OpenCV averages areas with vector instructions only for integer factors; otherwise that is slower than all other steps of a
    crop together. Down to 50 %, the mean of four bilinear samples per pixel replaces it, and above 80 % a single sample is as
    close to it: both differ by 0.2 gray levels on average on photographs, and by about ten at edges.
    """
    shrink = image.shape[0] / size[0], image.shape[1] / size[1]
    if min(shrink) < _AREA_FROM:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    if max(shrink) < 2:
        image = cv2.resize(image, (2 * size[1], 2 * size[0]), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _warped(
    values: Array,
    region: Box,
    to_image: npt.NDArray[np.float64],
    crop_size: tuple[int, int],
    interpolation: int,
    padding: tuple[int, ...],
) -> Array:
    """Warp the values of a region to a crop. The values may have a lower resolution than the region."""
    per_pixel = [
        (region.right - region.left) / values.shape[1],
        (region.bottom - region.top) / values.shape[0],
    ]
    matrix = to_image.copy()
    # From pixel centers of the crop to pixel centers of the values
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - (region.left, region.top)
    matrix /= np.array(per_pixel)[:, None]
    matrix[:, 2] -= 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(  # type: ignore[return-value]
        values, matrix, crop_size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=padding
    )
