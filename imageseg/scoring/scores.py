"""Scores: the metrics that a metric protocol (dialect) computes from the counts of a split."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """FloatArray over a whole split; all between 0 and 1.

    Attributes:
        dialect: by whose rules.
        iou: (C,) float64, intersection over union per class; NaN where undefined.
        miou: its mean, over the classes that the dialect counts; NaN when there is none.
        pixel_accuracy: correct pixels over all valid pixels.
        class_accuracy: what the dialect calls mean accuracy: of recall, unless its rules say otherwise.
        fw_iou: IoU weighted by the classes' share of the true pixels.
        images: how many pictures were scored.
        precision: (C,) correct over predicted pixels.
        recall: (C,) correct over true pixels.
        dice: (C,) twice the correct over the sum of true and predicted pixels, also called F1.
        extra: figures that only this dialect has, by name: numbers, or names and numbers.
    """

    dialect: str
    iou: FloatArray
    miou: float
    pixel_accuracy: float
    class_accuracy: float
    fw_iou: float
    images: int
    precision: FloatArray
    recall: FloatArray
    dice: FloatArray
    extra: Mapping[str, float | Mapping[str, float]] = field(default_factory=dict)

    @property
    def mean_dice(self) -> float:
        """The mean over the classes that have one."""
        return mean(self.dice)

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """For JSON: undefined figures are None, figures per class are by class name."""
        by_class = {
            name: dict(zip(names, map(plain, getattr(self, name)), strict=True))
            for name in ("iou", "precision", "recall", "dice")
        }
        extra = {
            name: plain(value) if isinstance(value, float) else {key: plain(entry) for key, entry in value.items()}
            for name, value in self.extra.items()
        }
        return {
            "dialect": self.dialect,
            "miou": plain(self.miou),
            "iou": by_class["iou"],
            "pixel_accuracy": plain(self.pixel_accuracy),
            "class_accuracy": plain(self.class_accuracy),
            "fw_iou": plain(self.fw_iou),
            "mean_dice": plain(self.mean_dice),
            "images": self.images,
            **{name: by_class[name] for name in ("precision", "recall", "dice")},
            **extra,
        }


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any], *, empty: float = math.nan) -> FloatArray:
    """``part / whole`` in float64, ``empty`` where there is no whole."""
    quotient: FloatArray = np.divide(part, whole, out=np.full(np.shape(part), empty), where=np.asarray(whole) != 0)
    return quotient


def mean(values: npt.ArrayLike) -> float:
    """The mean of the values that are defined; NaN when none is."""
    values = np.asarray(values, np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)
