"""What the pixels of a mask say without its label table: which values, how many, and whether they sit on borders only."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

MOST_VALUES = 300
"""More different values than any label table can hold: the rest are counted, not kept."""

_SQUARE = np.ones((3, 3), np.uint8)


class ValueFacts(NamedTuple):
    """One stored value in one mask."""

    value: int
    """The id, or the colour as ``red << 16 | green << 8 | blue``."""
    pixels: int
    inner: int
    """Pixels whose 3 x 3 surroundings hold nothing else; none for lines of one or two pixels."""
    between: int
    """Pixels that touch both a lower and a higher value, as every pixel of a smoothed border does."""

    @property
    def is_thin(self) -> bool:
        """Whether the value forms lines or specks only."""
        return self.inner <= self.pixels // 10

    @property
    def is_blend(self) -> bool:
        """Whether it looks like the average of its neighbours: thin, with a lower value on one side, a higher on the other."""
        return self.is_thin and 2 * self.between >= self.pixels


class PixelFacts(NamedTuple):
    """All values of one mask."""

    values: tuple[ValueFacts, ...]
    """The most frequent ``MOST_VALUES``, by value."""
    distinct: int
    flat: float
    """The share of pixels whose 3 x 3 surroundings are of one value: near 1 in masks, near 0 in photos."""
    blended: float
    """Of the pixels at a border, the share that lies between a lower and a higher value."""
    touching: frozenset[tuple[int, int]]
    """Which values lie side by side, lower first; kept where there are at most four values."""


def pixel_facts(stored: Values) -> PixelFacts:
    """Counts the values of a mask: (H, W) integers, or (H, W, 3) uint8 colours."""
    lowest, highest = _extremes(stored)
    between = (lowest < stored) & (stored < highest)
    border = lowest != highest
    if stored.ndim == 3:
        between, border, stored = np.any(between, axis=2), np.any(border, axis=2), packed(stored)
    values, pixels = _counts(stored)
    inner, blends = _counts_of(stored[~border], values), _counts_of(stored[between], values)
    kept = np.sort(np.argsort(pixels, kind="stable")[::-1][:MOST_VALUES])
    rows = zip(values[kept], pixels[kept], inner[kept], blends[kept], strict=True)
    return PixelFacts(
        tuple(ValueFacts(*map(int, row)) for row in rows),
        distinct=len(values),
        flat=1 - float(border.mean()),
        blended=float(between.sum() / max(border.sum(), 1)),
        touching=_touching(stored) if len(values) <= 4 else frozenset(),
    )


def flatness(grey: npt.NDArray[np.uint8]) -> float:
    """The share of pixels of an (H, W) grey picture whose 3 x 3 surroundings are of one value."""
    lowest, highest = _extremes(grey)
    return float((lowest == highest).mean())


def packed(colors: Values) -> npt.NDArray[np.int32]:
    """(H, W, 3) colours as (H, W) single numbers, red uppermost."""
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    together: npt.NDArray[np.int32] = red << 16 | green << 8 | blue
    return together


def unpacked(color: int) -> tuple[int, int, int]:
    """The colour of a packed number."""
    return color >> 16, color >> 8 & 255, color & 255


def _extremes(stored: Values) -> tuple[Values, Values]:
    """The lowest and highest value in the 3 x 3 surroundings of each pixel, channel by channel."""
    # OpenCV knows no 32-bit integers here; all ids that can be declared, and then some, are exact as float64.
    plain = stored if stored.dtype in (np.uint8, np.uint16) else stored.astype(np.float64)
    return cv2.erode(plain, _SQUARE), cv2.dilate(plain, _SQUARE)


def _counts(stored: Values) -> tuple[Values, Values]:
    if stored.dtype not in (np.uint8, np.uint16):
        return np.unique(stored, return_counts=True)
    counts = np.bincount(stored.ravel(), minlength=1)
    values = np.flatnonzero(counts)
    return values, counts[values]


def _counts_of(part: Values, values: Values) -> Values:
    """How often each of ``values`` (sorted, and holding all of ``part``) is in ``part``."""
    there, counts = _counts(part)
    found = np.zeros(len(values), np.int64)
    found[np.searchsorted(values, there)] = counts
    return found


def _touching(stored: Values) -> frozenset[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for one, other in ((stored[:, :-1], stored[:, 1:]), (stored[:-1], stored[1:])):
        differ = one != other
        low, high = np.minimum(one, other)[differ], np.maximum(one, other)[differ]
        pairs |= set(zip(low.tolist(), high.tolist(), strict=True))
    return frozenset(pairs)
