"""The boundary F-score: how well predicted boundaries follow the true ones, within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.scoring.boundary.maps import (
    NO_CLASS,
    Map,
    PixelCounts,
    by_name,
    cut,
    highest_around,
    lowest_around,
    require_classes,
    require_same,
)
from imageseg.scoring.scores import FloatArray, mean, plain, ratio

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
# Sums of figures between 0 and 1 are kept in these units: a sum of whole numbers is the same in any order.
_UNIT = 2.0**-40


@dataclass(frozen=True)
class BoundaryFScores:
    """How well predicted boundaries follow the true ones, by picture.

    Attributes:
        f: (C,) float64 F-score, the mean over the pictures whose truth has the class; NaN where none has.
        mean_f: the mean over the classes that have one; NaN when none has.
        precision: (C,) the mean over the pictures where the class is predicted; of classes seen where they are not, low.
        recall: (C,) the mean over the pictures whose truth has the class.
        images: how many pictures were scored.
    """

    f: FloatArray
    mean_f: float
    precision: FloatArray
    recall: FloatArray
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, figures per class are by class name."""
        return {
            "mean_f": plain(self.mean_f),
            "f": by_name(names, self.f),
            "precision": by_name(names, self.precision),
            "recall": by_name(names, self.recall),
            "images": self.images,
        }


class BoundaryF:
    """F-score of boundary pixels within a tolerance: Csurka et al., BMVC 2013.

    A boundary pixel of a class is one of its pixels with a neighbour above, below, left or right of no or another class.
    Precision is the share of predicted boundary pixels with a true one no further away than the tolerance (Euclidean),
    recall the share of true ones with a predicted one; F is their harmonic mean, 0 where the prediction lacks the class.
    As in SegNet (arXiv:1511.00561), a picture counts for the classes of its truth: one that is only
    predicted spoils the boundaries of those below it.

    Args:
        num_classes: the number of classes, 1 to 255.
        share: the tolerance as a share of the picture's diagonal, not rounded; the paper's is 0.0075.
        pixels: the tolerance itself, the same for pictures of any size; unset, it follows from ``share``.
    """

    def __init__(self, num_classes: int, *, share: float = 0.0075, pixels: float | None = None) -> None:
        require_classes(num_classes)
        if not 0 <= share < math.inf or (pixels is not None and not 0 <= pixels < math.inf):
            raise ValueError(f"a tolerance is 0 or more, found share {share} and pixels {pixels}")
        self.num_classes = num_classes
        self.share = share
        self.pixels = pixels
        self.images = 0
        # Rows: F, precision, recall. Sums over pictures in _UNIT, and how many pictures.
        self._sums = np.zeros((3, num_classes), np.int64)
        self._pictures = np.zeros((3, num_classes), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Adds one picture; arguments and errors are those of ``BoundaryIoU.update``."""
        true, predicted = cut(classes, mask, self.num_classes)
        tolerance = self.share * math.hypot(*mask.shape) if self.pixels is None else self.pixels
        reach = _reach(min(tolerance, sum(mask.shape)))
        true_points, predicted_points = (_Points(labels, len(reach) // 2) for labels in (true, predicted))
        true_total, true_found = true_points.matched(predicted_points, reach, self.num_classes)
        predicted_total, predicted_found = predicted_points.matched(true_points, reach, self.num_classes)
        recall, precision = ratio(true_found, true_total), ratio(predicted_found, predicted_total)
        f = np.where(true_total > 0, ratio(2 * precision * recall, precision + recall, empty=0.0), math.nan)
        f[(true_total > 0) & (predicted_total == 0)] = 0.0
        figures = np.stack([f, precision, recall])
        self._sums += np.round(np.nan_to_num(figures) / _UNIT).astype(np.int64)
        self._pictures += ~np.isnan(figures)
        self.images += 1

    def merge(self, other: BoundaryF) -> BoundaryF:
        """Adds the sums of another to this one, and returns this one."""
        require_same(self, other, "num_classes", "share", "pixels")
        self._sums += other._sums
        self._pictures += other._pictures
        self.images += other.images
        return self

    def scores(self) -> BoundaryFScores:
        """The figures of everything counted so far."""
        f, precision, recall = ratio(self._sums * _UNIT, self._pictures)
        return BoundaryFScores(f, mean(f), precision, recall, self.images)


class _Points:
    """The boundary pixels of a map as sorted whole numbers, of which neighbours in a row of one class are successive.

    Args:
        labels: (H, W) uint8, 255 for no class.
        margin: numbers that stay free after each row, and rows after each class, so that no search runs into the next one.
    """

    def __init__(self, labels: Map, margin: int) -> None:
        height, width = labels.shape
        boundary = lowest_around(labels, _CROSS) != highest_around(labels, _CROSS, beyond=NO_CLASS)
        flat = np.flatnonzero(boundary & (labels != NO_CLASS))
        rows, columns = np.divmod(flat, width)
        self.stride = width + margin
        self.plane = (height + margin) * self.stride
        classes = labels.ravel()[flat].astype(np.int64)
        self.keys = np.sort(classes * self.plane + rows * self.stride + columns)

    def matched(
        self, others: _Points, reach: npt.NDArray[np.int64], num_classes: int
    ) -> tuple[PixelCounts, PixelCounts]:
        """(C,) points of each class, and (C,) of them with a point of ``others`` within reach.

        The rows around are searched from the nearest on, each time only for the points that have found none: a good
        prediction is done after a few.
        """
        ends = np.append(others.keys, np.iinfo(np.int64).max)
        open_points = self.keys
        middle = len(reach) // 2
        for offset in sorted(range(-middle, middle + 1), key=abs):
            low = open_points + (offset * self.stride - reach[middle + offset])
            found = ends[np.searchsorted(ends, low)] <= low + 2 * reach[middle + offset]
            open_points = open_points[~found]
        total, missed = (
            np.bincount(keys // self.plane, minlength=num_classes)[:num_classes] for keys in (self.keys, open_points)
        )
        return total, total - missed


def _reach(tolerance: float) -> npt.NDArray[np.int64]:
    """The disc of this radius, row by row: how many columns it reaches to each side."""
    squared = math.floor(tolerance**2)
    rows = math.isqrt(squared)
    return np.array([math.isqrt(squared - row * row) for row in range(-rows, rows + 1)], np.int64)
