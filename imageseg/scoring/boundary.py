"""Scores of boundaries: boundary IoU, the trimap curve, and the boundary F-score.

In boundary IoU and the F-score an ignored pixel belongs to no class, neither in the truth nor in the prediction, and nor
does anything outside the picture. So the edge of an ignored region and the picture's border count as boundary, for both
sides alike: whatever is predicted below ignored pixels changes nothing, and a perfect prediction scores 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.counting import fold, joint_histogram
from imageseg.scoring.dialects import miou_over
from imageseg.scoring.scores import Figures, mean, plain, ratio

RADII = (1, 2, 4, 8, 16, 32)

_NO_CLASS = 255
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
# Sums of figures between 0 and 1 are kept in these units: a sum of whole numbers is the same in any order.
_UNIT = 2.0**-40

Map = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BoundaryIoUScores:
    """Boundary IoU over a whole split.

    Attributes:
        iou: (C,) float64; NaN for a class in neither truth nor prediction.
        miou: the mean over the classes that have one; NaN when none has.
        images: how many pictures were scored.
    """

    iou: Figures
    miou: float
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, IoU is by class name."""
        return {"miou": plain(self.miou), "iou": _by_name(names, self.iou), "images": self.images}


class BoundaryIoU:
    """IoU of the masks' inner bands alone: Cheng et al., CVPR 2021 (arXiv:2103.16562).

    The band of a class is what erosion takes from its mask: its pixels that have a pixel of no or another class within
    ``d`` rows and ``d`` columns. The paper erodes ``d`` times by 3 x 3 with zeros around the picture; that is the same.
    Intersections and unions of bands are summed over the split before they are divided.

    Args:
        num_classes: the number of classes, 1 to 255.
        share: ``d`` as a share of the picture's diagonal, rounded, at least 1; the paper's is 0.02.
        pixels: ``d`` itself, the same for pictures of any size; unset, it follows from ``share``.
    """

    def __init__(self, num_classes: int, *, share: float = 0.02, pixels: int | None = None) -> None:
        _require_classes(num_classes)
        if not (share > 0 and math.isfinite(share)) or (pixels is not None and pixels < 1):
            raise ValueError(f"a band is at least one pixel wide, found share {share} and pixels {pixels}")
        self.num_classes = num_classes
        self.share = share
        self.pixels = pixels
        self.images = 0
        # Rows: pixels in both bands, in the truth's, in the prediction's.
        self._counts = np.zeros((3, num_classes), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Adds one picture.

        Args:
            classes: (H, W) uint8 class indices, the prediction; any other value is no class.
            mask: (H, W) uint8 class indices, the truth; 255 is ignored.

        Raises:
            ValueError: shapes or types are others, or the truth holds an index that is no class.
        """
        true, predicted = _cut(classes, mask, self.num_classes)
        width = max(1, round(self.share * math.hypot(*mask.shape))) if self.pixels is None else self.pixels
        pairs = joint_histogram(_band(true, width), _band(predicted, width))
        counts = np.stack([np.diag(pairs), pairs.sum(axis=1), pairs.sum(axis=0)])
        self._counts += counts[:, : self.num_classes]
        self.images += 1

    def merge(self, other: BoundaryIoU) -> BoundaryIoU:
        """Adds the counts of another to this one, and returns this one."""
        _require_same(self, other, "num_classes", "share", "pixels")
        self._counts += other._counts
        self.images += other.images
        return self

    def scores(self) -> BoundaryIoUScores:
        """The figures of everything counted so far."""
        both, true, predicted = self._counts
        iou = ratio(both, true + predicted - both)
        return BoundaryIoUScores(iou, mean(iou), self.images)


@dataclass(frozen=True)
class TrimapScores:
    """Scores near the truth's boundaries, by distance; the last radius is the widest band.

    Attributes:
        radii: (R,) pixels, rising.
        miou: (R,) float64 mIoU over the pixels within each radius; NaN where there are none.
        pixel_accuracy: (R,) float64 correct over all pixels within each radius.
        iou: (R, C) float64.
        pixels: (R,) int64 pixels within each radius.
        images: how many pictures were scored.
    """

    radii: tuple[int, ...]
    miou: Figures
    pixel_accuracy: Figures
    iou: Figures
    pixels: Counts
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: one entry per radius; undefined figures are None, IoU is by class name."""
        curve = [
            {
                "radius": radius,
                "miou": plain(self.miou[index]),
                "pixel_accuracy": plain(self.pixel_accuracy[index]),
                "pixels": int(self.pixels[index]),
                "iou": _by_name(names, self.iou[index]),
            }
            for index, radius in enumerate(self.radii)
        ]
        return {"curve": curve, "images": self.images}


class TrimapCurve:
    """mIoU and pixel accuracy within r pixels of the truth's boundaries (Kohli et al., IJCV 2009).

    A pixel is within r when a valid pixel of another class lies within r rows and r columns of it: with r = 1, both sides
    of every boundary. Distances are measured across ignored pixels, because VOC draws a ring of them around each object;
    the edge of an ignored region is itself no boundary, and nor is the picture's border. DeepLab's curves (Chen et al.,
    arXiv:1412.7062) take any void pixel for a boundary, which only VOC's masks allow.

    Args:
        num_classes: the number of classes, 1 to 255.
        radii: in pixels, each at least 1; sorted, and counted once.
    """

    def __init__(self, num_classes: int, *, radii: Sequence[int] = RADII) -> None:
        _require_classes(num_classes)
        if not radii or min(radii) < 1:
            raise ValueError(f"radii must be pixels, each at least 1, found {list(radii)}")
        self.num_classes = num_classes
        self.radii = tuple(sorted(set(map(int, radii))))
        self.images = 0
        # (R, C, C + 1): pixels whose smallest radius it is; rows are the truth, the last column is for no class.
        self._rings = np.zeros((len(self.radii), num_classes, num_classes + 1), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Adds one picture; arguments and errors are those of ``BoundaryIoU.update``."""
        true, predicted = _cut(classes, mask, self.num_classes)
        # The smallest and the largest valid class around each pixel; of ignored ones, 255 and 0 change neither.
        smallest, largest = true, np.where(true == _NO_CLASS, np.uint8(0), true)
        far, reached = true, 0  # ``far`` holds the truth where no smaller radius reaches, 255 elsewhere
        for ring, radius in enumerate(self.radii):
            window = _square(radius - reached, true)
            smallest, largest = _smallest(smallest, window), _largest(largest, window, beyond=0)
            alike = smallest == largest
            near = np.where(alike, np.uint8(_NO_CLASS), far)
            pairs = joint_histogram(near, predicted)
            self._rings[ring] += fold(pairs[: self.num_classes], np.arange(256), self.num_classes)
            far = np.where(alike, far, np.uint8(_NO_CLASS))
            reached = radius
        self.images += 1

    def merge(self, other: TrimapCurve) -> TrimapCurve:
        """Adds the counts of another to this one, and returns this one."""
        _require_same(self, other, "num_classes", "radii")
        self._rings += other._rings
        self.images += other.images
        return self

    def scores(self) -> TrimapScores:
        """The figures of everything counted so far."""
        within = self._rings.cumsum(axis=0)
        correct = np.diagonal(within, axis1=1, axis2=2)
        true, predicted = within.sum(axis=2), within[:, :, :-1].sum(axis=1)
        pixels = true.sum(axis=1)
        return TrimapScores(
            radii=self.radii,
            miou=miou_over("union", correct, true, predicted),
            pixel_accuracy=ratio(correct.sum(axis=1), pixels),
            iou=ratio(correct, true + predicted - correct),
            pixels=pixels,
            images=self.images,
        )


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

    f: Figures
    mean_f: float
    precision: Figures
    recall: Figures
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, figures per class are by class name."""
        return {
            "mean_f": plain(self.mean_f),
            "f": _by_name(names, self.f),
            "precision": _by_name(names, self.precision),
            "recall": _by_name(names, self.recall),
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
        _require_classes(num_classes)
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
        true, predicted = _cut(classes, mask, self.num_classes)
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
        _require_same(self, other, "num_classes", "share", "pixels")
        self._sums += other._sums
        self._pictures += other._pictures
        self.images += other.images
        return self

    def scores(self) -> BoundaryFScores:
        """The figures of everything counted so far."""
        f, precision, recall = ratio(self._sums * _UNIT, self._pictures)
        return BoundaryFScores(f, mean(f), precision, recall, self.images)


class Boundary:
    """All three at their papers' settings.

    Args:
        num_classes: the number of classes, 1 to 255.
    """

    def __init__(self, num_classes: int) -> None:
        self.iou = BoundaryIoU(num_classes)
        self.trimap = TrimapCurve(num_classes)
        self.f = BoundaryF(num_classes)

    def update(self, classes: Map, mask: Map) -> None:
        """Adds one picture; arguments and errors are those of ``BoundaryIoU.update``."""
        self.iou.update(classes, mask)
        self.trimap.update(classes, mask)
        self.f.update(classes, mask)

    def merge(self, other: Boundary) -> Boundary:
        """Adds the counts of another to this one, and returns this one."""
        self.iou.merge(other.iou)
        self.trimap.merge(other.trimap)
        self.f.merge(other.f)
        return self

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON, by the name of each part."""
        return {
            "boundary_iou": self.iou.scores().to_dict(names),
            "trimap": self.trimap.scores().to_dict(names),
            "boundary_f": self.f.scores().to_dict(names),
        }


class _Points:
    """The boundary pixels of a map as sorted whole numbers, of which neighbours in a row of one class are successive.

    Args:
        labels: (H, W) uint8, 255 for no class.
        margin: numbers that stay free after each row, and rows after each class, so that no search runs into the next one.
    """

    def __init__(self, labels: Map, margin: int) -> None:
        height, width = labels.shape
        boundary = _smallest(labels, _CROSS) != _largest(labels, _CROSS, beyond=_NO_CLASS)
        flat = np.flatnonzero(boundary & (labels != _NO_CLASS))
        rows, columns = np.divmod(flat, width)
        self.stride = width + margin
        self.plane = (height + margin) * self.stride
        classes = labels.ravel()[flat].astype(np.int64)
        self.keys = np.sort(classes * self.plane + rows * self.stride + columns)

    def matched(self, others: _Points, reach: npt.NDArray[np.int64], num_classes: int) -> tuple[Counts, Counts]:
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


def _cut(classes: Map, mask: Map, num_classes: int) -> tuple[Map, Map]:
    """Truth and prediction, with 255 wherever there is no class or the truth is ignored."""
    if classes.ndim != 2 or classes.shape != mask.shape or classes.size == 0:
        raise ValueError(f"prediction and truth must be (H, W) alike, found {classes.shape} and {mask.shape}")
    if classes.dtype != np.uint8 or mask.dtype != np.uint8:
        raise ValueError(f"classes and mask must be uint8, found {classes.dtype} and {mask.dtype}")
    true = np.ascontiguousarray(mask)
    wrong = true[(true >= num_classes) & (true != IGNORE)]
    if wrong.size:
        raise ValueError(f"the truth holds {wrong[0]}, which is neither a class (0 to {num_classes - 1}) nor ignored")
    return true, np.where((true == IGNORE) | (classes >= num_classes), np.uint8(_NO_CLASS), classes)


def _band(labels: Map, width: int) -> Map:
    """The labels within ``width`` of the edge of their own class, 255 elsewhere; all classes at once."""
    square = _square(width, labels)
    inside = _smallest(labels, square) == _largest(labels, square, beyond=_NO_CLASS)
    return np.where(inside, np.uint8(_NO_CLASS), labels)


def _smallest(labels: Map, window: Map) -> Map:
    """The smallest value around each pixel."""
    return np.asarray(cv2.erode(labels, window), np.uint8)


def _largest(labels: Map, window: Map, *, beyond: int) -> Map:
    """The largest value around each pixel, where ``beyond`` lies outside the picture."""
    dilated = cv2.dilate(labels, window, borderType=cv2.BORDER_CONSTANT, borderValue=(beyond,))
    return np.asarray(dilated, np.uint8)


def _square(radius: int, labels: Map) -> Map:
    """A window that reaches ``radius`` pixels to each side; further than the picture reaches makes no difference."""
    side = 2 * min(radius, max(labels.shape)) + 1
    return np.ones((side, side), np.uint8)


def _reach(tolerance: float) -> npt.NDArray[np.int64]:
    """The disc of this radius, row by row: how many columns it reaches to each side."""
    squared = math.floor(tolerance**2)
    rows = math.isqrt(squared)
    return np.array([math.isqrt(squared - row * row) for row in range(-rows, rows + 1)], np.int64)


def _by_name(names: Sequence[str], figures: Figures) -> dict[str, float | None]:
    return dict(zip(names, map(plain, figures), strict=True))


def _require_classes(num_classes: int) -> None:
    if not 1 <= num_classes <= 255:
        raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")


def _require_same(one: object, other: object, *settings: str) -> None:
    for setting in settings:
        if getattr(one, setting) != getattr(other, setting):
            raise ValueError(f"only counts of the same {setting} can be merged")
