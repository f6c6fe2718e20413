"""Pixel counts: the joint histogram of two label maps, and the counts of a split."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.scoring.cityscapes_instances import InstanceCounts

# OpenCV counts in float32, which represents every integer up to 2^24 exactly.
_MAX_EXACT = 2**24


@dataclass(frozen=True)
class ConfusionCounts:
    """Pixel counts of one pass over a split, from which every protocol computes its scores.

    Attributes:
        matrix: (C, C) int64 pixel counts; rows are the true classes, columns the predicted ones.
        missed: (C,) int64 pixels per true class whose prediction is no class; they count against their class.
        images: Number of images.
        per_image_miou: Mean over images of each image's own mIoU; NaN if no image has one.
        instances: Instance-weighted counts of Cityscapes, if instance maps were available.
    """

    matrix: npt.NDArray[np.int64]
    missed: npt.NDArray[np.int64]
    images: int
    per_image_miou: float = math.nan
    instances: InstanceCounts | None = None

    @property
    def correct(self) -> npt.NDArray[np.int64]:
        """(C,) correctly predicted pixels of each class."""
        correct: npt.NDArray[np.int64] = np.diag(self.matrix)
        return correct

    @property
    def true(self) -> npt.NDArray[np.int64]:
        """(C,) pixels of each true class."""
        true: npt.NDArray[np.int64] = self.matrix.sum(axis=1) + self.missed
        return true

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """(C,) valid pixels predicted as each class."""
        predicted: npt.NDArray[np.int64] = self.matrix.sum(axis=0)
        return predicted


def joint_histogram(true: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Count the pixels of each pair of (true value, predicted value), exactly.

    Look-up tables, ignored values and the search for undeclared values are then applied to this table of 65,536 numbers
    instead of to millions of pixels.

    Args:
        true: uint8 array of any shape.
        predicted: uint8 array of the same shape.

    Returns:
        (256, 256) int64; rows by ``true``, columns by ``predicted``.

    Raises:
        ValueError: The shapes differ or an array is not uint8.
    """
    if true.shape != predicted.shape or true.dtype != np.uint8 or predicted.dtype != np.uint8:
        raise ValueError(
            f"two uint8 arrays of one shape are needed, found {true.dtype} {true.shape}, {predicted.dtype} {predicted.shape}"
        )
    counts = np.zeros((256, 256), np.int64)
    flat_true, flat_predicted = true.reshape(1, -1), predicted.reshape(1, -1)
    for start in range(0, true.size, _MAX_EXACT):
        part = [np.ascontiguousarray(flat[:, start : start + _MAX_EXACT]) for flat in (flat_true, flat_predicted)]
        counts += cv2.calcHist(part, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return counts


def sum_columns_by_class(
    counts: npt.NDArray[np.int64], class_of_predicted: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Sum the columns of all values that stand for the same class; values that are no class go to one extra column.

    Args:
        counts: (R, V) counts by row and predicted value.
        class_of_predicted: (V,) class index of each value; anything outside 0 to ``num_classes - 1`` is no class.
        num_classes: Number of classes C.

    Returns:
        (R, C + 1) int64.
    """
    columns = np.where((class_of_predicted >= 0) & (class_of_predicted < num_classes), class_of_predicted, num_classes)
    summed = np.zeros((num_classes + 1, counts.shape[0]), np.int64)
    np.add.at(summed, columns, counts.T)
    return summed.T
