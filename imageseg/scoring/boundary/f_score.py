"""Boundary F-score: agreement of predicted and true boundaries within a tolerance."""

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
    local_maximum,
    local_minimum,
    require_classes,
    require_same,
    validated_maps,
)
from imageseg.scoring.scores import FloatArray, json_number, mean, ratio

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
# Sums of scores between 0 and 1 are kept in these units: a sum of integers does not depend on the order.
_UNIT = 2.0**-40


@dataclass(frozen=True)
class BoundaryFScores:
    """Boundary F-scores over a split, averaged per image.

    Attributes:
        f: (C,) float64 F-score, averaged over the images whose ground truth has the class; NaN if none has.
        mean_f: Mean over the classes that have a score; NaN if none has.
        precision: (C,) boundary precision, averaged over the images in which the class is predicted.
        recall: (C,) boundary recall, averaged over the images whose ground truth has the class.
        images: Number of images.
    """

    f: FloatArray
    mean_f: float
    precision: FloatArray
    recall: FloatArray
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the scores for JSON: undefined values are None, per-class values are keyed by class name."""
        return {
            "mean_f": json_number(self.mean_f),
            "f": by_name(names, self.f),
            "precision": by_name(names, self.precision),
            "recall": by_name(names, self.recall),
            "images": self.images,
        }


class BoundaryF:
    """F-score of boundary pixels within a tolerance: Csurka et al., BMVC 2013.

    A boundary pixel of a class is a pixel of the class with a 4-neighbor of no class or another class. Precision is the
    share of predicted boundary pixels with a true one within the tolerance (Euclidean), recall the share of true ones with
    a predicted one; F is their harmonic mean, 0 if the prediction lacks the class. As in SegNet (arXiv:1511.00561), an
    image counts for the classes of its ground truth.

    Args:
        num_classes: Number of classes, 1 to 255.
        share: Tolerance as a share of the image diagonal, not rounded (0.0075 in the paper).
        pixels: Tolerance in pixels, the same for every image size. If not set, it follows from ``share``.
    """

    def __init__(self, num_classes: int, *, share: float = 0.0075, pixels: float | None = None) -> None:
        require_classes(num_classes)
        if not 0 <= share < math.inf or (pixels is not None and not 0 <= pixels < math.inf):
            raise ValueError(f"a tolerance is 0 or more, found share {share} and pixels {pixels}")
        self.num_classes = num_classes
        self.share = share
        self.pixels = pixels
        self.images = 0
        # Rows: F, precision, recall. Sums over images in units of _UNIT, and number of images.
        self._sums = np.zeros((3, num_classes), np.int64)
        self._counted_images = np.zeros((3, num_classes), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Add one image; see ``BoundaryIoU.update`` for arguments and errors."""
        true, predicted = validated_maps(classes, mask, self.num_classes)
        tolerance = self.share * math.hypot(*mask.shape) if self.pixels is None else self.pixels
        reach = _reach(min(tolerance, sum(mask.shape)))
        true_points, predicted_points = (_BoundaryPixels(labels, len(reach) // 2) for labels in (true, predicted))
        true_total, true_found = true_points.matched(predicted_points, reach, self.num_classes)
        predicted_total, predicted_found = predicted_points.matched(true_points, reach, self.num_classes)
        recall, precision = ratio(true_found, true_total), ratio(predicted_found, predicted_total)
        f = np.where(true_total > 0, ratio(2 * precision * recall, precision + recall, empty=0.0), math.nan)
        f[(true_total > 0) & (predicted_total == 0)] = 0.0
        scores = np.stack([f, precision, recall])
        self._sums += np.round(np.nan_to_num(scores) / _UNIT).astype(np.int64)
        self._counted_images += ~np.isnan(scores)
        self.images += 1

    def merge(self, other: BoundaryF) -> BoundaryF:
        """Add the sums of another accumulator in place and return this one."""
        require_same(self, other, "num_classes", "share", "pixels")
        self._sums += other._sums
        self._counted_images += other._counted_images
        self.images += other.images
        return self

    def scores(self) -> BoundaryFScores:
        """Compute the scores of everything counted so far."""
        f, precision, recall = ratio(self._sums * _UNIT, self._counted_images)
        return BoundaryFScores(f, mean(f), precision, recall, self.images)


class _BoundaryPixels:
    """Boundary pixels of a label map as sorted integers; neighbors in a row of one class are consecutive.

    Args:
        labels: (H, W) uint8 class indices, 255 for no class.
        margin: Unused integers after each row, and rows after each class, so that no search reaches the next one.
    """

    def __init__(self, labels: Map, margin: int) -> None:
        height, width = labels.shape
        boundary = local_minimum(labels, _CROSS) != local_maximum(labels, _CROSS, beyond=NO_CLASS)
        flat = np.flatnonzero(boundary & (labels != NO_CLASS))
        rows, columns = np.divmod(flat, width)
        self.stride = width + margin
        self.plane = (height + margin) * self.stride
        classes = labels.ravel()[flat].astype(np.int64)
        self.keys = np.sort(classes * self.plane + rows * self.stride + columns)

    def matched(
        self, others: _BoundaryPixels, reach: npt.NDArray[np.int64], num_classes: int
    ) -> tuple[PixelCounts, PixelCounts]:
        """Return (C,) pixels of each class, and (C,) of them with a pixel of ``others`` within reach.

        Rows are searched from the nearest on, each time only for the pixels that have no match yet: a good prediction
        needs few of them.
        """
        ends = np.append(others.keys, np.iinfo(np.int64).max)
        unmatched = self.keys
        middle = len(reach) // 2
        for offset in sorted(range(-middle, middle + 1), key=abs):
            low = unmatched + (offset * self.stride - reach[middle + offset])
            found = ends[np.searchsorted(ends, low)] <= low + 2 * reach[middle + offset]
            unmatched = unmatched[~found]
        total, missed = (
            np.bincount(keys // self.plane, minlength=num_classes)[:num_classes] for keys in (self.keys, unmatched)
        )
        return total, total - missed


def _reach(tolerance: float) -> npt.NDArray[np.int64]:
    """Return, for each row of a disc of this radius, how many columns it extends to each side."""
    squared = math.floor(tolerance**2)
    rows = math.isqrt(squared)
    return np.array([math.isqrt(squared - row * row) for row in range(-rows, rows + 1)], np.int64)
