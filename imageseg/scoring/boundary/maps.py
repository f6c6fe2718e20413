"""Shared parts of the boundary metrics: validated label maps, and local minima and maxima."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.scores import FloatArray, json_number

Map = npt.NDArray[np.uint8]
PixelCounts = npt.NDArray[np.int64]

NO_CLASS = 255


def validated_maps(classes: Map, mask: Map, num_classes: int) -> tuple[Map, Map]:
    """Return ground truth and prediction, with 255 for no class and, in both, wherever the ground truth is ignored."""
    if classes.ndim != 2 or classes.shape != mask.shape or classes.size == 0:
        raise ValueError(
            f"prediction and ground truth must have the same shape (H, W), found {classes.shape} and {mask.shape}"
        )
    if classes.dtype != np.uint8 or mask.dtype != np.uint8:
        raise ValueError(f"classes and mask must be uint8, found {classes.dtype} and {mask.dtype}")
    true = np.ascontiguousarray(mask)
    wrong = true[(true >= num_classes) & (true != IGNORE)]
    if wrong.size:
        raise ValueError(
            f"the ground truth contains {wrong[0]}, which is neither a class (0 to {num_classes - 1}) nor ignored"
        )
    return true, np.where((true == IGNORE) | (classes >= num_classes), np.uint8(NO_CLASS), classes)


def local_minimum(labels: Map, window: Map) -> Map:
    """Return the minimum over the window around each pixel."""
    return np.asarray(cv2.erode(labels, window), np.uint8)


def local_maximum(labels: Map, window: Map, *, beyond: int) -> Map:
    """Return the maximum over the window around each pixel; ``beyond`` is the value outside the image."""
    dilated = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=(beyond,))
    return np.asarray(dilated, np.uint8)


def square_window(radius: int, labels: Map) -> Map:
    """Return a square window that extends ``radius`` pixels to each side, at most the size of the image."""
    side = 2 * min(radius, max(labels.shape)) + 1
    return np.ones((side, side), np.uint8)


def by_name(names: Sequence[str], values: FloatArray) -> dict[str, float | None]:
    """Return per-class values by class name for JSON; undefined ones are None."""
    return dict(zip(names, map(json_number, values), strict=True))


def require_classes(num_classes: int) -> None:
    """Check the number of classes.

    Raises:
        ValueError: It is outside 1 to 255.
    """
    if not 1 <= num_classes <= 255:
        raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")


def require_same(one: object, other: object, *settings: str) -> None:
    """Check that two accumulators agree in the named attributes.

    Raises:
        ValueError: They differ in one of them.
    """
    for setting in settings:
        if getattr(one, setting) != getattr(other, setting):
            raise ValueError(f"only counts with the same {setting} can be merged")
