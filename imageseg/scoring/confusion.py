"""ConfusionMatrix: exact pixel counts of a whole split, from which every score follows."""

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
# The sum of the pictures' own mIoU is kept in these units: a sum of whole numbers is the same in any order.
_UNIT = 2.0**-40


class ConfusionMatrix:
    """ConfusionCounts of (true class, predicted class), exact in int64, in any order of updates.

    Pixels whose truth is ``ignore_index`` do not count. A prediction that is no class (255, or any value outside the
    range) on a valid pixel is kept in a column of its own, so that it counts as a miss.

    Args:
        num_classes: the number of classes, 1 to 255.
        ignore_index: the truth's class index that is not scored.
    """

    def __init__(self, num_classes: int, *, ignore_index: int = IGNORE) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.images = 0
        self.instances: InstanceCounts | None = None
        """Filled by whoever reads Cityscapes' instances; only the dialect ``cityscapes`` looks at it."""
        # (C, C + 1): the last column counts predictions that are no class.
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)
        # Of the pictures that have an mIoU of their own: its sum, and how many they are.
        self._per_image_miou = np.zeros(2, np.int64)

    @property
    def matrix(self) -> npt.NDArray[np.int64]:
        """(C, C) counts, rows are the truth, columns the prediction."""
        return self._counts[:, :-1].copy()

    @property
    def missed(self) -> npt.NDArray[np.int64]:
        """(C,) valid pixels of each class whose prediction is no class."""
        return self._counts[:, -1].copy()

    def update(self, classes: Tensor | npt.NDArray[Any], mask: Tensor | npt.NDArray[Any]) -> None:
        """Adds one picture, or a batch of them; tensors on a graphics card are counted there.

        Args:
            classes: (H, W) or (N, H, W) integers, the prediction.
            mask: the truth in the same shape: class indices or ``ignore_index``.

        Raises:
            ValueError: shapes differ, values are no integers, or the truth holds an index that is no class.
        """
        if classes.ndim not in (2, 3):
            raise ValueError(f"classes must be (H, W) or (N, H, W), found {tuple(classes.shape)}")
        if classes.shape != mask.shape:
            raise ValueError(f"prediction {tuple(classes.shape)} and truth {tuple(mask.shape)} differ in shape")
        for values in (classes, mask):
            if not _is_whole(values):
                raise ValueError("classes and mask must be integers; take logits.argmax(1) first")
        pictures = ((classes, mask),) if classes.ndim == 2 else zip(classes, mask, strict=True)
        # All are counted before any is added: a wrong one leaves the matrix as it was.
        for counts in [self._counted(*picture) for picture in pictures]:
            self.add(counts)

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        """Adds one picture that was counted elsewhere: (C, C + 1), the last column for predictions that are no class."""
        self._counts += counts
        self.images += 1
        matrix = counts[:, :-1]
        miou = float(miou_over("union", np.diag(matrix), counts.sum(axis=1), matrix.sum(axis=0)))
        if not math.isnan(miou):
            self._per_image_miou += (round(miou / _UNIT), 1)

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Adds the counts of another matrix to this one, and returns this one."""
        if (other.num_classes, other.ignore_index) != (self.num_classes, self.ignore_index):
            raise ValueError("only matrices of the same classes can be merged")
        self._counts += other._counts
        self._per_image_miou += other._per_image_miou
        self.images += other.images
        if other.instances is not None:
            self.instances = (self.instances or InstanceCounts()).merge(other.instances)
        return self

    def reset(self) -> None:
        """Forgets every count."""
        self._counts[:] = 0
        self._per_image_miou[:] = 0
        self.images = 0
        self.instances = None

    def to_tensor(self) -> Tensor:
        """All counts and the number of pictures as one int64 vector, for a sum over processes."""
        import torch

        return torch.from_numpy(np.concatenate([self._counts.ravel(), self._per_image_miou, [self.images]]))

    def load_tensor(self, counts: Tensor) -> None:
        """Takes over what ``to_tensor`` gave, for example after a sum over processes."""
        values = counts.cpu().numpy()
        self._counts[:] = values[:-3].reshape(self._counts.shape)
        self._per_image_miou[:] = values[-3:-1]
        self.images = int(values[-1])

    def counts(self) -> ConfusionCounts:
        """Everything that has been counted."""
        total, pictures = self._per_image_miou
        miou = float(total) * _UNIT / pictures if pictures else math.nan
        return ConfusionCounts(self.matrix, self.missed, self.images, miou, self.instances)

    def scores(self, dialect: str = "default") -> Scores:
        """The figures, by the rules of ``dialect``.

        Raises:
            InputError: an unknown dialect.
        """
        return dialect_named(dialect).score(self.counts())

    def _counted(self, classes: Tensor | npt.NDArray[Any], mask: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if _is_tensor(classes) and classes.device.type != "cpu":
            return _counted_on_device(classes, mask, self.num_classes, self.ignore_index)
        histogram = joint_histogram(self._true(_array(mask)), self._predicted(_array(classes)))
        wrong = np.flatnonzero(histogram[self.num_classes : IGNORE].any(axis=1))
        if wrong.size:
            raise _no_class(self.num_classes + int(wrong[0]), self.num_classes)
        return sum_columns_by_class(histogram[: self.num_classes], np.arange(256), self.num_classes)

    def _true(self, mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The truth in bytes, of which 255 is ignored and no class has it."""
        if mask.dtype == np.uint8 and self.ignore_index == IGNORE:
            return mask
        ignored = mask == self.ignore_index
        wrong = ~ignored & ((mask < 0) | (mask >= self.num_classes))
        if wrong.any():
            raise _no_class(int(mask[wrong][0]), self.num_classes)
        return np.where(ignored, IGNORE, mask).astype(np.uint8)

    def _predicted(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The prediction in bytes, of which 255 is no class."""
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
        raise _no_class(int(true[wrong][0]), num_classes)
    # Ignored pixels go to a row of their own, which is dropped: cheaper than picking the valid ones out.
    rows = torch.where(valid, true, num_classes)
    columns = torch.where((predicted >= 0) & (predicted < num_classes), predicted, num_classes)
    side = num_classes + 1
    counts = torch.bincount(rows * side + columns, minlength=side * side).view(side, side)
    counted: npt.NDArray[np.int64] = counts[:-1].cpu().numpy()
    return counted


def _no_class(value: int, num_classes: int) -> ValueError:
    return ValueError(f"the truth holds {value}, which is neither a class (0 to {num_classes - 1}) nor ignored")


def _is_tensor(values: Any) -> TypeGuard[Tensor]:
    """Whether it is one of torch's: then torch is imported, which scoring files does without."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _is_whole(values: Tensor | npt.NDArray[Any]) -> bool:
    if _is_tensor(values):
        return not (values.is_floating_point() or values.is_complex())
    return np.asarray(values).dtype.kind in "uib"


def _array(values: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = values.detach().cpu().numpy() if _is_tensor(values) else np.asarray(values)
    return array
