"""ConfusionMatrix: exact pixel counts of a whole split, from which every score follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from imageseg.errors import unknown_name
from imageseg.labels import IGNORE
from imageseg.scoring.scores import DIALECTS, Scores


class ConfusionMatrix:
    """Counts of (true class, predicted class), exact in int64, in any order of updates.

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
        # (C, C + 1): the last column counts predictions that are no class.
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)

    @property
    def matrix(self) -> npt.NDArray[np.int64]:
        """(C, C) counts, rows are the truth, columns the prediction."""
        return self._counts[:, :-1].copy()

    @property
    def missed(self) -> npt.NDArray[np.int64]:
        """(C,) valid pixels of each class whose prediction is no class."""
        return self._counts[:, -1].copy()

    def update(self, classes: Tensor | npt.NDArray[Any], mask: Tensor | npt.NDArray[Any]) -> None:
        """Adds one picture, or a batch of them.

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
        predicted, true = _as_tensor(classes), _as_tensor(mask)
        if any(values.is_floating_point() or values.is_complex() for values in (predicted, true)):
            raise ValueError("classes and mask must be integers; take logits.argmax(1) first")
        true = true.to(device=predicted.device, dtype=torch.int64).flatten()
        predicted = predicted.to(torch.int64).flatten()
        side = self.num_classes + 1
        valid = true != self.ignore_index
        wrong = valid & ((true < 0) | (true >= self.num_classes))
        if bool(wrong.any()):
            raise ValueError(
                f"the truth holds {int(true[wrong][0])}, which is neither a class (0 to {self.num_classes - 1}) nor ignored"
            )
        # Ignored pixels go to a row of their own, which is dropped: cheaper than picking the valid ones out.
        rows = torch.where(valid, true, self.num_classes)
        columns = torch.where((predicted >= 0) & (predicted < self.num_classes), predicted, self.num_classes)
        counts = torch.bincount(rows * side + columns, minlength=side * side).view(side, side)
        self._counts += counts[:-1].cpu().numpy()
        self.images += classes.shape[0] if classes.ndim == 3 else 1

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Adds the counts of another matrix to this one, and returns this one."""
        if (other.num_classes, other.ignore_index) != (self.num_classes, self.ignore_index):
            raise ValueError("only matrices of the same classes can be merged")
        self._counts += other._counts
        self.images += other.images
        return self

    def reset(self) -> None:
        """Forgets every count."""
        self._counts[:] = 0
        self.images = 0

    def to_tensor(self) -> Tensor:
        """All counts and the number of pictures as one int64 vector, for a sum over processes."""
        return torch.from_numpy(np.append(self._counts.ravel(), self.images))

    def load_tensor(self, counts: Tensor) -> None:
        """Takes over what ``to_tensor`` gave, for example after a sum over processes."""
        values = counts.cpu().numpy()
        self._counts[:] = values[:-1].reshape(self._counts.shape)
        self.images = int(values[-1])

    def scores(self, dialect: str = "default") -> Scores:
        """The figures, by the rules of ``dialect``.

        Raises:
            InputError: an unknown dialect.
        """
        if dialect not in DIALECTS:
            raise unknown_name("dialect", dialect, DIALECTS)
        return DIALECTS[dialect](self.matrix, self.missed, self.images)


def _as_tensor(values: Tensor | npt.NDArray[Any]) -> Tensor:
    if isinstance(values, Tensor):
        return values
    # Torch takes no mirrored, read-only or foreign-endian array; pictures opened by Pillow are read-only.
    native = np.asarray(values, dtype=values.dtype.newbyteorder("="))
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))
