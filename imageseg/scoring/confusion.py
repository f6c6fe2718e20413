"""ConfusionMatrix: exact pixel counts of a complete split, from which every score is computed."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.cityscapes_instances import InstanceCounts
from imageseg.scoring.counts import ConfusionCounts, joint_histogram, sum_columns_by_class
from imageseg.scoring.dialects import dialect_named, miou_over
from imageseg.scoring.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor

_NO_CLASS = 255
# The sum of the images' own mIoU is kept in these units: a sum of integers does not depend on the order.
_UNIT = 2.0**-40


class ConfusionMatrix:
    """Exact int64 counts of (true class, predicted class), independent of the order of updates.

    Pixels whose true class is ``ignore_index`` do not count. A prediction that is no class (255, or any value outside the
    range) on a valid pixel is counted in a separate column and is a miss.

    Args:
        num_classes: Number of classes, 1 to 255.
        ignore_index: Class index of ground truth pixels that are not scored.

    Raises:
        ValueError: ``num_classes`` is out of range.
    """

    def __init__(self, num_classes: int, *, ignore_index: int = IGNORE) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.images = 0
        self.instances: InstanceCounts | None = None
        """Counts of Cityscapes' instances, if the caller read any; used only by the protocol ``cityscapes``."""
        # (C, C + 1); the last column counts predictions that are no class.
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)
        # Sum of the images' own mIoU, and number of images that have one.
        self._per_image_miou = np.zeros(2, np.int64)

    @property
    def matrix(self) -> npt.NDArray[np.int64]:
        """(C, C) int64 counts; rows are the true classes, columns the predicted ones."""
        return self._counts[:, :-1].copy()

    @property
    def missed(self) -> npt.NDArray[np.int64]:
        """(C,) valid pixels of each true class whose prediction is no class."""
        return self._counts[:, -1].copy()

    def update(self, classes: Tensor | npt.NDArray[Any], mask: Tensor | npt.NDArray[Any]) -> None:
        """Add one image or a batch of images; tensors on a GPU are counted there.

        Args:
            classes: (H, W) or (N, H, W) integers, the predicted class indices.
            mask: Ground truth of the same shape: integer class indices or ``ignore_index``.

        Raises:
            ValueError: The shapes differ, the values are not integers, or the ground truth contains an invalid class index.
        """
        if classes.ndim not in (2, 3):
            raise ValueError(f"classes must be (H, W) or (N, H, W), found {tuple(classes.shape)}")
        if classes.shape != mask.shape:
            raise ValueError(f"prediction {tuple(classes.shape)} and ground truth {tuple(mask.shape)} differ in shape")
        for values in (classes, mask):
            if not _is_integer(values):
                raise ValueError("classes and mask must be integers; apply logits.argmax(1) first")
        images = ((classes, mask),) if classes.ndim == 2 else zip(classes, mask, strict=True)
        # All images are counted before any is added: an invalid one leaves the matrix unchanged.
        for counts in [self._counted(*image) for image in images]:
            self.add(counts)

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        """Add the (C, C + 1) counts of one image; the last column holds predictions that are no class."""
        self._counts += counts
        self.images += 1
        matrix = counts[:, :-1]
        miou = float(miou_over("union", np.diag(matrix), counts.sum(axis=1), matrix.sum(axis=0)))
        if not math.isnan(miou):
            self._per_image_miou += (round(miou / _UNIT), 1)

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of another matrix in place and return this one."""
        if (other.num_classes, other.ignore_index) != (self.num_classes, self.ignore_index):
            raise ValueError("only matrices with the same num_classes and ignore_index can be merged")
        self._counts += other._counts
        self._per_image_miou += other._per_image_miou
        self.images += other.images
        if other.instances is not None:
            self.instances = (self.instances or InstanceCounts()).merge(other.instances)
        return self

    def reset(self) -> None:
        """Reset all counts to zero."""
        self._counts[:] = 0
        self._per_image_miou[:] = 0
        self.images = 0
        self.instances = None

    def to_tensor(self) -> Tensor:
        """Return all counts and the number of images as one int64 vector, for a sum over processes (all-reduce)."""
        import torch

        return torch.from_numpy(np.concatenate([self._counts.ravel(), self._per_image_miou, [self.images]]))

    def load_tensor(self, counts: Tensor) -> None:
        """Load the vector of ``to_tensor``, for example after a sum over processes."""
        values = counts.cpu().numpy()
        self._counts[:] = values[:-3].reshape(self._counts.shape)
        self._per_image_miou[:] = values[-3:-1]
        self.images = int(values[-1])

    def counts(self) -> ConfusionCounts:
        """Return all counts as one immutable object."""
        total, images = self._per_image_miou
        miou = float(total) * _UNIT / images if images else math.nan
        return ConfusionCounts(self.matrix, self.missed, self.images, miou, self.instances)

    def scores(self, dialect: str = "default") -> Scores:
        """Compute the scores.

        Args:
            dialect: Name of the metric protocol; a key of ``imageseg.scoring.dialects.DIALECTS``.

        Raises:
            InputError: The protocol is unknown.
        """
        return dialect_named(dialect).score(self.counts())

    def _counted(self, classes: Tensor | npt.NDArray[Any], mask: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if _is_tensor(classes) and classes.device.type != "cpu":
            return _counted_on_device(classes, mask, self.num_classes, self.ignore_index)
        histogram = joint_histogram(self._true(_array(mask)), self._predicted(_array(classes)))
        wrong = np.flatnonzero(histogram[self.num_classes : IGNORE].any(axis=1))
        if wrong.size:
            raise _invalid_class(self.num_classes + int(wrong[0]), self.num_classes)
        return sum_columns_by_class(histogram[: self.num_classes], np.arange(256), self.num_classes)

    def _true(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert the ground truth to uint8, with 255 for ignored pixels."""
        if mask.dtype == np.uint8 and self.ignore_index == IGNORE:
            return mask
        ignored = mask == self.ignore_index
        wrong = ~ignored & ((mask < 0) | (mask >= self.num_classes))
        if wrong.any():
            raise _invalid_class(int(mask[wrong][0]), self.num_classes)
        return np.where(ignored, IGNORE, mask).astype(np.uint8)

    def _predicted(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Convert the prediction to uint8, with 255 for values that are no class."""
        if classes.dtype == np.uint8:
            return classes
        return np.where((classes >= 0) & (classes < self.num_classes), classes, _NO_CLASS).astype(np.uint8)


def _counted_on_device(
    classes: Tensor, mask: Tensor | npt.NDArray[Any], num_classes: int, ignore_index: int
) -> npt.NDArray[np.int64]:
    import torch

    true = torch.as_tensor(mask, device=classes.device).to(torch.int64).flatten()
    predicted = classes.to(torch.int64).flatten()
    valid = true != ignore_index
    wrong = valid & ((true < 0) | (true >= num_classes))
    if bool(wrong.any()):
        raise _invalid_class(int(true[wrong][0]), num_classes)
    # Ignored pixels go to a separate row, which is dropped: cheaper than selecting the valid ones.
    rows = torch.where(valid, true, num_classes)
    columns = torch.where((predicted >= 0) & (predicted < num_classes), predicted, num_classes)
    side = num_classes + 1
    counts = torch.bincount(rows * side + columns, minlength=side * side).view(side, side)
    counted: npt.NDArray[np.int64] = counts[:-1].cpu().numpy()
    return counted


def _invalid_class(value: int, num_classes: int) -> ValueError:
    return ValueError(
        f"the ground truth contains {value}, which is neither a class (0 to {num_classes - 1}) nor ignored"
    )


def _is_tensor(values: Any) -> TypeGuard[Tensor]:
    """Whether this is a tensor, without importing torch: scoring files does not need it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _is_integer(values: Tensor | npt.NDArray[Any]) -> bool:
    if _is_tensor(values):
        return not (values.is_floating_point() or values.is_complex())
    return np.asarray(values).dtype.kind in "uib"


def _array(values: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.detach().cpu().numpy() if _is_tensor(values) else np.asarray(values)
    return array
