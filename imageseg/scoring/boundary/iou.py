"""Boundary IoU and the trimap curve, and all boundary metrics together.

In boundary IoU and the F-score, ignored pixels and everything outside the image belong to no class in both maps. The edge
of an ignored region and the image border therefore count as boundary in both: predictions on ignored pixels change
nothing, and a perfect prediction scores 1.
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
    local_maximum,
    local_minimum,
    require_classes,
    require_same,
    square_window,
    validated_maps,
)
from imageseg.scoring.counts import joint_histogram, sum_columns_by_class
from imageseg.scoring.dialects import miou_over
from imageseg.scoring.scores import FloatArray, json_number, mean, ratio

RADII = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class BoundaryIoUScores:
    """Boundary IoU over a complete split.

    Attributes:
        iou: (C,) float64 boundary IoU; NaN for a class in neither ground truth nor prediction.
        miou: Mean over the classes that have a boundary IoU; NaN if none has.
        images: Number of images.
    """

    iou: FloatArray
    miou: float
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the scores for JSON: undefined values are None, IoU is keyed by class name."""
        return {"miou": json_number(self.miou), "iou": by_name(names, self.iou), "images": self.images}


class BoundaryIoU:
    """IoU of the inner boundary bands of the masks: Cheng et al., CVPR 2021 (arXiv:2103.16562).

    The band of a class is what erosion removes from its mask: its pixels with a pixel of no class or another class within
    ``d`` rows and ``d`` columns. This equals the paper's ``d`` erosions by 3 x 3 with zeros around the image.
    Intersections and unions of bands are summed over the split before division.

    Args:
        num_classes: Number of classes, 1 to 255.
        share: ``d`` as a share of the image diagonal, rounded, at least 1 (0.02 in the paper).
        pixels: ``d`` in pixels, the same for every image size. If not set, it follows from ``share``.
    """

    def __init__(self, num_classes: int, *, share: float = 0.02, pixels: int | None = None) -> None:
        require_classes(num_classes)
        if not (share > 0 and math.isfinite(share)) or (pixels is not None and pixels < 1):
            raise ValueError(f"a band is at least one pixel wide, found share {share} and pixels {pixels}")
        self.num_classes = num_classes
        self.share = share
        self.pixels = pixels
        self.images = 0
        # Rows: pixels in both bands, in the ground truth band, in the predicted band.
        self._counts = np.zeros((3, num_classes), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Add one image.

        Args:
            classes: (H, W) uint8 predicted class indices; any other value is no class.
            mask: (H, W) uint8 true class indices; 255 is ignored.

        Raises:
            ValueError: A shape or dtype is wrong, or the ground truth contains an invalid class index.
        """
        true, predicted = validated_maps(classes, mask, self.num_classes)
        width = max(1, round(self.share * math.hypot(*mask.shape))) if self.pixels is None else self.pixels
        pairs = joint_histogram(_band(true, width), _band(predicted, width))
        counts = np.stack([np.diag(pairs), pairs.sum(axis=1), pairs.sum(axis=0)])
        self._counts += counts[:, : self.num_classes]
        self.images += 1

    def merge(self, other: BoundaryIoU) -> BoundaryIoU:
        """Add the counts of another accumulator in place and return this one."""
        require_same(self, other, "num_classes", "share", "pixels")
        self._counts += other._counts
        self.images += other.images
        return self

    def scores(self) -> BoundaryIoUScores:
        """Compute the scores of everything counted so far."""
        both, true, predicted = self._counts
        iou = ratio(both, true + predicted - both)
        return BoundaryIoUScores(iou, mean(iou), self.images)


@dataclass(frozen=True)
class TrimapScores:
    """Scores near the true boundaries, by distance.

    Attributes:
        radii: (R,) radii in pixels, ascending.
        miou: (R,) float64 mIoU over the pixels within each radius; NaN if there are none.
        pixel_accuracy: (R,) float64 share of correct pixels within each radius.
        iou: (R, C) float64 IoU per class within each radius.
        pixels: (R,) int64 number of pixels within each radius.
        images: Number of images.
    """

    radii: tuple[int, ...]
    miou: FloatArray
    pixel_accuracy: FloatArray
    iou: FloatArray
    pixels: PixelCounts
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return one entry per radius for JSON: undefined values are None, IoU is keyed by class name."""
        curve = [
            {
                "radius": radius,
                "miou": json_number(self.miou[index]),
                "pixel_accuracy": json_number(self.pixel_accuracy[index]),
                "pixels": int(self.pixels[index]),
                "iou": by_name(names, self.iou[index]),
            }
            for index, radius in enumerate(self.radii)
        ]
        return {"curve": curve, "images": self.images}


class TrimapCurve:
    """mIoU and pixel accuracy within r pixels of the true boundaries (Kohli et al., IJCV 2009).

    A pixel is within r if a valid pixel of another class is within r rows and r columns of it; r = 1 includes both sides of
    every boundary. Distances are measured across ignored pixels, because VOC draws a ring of them around each object. The
    edge of an ignored region and the image border are no boundaries. DeepLab's curves (Chen et al., arXiv:1412.7062) count
    every void pixel as a boundary, which works only for VOC's masks.

    Args:
        num_classes: Number of classes, 1 to 255.
        radii: Radii in pixels, each at least 1; sorted, without duplicates.
    """

    def __init__(self, num_classes: int, *, radii: Sequence[int] = RADII) -> None:
        require_classes(num_classes)
        if not radii or min(radii) < 1:
            raise ValueError(f"radii must be pixels, each at least 1, found {list(radii)}")
        self.num_classes = num_classes
        self.radii = tuple(sorted(set(map(int, radii))))
        self.images = 0
        # (R, C, C + 1): pixels by their smallest radius and true class; the last column counts predictions of no class.
        self._rings = np.zeros((len(self.radii), num_classes, num_classes + 1), np.int64)

    def update(self, classes: Map, mask: Map) -> None:
        """Add one image; see ``BoundaryIoU.update`` for arguments and errors."""
        true, predicted = validated_maps(classes, mask, self.num_classes)
        # Smallest and largest valid class around each pixel; ignored pixels hold 255 and 0, which change neither.
        smallest, largest = true, np.where(true == NO_CLASS, np.uint8(0), true)
        far, reached = true, 0  # ``far`` holds the true class beyond all smaller radii, 255 elsewhere
        for ring, radius in enumerate(self.radii):
            window = square_window(radius - reached, true)
            smallest, largest = local_minimum(smallest, window), local_maximum(largest, window, beyond=0)
            alike = smallest == largest
            near = np.where(alike, np.uint8(NO_CLASS), far)
            pairs = joint_histogram(near, predicted)
            self._rings[ring] += sum_columns_by_class(pairs[: self.num_classes], np.arange(256), self.num_classes)
            far = np.where(alike, far, np.uint8(NO_CLASS))
            reached = radius
        self.images += 1

    def merge(self, other: TrimapCurve) -> TrimapCurve:
        """Add the counts of another accumulator in place and return this one."""
        require_same(self, other, "num_classes", "radii")
        self._rings += other._rings
        self.images += other.images
        return self

    def scores(self) -> TrimapScores:
        """Compute the scores of everything counted so far."""
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
    """Boundary IoU, trimap curve and boundary F-score with the settings of their papers.

    Args:
        num_classes: Number of classes, 1 to 255.
        tolerance: Tolerance of the F-score in pixels (default: 0.75 % of the image diagonal, as in the paper).
    """

    def __init__(self, num_classes: int, *, tolerance: float | None = None) -> None:
        self.iou = BoundaryIoU(num_classes)
        self.trimap = TrimapCurve(num_classes)
        self.f = BoundaryF(num_classes, pixels=tolerance)

    def update(self, classes: Map, mask: Map) -> None:
        """Add one image; see ``BoundaryIoU.update`` for arguments and errors."""
        self.iou.update(classes, mask)
        self.trimap.update(classes, mask)
        self.f.update(classes, mask)

    def merge(self, other: Boundary) -> Boundary:
        """Add the counts of another accumulator in place and return this one."""
        self.iou.merge(other.iou)
        self.trimap.merge(other.trimap)
        self.f.merge(other.f)
        return self

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the scores for JSON, keyed by metric."""
        return {
            "boundary_iou": self.iou.scores().to_dict(names),
            "trimap": self.trimap.scores().to_dict(names),
            "boundary_f": self.f.scores().to_dict(names),
        }


def _band(labels: Map, width: int) -> Map:
    """Return the labels within ``width`` of the edge of their class, 255 elsewhere, for all classes at once."""
    square = square_window(width, labels)
    inside = local_minimum(labels, square) == local_maximum(labels, square, beyond=NO_CLASS)
    return np.where(inside, np.uint8(NO_CLASS), labels)
