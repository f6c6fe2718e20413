"""Windows: the part of a picture that becomes a training crop, drawn before anything is read, then read and resized once.

A window has the distribution of the usual steps, which are to scale the whole picture, to pad it up to the crop and to
crop at random; and of the picture only what lies under the window is touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.pipeline.regions import Box, OpenPair

Array = npt.NDArray[np.uint8]

PADDING = (124, 116, 104)  # the mean of ImageNet's pictures

_AREAS = 1.25  # pixels of the picture per pixel of the crop, from which on areas are taken
_TRIES = 10  # as mmsegmentation draws for cat_max_ratio
_LOOKED_AT = 128  # rows and columns of a window by which cat_max_ratio is judged
_SEARCHED = 1 << 20  # pixels of a mask in which a class is looked for first


@dataclass(frozen=True, kw_only=True)
class Window:
    """What becomes a crop: a box of the picture, brought to the crop's size, then turned, leant and mirrored.

    Args:
        box: in whole pixels of the picture. It may reach beyond the picture on all sides, and meets it somewhere.
        crop_size: height and width of the result.
        flip: whether the result is mirrored left to right.
        rotate: degrees by which the contents are turned clockwise, about the middle of what is seen of the picture.
        shear: degrees by which upright lines lean.
    """

    box: Box
    crop_size: tuple[int, int]
    flip: bool = False
    rotate: float = 0.0
    shear: float = 0.0

    def cut(self, pair: OpenPair) -> tuple[Array, Array]:
        """The crop: (h, w, 3) RGB, bilinear, or by areas where it shrinks, and its (h, w) mask, nearest; free to be written to.

        Beyond the picture, the picture is ``PADDING`` and the mask is ignored.
        """
        image, mask = self._turned(pair) if self.rotate or self.shear else self._upright(pair)
        return (cv2.flip(image, 1), cv2.flip(mask, 1)) if self.flip else (image, mask)  # type: ignore[return-value]

    def seen(self, size: tuple[int, int]) -> tuple[Box, Box]:
        """What is seen of a picture of this size, and where in the crop it lies, turning and mirroring aside."""
        (top, bottom), (row, row_end) = _seen(self.box.top, self.box.bottom, size[0], self.crop_size[0])
        (left, right), (column, column_end) = _seen(self.box.left, self.box.right, size[1], self.crop_size[1])
        return Box(top, left, bottom, right), Box(row, column, row_end, column_end)

    @property
    def shrink(self) -> float:
        """Pixels of the picture per pixel of the crop, 1 at least.

        Not of what is seen, whose place in the crop is rounded: a scale of 0.5 would then reach beyond 2 here and there, from
        where on readers may give other pixels than those of the picture.
        """
        height, width = self.box.bottom - self.box.top, self.box.right - self.box.left
        return max(1.0, min(height / self.crop_size[0], width / self.crop_size[1]))

    def _upright(self, pair: OpenPair) -> tuple[Array, Array]:
        seen, place = self.seen(pair.size)
        height, width = place.bottom - place.top, place.right - place.left
        image = _resized(pair.image(seen, shrink=self.shrink), (height, width))
        # INTER_NEAREST rounds down, which moves masks by up to a pixel against their pictures.
        mask = cv2.resize(pair.mask(seen), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        if (height, width) != self.crop_size:
            around = (place.top, self.crop_size[0] - place.bottom, place.left, self.crop_size[1] - place.right)
            image = cv2.copyMakeBorder(image, *around, cv2.BORDER_CONSTANT, value=PADDING)  # type: ignore[assignment]
            mask = cv2.copyMakeBorder(mask, *around, cv2.BORDER_CONSTANT, value=IGNORE)
        return image, mask  # type: ignore[return-value]

    def _turned(self, pair: OpenPair) -> tuple[Array, Array]:
        to_picture = self._to_picture(pair.size)
        height, width = self.crop_size
        corners = to_picture @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])  # x over y
        margin = math.ceil(self.shrink) + 1  # of neighbours that are interpolated with
        (left, top), (right, bottom) = (
            np.maximum(0, np.floor(corners.min(axis=1)).astype(int) - margin),
            np.minimum(pair.size[::-1], np.ceil(corners.max(axis=1)).astype(int) + margin),
        )
        region = Box(int(top), int(left), int(bottom), int(right))
        image = pair.image(region, shrink=self.shrink)
        fewer = int(self.shrink * min(image.shape[0] / (bottom - top), image.shape[1] / (right - left)))
        if fewer > 1:
            image = _resized(image, (-(-image.shape[0] // fewer), -(-image.shape[1] // fewer)))
        return (
            _warped(image, region, to_picture, self.crop_size, cv2.INTER_LINEAR, PADDING),
            _warped(pair.mask(region), region, to_picture, self.crop_size, cv2.INTER_NEAREST, (IGNORE,)),
        )

    def _to_picture(self, size: tuple[int, int]) -> npt.NDArray[np.float64]:
        """(2, 3): from (x, y, 1) of the crop to (x, y) of the picture, where whole numbers are the edges of pixels.

        Turned about the middle of what is seen, which so stays in sight; about the middle of a box that is mostly padding,
        all of a small picture could leave it.
        """
        seen, place = self.seen(size)
        turn, lean = math.radians(self.rotate), math.tan(math.radians(self.shear))
        rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        scaling = np.diag(
            [
                (self.box.right - self.box.left) / self.crop_size[1],
                (self.box.bottom - self.box.top) / self.crop_size[0],
            ]
        )
        linear = rotation @ np.array([[1.0, lean], [0.0, 1.0]]) @ scaling
        from_middle = np.array([place.left + place.right, place.top + place.bottom]) / 2
        to_middle = np.array([seen.left + seen.right, seen.top + seen.bottom]) / 2
        return np.column_stack([linear, to_middle - linear @ from_middle])


@dataclass(frozen=True, kw_only=True)
class WindowDraw:
    """Draws windows, as scaling the picture, padding it up to the crop and cropping it at random would place them.

    Args:
        crop_size: height and width of the crop.
        scale: pixels of the crop per pixel of the picture, drawn evenly between the two.
        flip: the chance of being mirrored.
        rotate: windows are turned by up to so many degrees either way.
        shear: and lean by up to so many.
        cat_max_ratio: of up to 10 places, the first is taken where the most frequent class fills less than this share of
            the labelled pixels, else the last. Judged by about 128 x 128 evenly spaced pixels of the mask, so that the
            share is known to about a hundredth.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float]
    flip: float
    rotate: float = 0.0
    shear: float = 0.0
    cat_max_ratio: float | None = None

    def __call__(self, pair: OpenPair, rng: np.random.Generator, *, focus: int | None = None) -> Window:
        """A window for this picture. With ``focus`` it lies around a pixel of that class, if the mask has any."""
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
            if self.cat_max_ratio is None or _is_mixed(pair.mask(window.seen(pair.size)[0]), self.cat_max_ratio):
                break
        return window


def _start(side: int, size: int, rng: np.random.Generator, pixel: int | None) -> int:
    """Where on one axis a window of ``side`` pixels begins: inside the picture, or around all of it.

    Around a ``pixel``: evenly among those places that show it.
    """
    if side > size:
        return -int(rng.integers(side - size, endpoint=True))
    if pixel is None:
        return int(rng.integers(size - side, endpoint=True))
    return int(rng.integers(max(0, pixel - side + 1), min(size - side, pixel), endpoint=True))


def _pixels_of(pair: OpenPair, index: int, rng: np.random.Generator) -> npt.NDArray[np.intp] | None:
    """(n, 2) rows and columns of a class; None if it does not occur.

    Of a large mask every n-th pixel is looked at, from a random one on, and all of them only where these have none.
    """
    height, width = pair.size
    mask = pair.mask(Box(0, 0, height, width))
    step = max(1, math.isqrt(height * width // _SEARCHED))
    first = rng.integers(step, size=2)
    found = np.argwhere(mask[first[0] :: step, first[1] :: step] == index) * step + first
    if not len(found) and step > 1:
        found = np.argwhere(mask == index)
    return found if len(found) else None


def _is_mixed(mask: Array, most: float) -> bool:
    """Whether the most frequent class fills less than this share of what is labelled."""
    step = max(1, mask.shape[0] // _LOOKED_AT), max(1, mask.shape[1] // _LOOKED_AT)
    counts = np.bincount(mask[:: step[0], :: step[1]].ravel(), minlength=256)[:IGNORE]
    labelled = counts.sum()
    return bool(labelled and counts.max() < most * labelled)


def _seen(start: int, end: int, size: int, crop: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """On one axis: what of the picture lies between, and where in the crop, which is a pixel at least."""
    first, last = max(0, start), min(size, end)
    per_pixel = crop / (end - start)
    place = min(crop - 1, round((first - start) * per_pixel))
    return (first, last), (place, max(place + 1, round((last - start) * per_pixel)))


def _resized(image: Array, size: tuple[int, int]) -> Array:
    """Bilinear, and by areas where both sides shrink to less than four fifths; always a copy.

    OpenCV takes areas by vector instructions only where both factors are whole; else it is slower than all other steps of
    a crop together. Down to a half, the mean of four bilinear samples per pixel takes its place, and above four fifths one
    sample is as near to it: both are 0.2 grey levels away on average on photographs, and about ten at edges.
    """
    shrink = image.shape[0] / size[0], image.shape[1] / size[1]
    if min(shrink) < _AREAS:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
    if max(shrink) < 2:
        image = cv2.resize(image, (2 * size[1], 2 * size[0]), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _warped(
    values: Array,
    region: Box,
    to_picture: npt.NDArray[np.float64],
    crop_size: tuple[int, int],
    interpolation: int,
    padding: tuple[int, ...],
) -> Array:
    """The crop out of what was read of a region, of which ``values`` may be a smaller picture."""
    per_pixel = [
        (region.right - region.left) / values.shape[1],
        (region.bottom - region.top) / values.shape[0],
    ]
    matrix = to_picture.copy()
    # From the middle of a crop's pixel to the middle of one of the values'.
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - (region.left, region.top)
    matrix /= np.array(per_pixel)[:, None]
    matrix[:, 2] -= 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(  # type: ignore[return-value]
        values, matrix, crop_size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=padding
    )
