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

import numpy as np

from imageseg.scoring.boundary.f_score import BoundaryF
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
    square_window,
)
from imageseg.scoring.counts import joint_histogram, sum_columns_by_class
from imageseg.scoring.dialects import miou_over
from imageseg.scoring.scores import FloatArray, mean, plain, ratio

RADII = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class BoundaryIoUScores:
    """Boundary IoU over a whole split.

    Attributes:
        iou: (C,) float64; NaN for a class in neither truth nor prediction.
        miou: the mean over the classes that have one; NaN when none has.
        images: how many pictures were scored.
    """

    iou: FloatArray
    miou: float
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, IoU is by class name."""
        return {"miou": plain(self.miou), "iou": by_name(names, self.iou), "images": self.images}


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
        require_classes(num_classes)
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
        true, predicted = cut(classes, mask, self.num_classes)
        width = max(1, round(self.share * math.hypot(*mask.shape))) if self.pixels is None else self.pixels
        pairs = joint_histogram(_band(true, width), _band(predicted, width))
        counts = np.stack([np.diag(pairs), pairs.sum(axis=1), pairs.sum(axis=0)])
        self._counts += counts[:, : self.num_classes]
        self.images += 1

    def merge(self, other: BoundaryIoU) -> BoundaryIoU:
        """Adds the counts of another to this one, and returns this one."""
        require_same(self, other, "num_classes", "share", "pixels")
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
    miou: FloatArray
    pixel_accuracy: FloatArray
    iou: FloatArray
    pixels: PixelCounts
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: one entry per radius; undefined figures are None, IoU is by class name."""
        curve = [
            {
                "radius": radius,
                "miou": plain(self.miou[index]),
                "pixel_accuracy": plain(self.pixel_accuracy[index]),
                "pixels": int(self.pixels[index]),
                "iou": by_name(names, self.iou[index]),
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
        require_classes(num_classes)
        if not radii or min(radii) < 1:
            raise ValueError(f"radii must be pixels, each at least 1, found {list(radii)}")
        self.num_classes = num_classes
        self.radii = tuple(sorted(set(map(int, radii))))
        self.images = 0
        # (R, C, C + 1): pixels whose smallest radius it is; rows are the truth, the last column is for no class.
        self._rings = np.zeros((len(self.radii), num_classes, num_classes + 1), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Adds one picture; arguments and errors are those of ``BoundaryIoU.update``."""
        true, predicted = cut(classes, mask, self.num_classes)
        # The smallest and the largest valid class around each pixel; of ignored ones, 255 and 0 change neither.
        smallest, largest = true, np.where(true == NO_CLASS, np.uint8(0), true)
        far, reached = true, 0  # ``far`` holds the truth where no smaller radius reaches, 255 elsewhere
        for ring, radius in enumerate(self.radii):
            window = square_window(radius - reached, true)
            smallest, largest = lowest_around(smallest, window), highest_around(largest, window, beyond=0)
            alike = smallest == largest
            near = np.where(alike, np.uint8(NO_CLASS), far)
            pairs = joint_histogram(near, predicted)
            self._rings[ring] += sum_columns_by_class(pairs[: self.num_classes], np.arange(256), self.num_classes)
            far = np.where(alike, far, np.uint8(NO_CLASS))
            reached = radius
        self.images += 1

    def merge(self, other: TrimapCurve) -> TrimapCurve:
        """Adds the counts of another to this one, and returns this one."""
        require_same(self, other, "num_classes", "radii")
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


class Boundary:
    """All three at their papers' settings.

    Args:
        num_classes: the number of classes, 1 to 255.
        tolerance: of the F-score, in pixels; unset, the paper's share of the diagonal.
    """

    def __init__(self, num_classes: int, *, tolerance: float | None = None) -> None:
        self.iou = BoundaryIoU(num_classes)
        self.trimap = TrimapCurve(num_classes)
        self.f = BoundaryF(num_classes, pixels=tolerance)

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


def _band(labels: Map, width: int) -> Map:
    """The labels within ``width`` of the edge of their own class, 255 elsewhere; all classes at once."""
    square = square_window(width, labels)
    inside = lowest_around(labels, square) == highest_around(labels, square, beyond=NO_CLASS)
    return np.where(inside, np.uint8(NO_CLASS), labels)
