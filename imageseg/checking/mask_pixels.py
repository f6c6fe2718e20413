"""Facts about the pixels of one mask that need no label table: its values, their frequencies and their neighborhoods."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Color = tuple[int, int, int]
Values = npt.NDArray[Any]

MAX_VALUES = 300
"""Number of values kept per mask, more than any label table declares; further values are only counted."""

_NEIGHBORHOOD = np.ones((3, 3), np.uint8)


class ValueFacts(NamedTuple):
    """One stored value in one mask."""

    value: int
    """Stored id, or RGB color as a single integer (see ``rgb_to_int``)."""
    pixels: int
    inner: int
    """Number of its pixels whose 3 x 3 neighborhood holds no other value; 0 for lines of one or two pixels width."""
    between: int
    """Number of its pixels that touch both a lower and a higher value, as every pixel of an interpolated border does."""

    @property
    def is_thin(self) -> bool:
        """Whether the value forms lines or specks only."""
        return self.inner <= self.pixels // 10

    @property
    def is_blend(self) -> bool:
        """Whether the value looks interpolated: thin, with a lower value on one side and a higher one on the other."""
        return self.is_thin and 2 * self.between >= self.pixels


class PixelFacts(NamedTuple):
    """All values of one mask."""

    values: tuple[ValueFacts, ...]
    """The ``MAX_VALUES`` most frequent values, sorted by value."""
    distinct: int
    """Number of different values."""
    flat: float
    """Share of pixels whose 3 x 3 neighborhood holds one value: near 1 in masks, near 0 in photos."""
    blended: float
    """Share of border pixels that lie between a lower and a higher value."""
    touching: frozenset[tuple[int, int]]
    """Pairs of adjacent values, lower first; recorded only for masks of at most four values."""


def pixel_facts(stored: Values) -> PixelFacts:
    """Count the values of a mask of (H, W) integer ids or (H, W, 3) uint8 colors."""
    lowest, highest = _local_extremes(stored)
    between = (lowest < stored) & (stored < highest)
    border = lowest != highest
    if stored.ndim == 3:
        between, border, stored = np.any(between, axis=2), np.any(border, axis=2), rgb_array_to_ints(stored)
    values, pixels = _count(stored)
    inner, blends = _count_of(stored[~border], values), _count_of(stored[between], values)
    kept = np.sort(np.argsort(pixels, kind="stable")[::-1][:MAX_VALUES])
    rows = zip(values[kept], pixels[kept], inner[kept], blends[kept], strict=True)
    return PixelFacts(
        tuple(ValueFacts(*map(int, row)) for row in rows),
        distinct=len(values),
        flat=1 - float(border.mean()),
        blended=float(between.sum() / max(border.sum(), 1)),
        touching=_touching(stored) if len(values) <= 4 else frozenset(),
    )


def flatness(gray: npt.NDArray[np.uint8]) -> float:
    """Return the share of pixels of an (H, W) gray image whose 3 x 3 neighborhood holds one value."""
    lowest, highest = _local_extremes(gray)
    return float((lowest == highest).mean())


def rgb_to_int(color: Color) -> int:
    """Return an RGB color as one integer: ``red << 16 | green << 8 | blue``."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def int_to_rgb(value: int) -> Color:
    """Return the RGB color that ``rgb_to_int`` turned into this integer."""
    return value >> 16, value >> 8 & 255, value & 255


def rgb_array_to_ints(colors: Values) -> npt.NDArray[np.int32]:
    """Return (H, W, 3) RGB colors as (H, W) integers, each as ``rgb_to_int`` gives it."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    ints: npt.NDArray[np.int32] = red << 16 | green << 8 | blue
    return ints


def _local_extremes(stored: Values) -> tuple[Values, Values]:
    """Return the lowest and the highest value in the 3 x 3 neighborhood of each pixel, channel by channel."""
    # OpenCV erodes no 32-bit integers; every id that a label table can declare is exact as float64.
    supported = stored if stored.dtype in (np.uint8, np.uint16) else stored.astype(np.float64)
    return cv2.erode(supported, _NEIGHBORHOOD), cv2.dilate(supported, _NEIGHBORHOOD)


def _count(stored: Values) -> tuple[Values, Values]:
    """Return the sorted values of an array and the number of times each occurs."""
    if stored.dtype not in (np.uint8, np.uint16):
        return np.unique(stored, return_counts=True)
    counts = np.bincount(stored.ravel(), minlength=1)
    values = np.flatnonzero(counts)
    return values, counts[values]


def _count_of(part: Values, values: Values) -> Values:
    """Return how often each of ``values`` (sorted, a superset of those in ``part``) occurs in ``part``."""
    present, counts = _count(part)
    found = np.zeros(len(values), np.int64)
    found[np.searchsorted(values, present)] = counts
    return found


def _touching(stored: Values) -> frozenset[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for one, other in ((stored[:, :-1], stored[:, 1:]), (stored[:-1], stored[1:])):
        differ = one != other
        low, high = np.minimum(one, other)[differ], np.maximum(one, other)[differ]
        pairs |= set(zip(low.tolist(), high.tolist(), strict=True))
    return frozenset(pairs)
