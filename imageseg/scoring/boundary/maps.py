"""What the boundary scores share: truth and prediction as maps of one meaning, and the extremes around each pixel."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.scores import FloatArray, plain

Map = npt.NDArray[np.uint8]
PixelCounts = npt.NDArray[np.int64]

NO_CLASS = 255


def cut(classes: Map, mask: Map, num_classes: int) -> tuple[Map, Map]:
    """Truth and prediction, with 255 wherever there is no class or the truth is ignored."""
    if classes.ndim != 2 or classes.shape != mask.shape or classes.size == 0:
        raise ValueError(f"prediction and truth must be (H, W) alike, found {classes.shape} and {mask.shape}")
    if classes.dtype != np.uint8 or mask.dtype != np.uint8:
        raise ValueError(f"classes and mask must be uint8, found {classes.dtype} and {mask.dtype}")
    true = np.ascontiguousarray(mask)
    wrong = true[(true >= num_classes) & (true != IGNORE)]
    if wrong.size:
        raise ValueError(f"the truth holds {wrong[0]}, which is neither a class (0 to {num_classes - 1}) nor ignored")
    return true, np.where((true == IGNORE) | (classes >= num_classes), np.uint8(NO_CLASS), classes)


def lowest_around(labels: Map, window: Map) -> Map:
    """The smallest value around each pixel."""
    return np.asarray(cv2.erode(labels, window), np.uint8)


def highest_around(labels: Map, window: Map, *, beyond: int) -> Map:
    """The largest value around each pixel, where ``beyond`` lies outside the picture."""
    dilated = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=(beyond,))
    return np.asarray(dilated, np.uint8)


def square_window(radius: int, labels: Map) -> Map:
    """A window that reaches ``radius`` pixels to each side; further than the picture reaches makes no difference."""
    side = 2 * min(radius, max(labels.shape)) + 1
    return np.ones((side, side), np.uint8)


def by_name(names: Sequence[str], figures: FloatArray) -> dict[str, float | None]:
    """FloatArray per class for JSON: undefined ones are None."""
    return dict(zip(names, map(plain, figures), strict=True))


def require_classes(num_classes: int) -> None:
    """Raises:
    ValueError: more or fewer classes than eight bits hold beside 255.
    """
    if not 1 <= num_classes <= 255:
        raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")


def require_same(one: object, other: object, *settings: str) -> None:
    """Raises:
    ValueError: the two differ in one of these attributes.
    """
    for setting in settings:
        if getattr(one, setting) != getattr(other, setting):
            raise ValueError(f"only counts of the same {setting} can be merged")
