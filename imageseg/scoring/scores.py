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
    """Metrics over a complete split; all are between 0 and 1.

    Attributes:
        dialect: Name of the metric protocol that was applied.
        iou: (C,) float64 intersection over union per class; NaN where undefined.
        miou: Mean IoU over the classes that the protocol counts; NaN if there are none.
        pixel_accuracy: Share of correct pixels among all valid pixels.
        class_accuracy: Mean accuracy over classes as the protocol defines it: mean recall unless stated otherwise.
        fw_iou: Frequency-weighted IoU, with the share of each class in the true pixels as weight.
        images: Number of images.
        precision: (C,) correct pixels over predicted pixels of each class.
        recall: (C,) correct pixels over true pixels of each class.
        dice: (C,) Dice coefficient (F1): twice the correct pixels over the sum of true and predicted pixels.
        extra: Metrics that only this protocol defines, by name: numbers, or mappings from names to numbers.
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
        """Mean Dice coefficient over the classes for which it is defined."""
        return mean(self.dice)

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the metrics for JSON: undefined values are None, per-class values are keyed by class name."""
        by_class = {
            name: dict(zip(names, map(json_number, getattr(self, name)), strict=True))
            for name in ("iou", "precision", "recall", "dice")
        }
        extra = {
            name: json_number(value)
            if isinstance(value, float)
            else {key: json_number(entry) for key, entry in value.items()}
            for name, value in self.extra.items()
        }
        return {
            "dialect": self.dialect,
            "miou": json_number(self.miou),
            "iou": by_class["iou"],
            "pixel_accuracy": json_number(self.pixel_accuracy),
            "class_accuracy": json_number(self.class_accuracy),
            "fw_iou": json_number(self.fw_iou),
            "mean_dice": json_number(self.mean_dice),
            "images": self.images,
            **{name: by_class[name] for name in ("precision", "recall", "dice")},
            **extra,
        }


def ratio(numerator: npt.NDArray[Any], denominator: npt.NDArray[Any], *, empty: float = math.nan) -> FloatArray:
    """Compute ``numerator / denominator`` in float64, with ``empty`` where the denominator is 0."""
    quotient: FloatArray = np.divide(
        numerator, denominator, out=np.full(np.shape(numerator), empty), where=np.asarray(denominator) != 0
    )
    return quotient


def mean(values: npt.ArrayLike) -> float:
    """Compute the mean of the values that are not NaN; NaN if there are none."""
    values = np.asarray(values, np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def json_number(value: float) -> float | None:
    """Convert NaN to None, because JSON has no NaN."""
    return None if math.isnan(value) else float(value)
