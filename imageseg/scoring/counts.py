"""Counting pixels: how often each pair of (true value, predicted value) occurs in one picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

# OpenCV counts in float32, which holds every whole number up to here.
_EXACT = 2**24


def joint_histogram(true: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The number of pixels for each pair of values, exact.

    Whatever the values mean can be applied to this table of 65,536 numbers afterwards, instead of to millions of pixels:
    look-up tables, ignored values, the search for values that nobody declared.

    Args:
        true: uint8 of any shape.
        predicted: uint8 of the same shape.

    Returns:
        (256, 256) int64, rows by ``true``, columns by ``predicted``.
    """
    if true.shape != predicted.shape or true.dtype != np.uint8 or predicted.dtype != np.uint8:
        raise ValueError(
            f"two uint8 arrays of one shape are needed, found {true.dtype} {true.shape}, {predicted.dtype} {predicted.shape}"
        )
    counts = np.zeros((256, 256), np.int64)
    flat_true, flat_predicted = true.reshape(1, -1), predicted.reshape(1, -1)
    for start in range(0, true.size, _EXACT):
        part = [np.ascontiguousarray(flat[:, start : start + _EXACT]) for flat in (flat_true, flat_predicted)]
        counts += cv2.calcHist(part, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    return counts


def fold(
    counts: npt.NDArray[np.int64], class_of_predicted: npt.NDArray[np.integer], num_classes: int
) -> npt.NDArray[np.int64]:
    """Sums the columns that stand for one class; whatever is no class goes to one more column.

    Args:
        counts: (R, V) by row and predicted value.
        class_of_predicted: (V,) the class index of each value; anything outside 0 to ``num_classes - 1`` is no class.
        num_classes: C.

    Returns:
        (R, C + 1) int64.
    """
    columns = np.where((class_of_predicted >= 0) & (class_of_predicted < num_classes), class_of_predicted, num_classes)
    folded = np.zeros((num_classes + 1, counts.shape[0]), np.int64)
    np.add.at(folded, columns, counts.T)
    return folded.T
