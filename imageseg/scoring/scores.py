"""Scores: what one confusion matrix says, by the rules of a dialect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scores:
    """Figures over a whole split; all between 0 and 1.

    Attributes:
        dialect: by whose rules.
        iou: (C,) float64, intersection over union per class; NaN for a class in neither truth nor prediction.
        miou: the mean over the classes that have an IoU; NaN when none has.
        pixel_accuracy: correct pixels over all valid pixels.
        class_accuracy: the mean over classes of correct pixels over true pixels.
        fw_iou: IoU weighted by the classes' share of the true pixels.
        images: how many pictures were scored.
    """

    dialect: str
    iou: npt.NDArray[np.float64]
    miou: float
    pixel_accuracy: float
    class_accuracy: float
    fw_iou: float
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, IoU is by class name."""
        return {
            "dialect": self.dialect,
            "miou": _plain(self.miou),
            "iou": {name: _plain(value) for name, value in zip(names, self.iou, strict=True)},
            "pixel_accuracy": _plain(self.pixel_accuracy),
            "class_accuracy": _plain(self.class_accuracy),
            "fw_iou": _plain(self.fw_iou),
            "images": self.images,
        }


def default_scores(matrix: npt.NDArray[np.int64], missed: npt.NDArray[np.int64], images: int) -> Scores:
    """The rules of the Cityscapes evaluator: classes that appear neither in truth nor in prediction leave the mean.

    Args:
        matrix: (C, C) pixel counts, rows are the truth, columns the prediction.
        missed: (C,) true pixels whose prediction is no class at all; they count against their class.
        images: how many pictures were counted.
    """
    correct = np.diag(matrix).astype(np.float64)
    true = matrix.sum(axis=1) + missed
    union = true + matrix.sum(axis=0) - correct
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = np.where(union > 0, correct / union, np.nan)
        recall = np.where(true > 0, correct / true, np.nan)
    total = int(true.sum())
    if total == 0:
        return Scores("default", iou, _mean(iou), math.nan, math.nan, math.nan, images)
    share = true / total
    return Scores(
        dialect="default",
        iou=iou,
        miou=_mean(iou),
        pixel_accuracy=float(correct.sum() / total),
        class_accuracy=_mean(recall),
        fw_iou=float((share[share > 0] * iou[share > 0]).sum()),
        images=images,
    )


DIALECTS = {"default": default_scores}


def _mean(values: npt.NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
