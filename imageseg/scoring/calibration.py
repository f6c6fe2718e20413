"""Calibration: whether the predicted probabilities of a network match its accuracy, over a complete split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.scores import FloatArray, json_number, mean, ratio

# 2^7 times 60, the least common multiple of 10, 15 and 20 bins.
_MIN_CELLS = 7680
# Tolerance, in cells, within which a value is on an edge: with 85 bins, 33 / 255 is the edge 11 / 85 except for rounding.
_EDGE = 2.0**-30
# Lower bound of the true class's probability: the smallest normal float32, whose negative logarithm is 87.3.
_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
# Sums of float16 probabilities over many classes are 1 within a few thousandths; sums of logits are not.
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class Reliability:
    """Data of a reliability diagram: one row per confidence bin.

    Attributes:
        edges: (B + 1,) float64 bin edges; a bin includes its upper edge and excludes its lower one, the first includes 0.
        confidence: (B,) float64 mean confidence of the pixels of each bin; NaN for an empty bin.
        accuracy: (B,) float64 share of correct pixels of each bin; NaN for an empty bin.
        count: (B,) int64 number of pixels of each bin.
    """

    edges: FloatArray
    confidence: FloatArray
    accuracy: FloatArray
    count: npt.NDArray[np.int64]

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row per bin for JSON; undefined values are None."""
        return [
            {
                "low": float(self.edges[index]),
                "high": float(self.edges[index + 1]),
                "confidence": json_number(self.confidence[index]),
                "accuracy": json_number(self.accuracy[index]),
                "count": int(self.count[index]),
            }
            for index in range(len(self.count))
        ]


@dataclass(frozen=True)
class CalibrationScores:
    """Calibration metrics; NaN where nothing was counted.

    Attributes:
        ece: Expected calibration error of the predicted class over bins of equal width.
        adaptive_ece: Expected calibration error over bins of equal pixel count.
        adaptive_ece_bound: Maximum difference between ``adaptive_ece`` and the value from sorting all pixels.
        mce: Maximum calibration error, the largest gap of a bin of equal width.
        class_ece: (C,) expected calibration error over the pixels predicted as each class.
        accuracy: Share of correct pixels among all valid pixels.
        confidence: Mean confidence; if it exceeds the accuracy, the network is overconfident.
        reliability: Bins of ``ece``.
        classwise: (C,) calibration error of each class's probability over all pixels; NaN if only confidences were counted.
        classwise_ece: Mean of ``classwise``.
        brier: Brier score, the mean squared distance between probabilities and one-hot ground truth, 0 to 2.
        nll: Mean negative log-likelihood of the true class.
        pixels: Number of valid pixels.
        images: Number of images.
    """

    ece: float
    adaptive_ece: float
    adaptive_ece_bound: float
    mce: float
    class_ece: FloatArray
    accuracy: float
    confidence: float
    reliability: Reliability
    classwise: FloatArray
    classwise_ece: float
    brier: float
    nll: float
    pixels: int
    images: int

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the metrics for JSON: undefined values are None, per-class values are keyed by class name."""
        totals = ("ece", "adaptive_ece", "adaptive_ece_bound", "mce", "accuracy", "confidence")
        return {
            **{name: json_number(getattr(self, name)) for name in totals},
            "class_ece": dict(zip(names, map(json_number, self.class_ece), strict=True)),
            **{name: json_number(getattr(self, name)) for name in ("classwise_ece", "brier", "nll")},
            "classwise": dict(zip(names, map(json_number, self.classwise), strict=True)),
            "reliability": self.reliability.to_rows(),
            "pixels": self.pixels,
            "images": self.images,
        }


class Calibration:
    """Accumulator of calibration statistics: pixels, correct pixels and confidences in thousands of narrow cells.

    Bins of equal width are unions of cells, so metrics over them are exact. A bin of equal pixel count may end inside a
    cell, which is then split evenly; ``adaptive_ece_bound`` bounds the resulting error. A prediction that is no class is
    never correct.

    Args:
        num_classes: Number of classes, 1 to 255.
        bins: Number of bins; 15 as in Guo et al., ICML 2017 (arXiv:1706.04599).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, num_classes: int, bins: int = 15) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")
        if bins < 1:
            raise ValueError(f"at least one bin is needed, found {bins}")
        self.num_classes = num_classes
        self.bins = bins
        self.images = 0
        cells = bins * math.ceil(_MIN_CELLS / bins)
        # Rows: pixels, correct pixels, and sum of confidences, per cell. Integers are exact up to 2^53 pixels.
        self._cells = np.zeros((3, cells))
        self._by_class = np.zeros((3, num_classes, bins))
        # The same for the probability of every class; "correct" pixels are those of the class.
        self._classwise = np.zeros((3, num_classes, bins))
        # Number of pixels with all probabilities, sum of their Brier scores, sum of their negative log-likelihoods.
        self._proper = np.zeros(3)

    def update(self, confidence: npt.NDArray[Any], classes: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        """Add one image for which only the probability of the predicted class is known.

        Args:
            confidence: (H, W) probability of the predicted class; floats, or uint8 values p that stand for p / 255.
            classes: (H, W) uint8 predicted class indices; any other value is no class.
            mask: (H, W) uint8 true class indices; 255 is ignored.

        Raises:
            ValueError: The shapes differ, the ground truth contains an invalid class index, or the confidence of a valid
                pixel is NaN or outside 0 to 1.
        """
        if not confidence.shape == classes.shape == mask.shape or mask.ndim != 2:
            raise ValueError(
                f"confidence, classes and mask must have the same shape (H, W), "
                f"found {confidence.shape}, {classes.shape} and {mask.shape}"
            )
        valid = self._valid(mask)
        values = _probabilities(confidence[valid])
        self._add(values, classes[valid], mask[valid])
        self.images += 1

    def update_probabilities(self, probabilities: npt.NDArray[Any], mask: npt.NDArray[np.uint8]) -> None:
        """Add one image with the probabilities of all classes; the most probable class is the prediction.

        Args:
            probabilities: (C, H, W) floats that sum to 1 over the classes.
            mask: (H, W) uint8 true class indices; 255 is ignored.

        Raises:
            ValueError: The shapes do not fit, the ground truth contains an invalid class index, or the probabilities of a
                valid pixel are NaN, outside 0 to 1 or do not sum to 1.
        """
        if probabilities.shape != (self.num_classes, *mask.shape) or mask.ndim != 2:
            raise ValueError(
                f"probabilities must be ({self.num_classes}, H, W) and mask (H, W), "
                f"found {probabilities.shape} and {mask.shape}"
            )
        valid = self._valid(mask)
        true = mask[valid]
        classes = np.zeros(true.shape, np.uint8)
        confidence, true_probability, total, squares = np.zeros((4, *true.shape))
        classwise = np.zeros_like(self._classwise)
        for index in range(
            self.num_classes
        ):  # one class at a time, because all of them in float64 would exhaust the memory
            values = _probabilities(probabilities[index][valid])
            is_true = true == index
            classwise[:, index] = _binned(self._cell(values) // self._cells_per_bin, values, is_true, self.bins)
            true_probability[is_true] = values[is_true]
            better = values > confidence
            classes[better] = index
            np.maximum(confidence, values, out=confidence)
            total += values
            squares += values * values
        wrong = int(np.count_nonzero(np.abs(total - 1) > _SUM_TOLERANCE))
        if wrong:
            raise ValueError(f"the probabilities of {wrong} pixels do not sum to 1; apply logits.softmax(1) first")
        self._add(confidence, classes, true)
        self._classwise += classwise
        brier = squares - 2 * true_probability + 1
        self._proper += (true.size, brier.sum(), -np.log(np.maximum(true_probability, _MIN_PROBABILITY)).sum())
        self.images += 1

    def merge(self, other: Calibration) -> Calibration:
        """Add the sums of another accumulator in place and return this one."""
        if (other.num_classes, other.bins) != (self.num_classes, self.bins):
            raise ValueError("only calibrations with the same classes and bins can be merged")
        self._cells += other._cells
        self._by_class += other._by_class
        self._classwise += other._classwise
        self._proper += other._proper
        self.images += other.images
        return self

    def scores(self) -> CalibrationScores:
        """Compute the metrics of everything counted so far."""
        count, hits, confidence = self._cells.reshape(3, self.bins, -1).sum(axis=2)
        pixels = count.sum()
        gaps = np.abs(ratio(hits, count) - ratio(confidence, count))
        adaptive, bound = _adaptive_ece(self._cells, self.bins)
        classwise = _ece(self._classwise)
        brier, nll = ratio(self._proper[1:], self._proper[:1])
        accuracy, mean_confidence = ratio(self._cells[1:].sum(axis=1), self._cells[:1].sum(axis=1))
        return CalibrationScores(
            ece=float(_ece(np.stack([count, hits, confidence]))),
            adaptive_ece=adaptive,
            adaptive_ece_bound=bound,
            mce=float(np.nanmax(gaps)) if pixels else math.nan,
            class_ece=_ece(self._by_class),
            accuracy=float(accuracy),
            confidence=float(mean_confidence),
            reliability=Reliability(
                np.arange(self.bins + 1) / self.bins,
                ratio(confidence, count),
                ratio(hits, count),
                count.astype(np.int64),
            ),
            classwise=classwise,
            classwise_ece=mean(classwise),
            brier=float(brier),
            nll=float(nll),
            pixels=int(pixels),
            images=self.images,
        )

    @property
    def _cells_per_bin(self) -> int:
        return self._cells.shape[1] // self.bins

    def _valid(self, mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        valid: npt.NDArray[np.bool_] = mask != IGNORE
        wrong = mask[valid & (mask >= self.num_classes)]
        if wrong.size:
            raise ValueError(
                f"the ground truth contains {wrong[0]}, which is neither a class (0 to {self.num_classes - 1}) nor ignored"
            )
        return valid

    def _cell(self, values: FloatArray) -> npt.NDArray[np.int64]:
        """Return the cell index of each value; a cell includes its upper edge, as the bins of Guo et al. do."""
        cells = np.ceil(values * self._cells.shape[1] - _EDGE).astype(np.int64) - 1
        return np.maximum(cells, 0, out=cells)

    def _add(self, confidence: FloatArray, classes: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> None:
        """Add the valid pixels of one image, flattened."""
        hit = classes == true
        cell = self._cell(confidence)
        self._cells += _binned(cell, confidence, hit, self._cells.shape[1])
        # Predictions that are no class go to separate rows, which are dropped.
        place = np.minimum(classes, self.num_classes).astype(np.int64) * self.bins + cell // self._cells_per_bin
        by_class = _binned(place, confidence, hit, (self.num_classes + 1) * self.bins)
        self._by_class += by_class.reshape(3, -1, self.bins)[:, : self.num_classes]


def _probabilities(values: npt.NDArray[Any]) -> FloatArray:
    """Convert floats, or bytes p that stand for p / 255, to float64."""
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype.kind != "f":
        raise ValueError(f"probabilities must be floats or uint8, found {values.dtype}")
    wrong = values.size - int(np.count_nonzero((values >= 0) & (values <= 1)))
    if wrong:
        raise ValueError(f"{wrong} probabilities are NaN or outside 0 to 1; apply logits.softmax(1) first")
    return values.astype(np.float64)


def _binned(place: npt.NDArray[np.int64], values: FloatArray, hit: npt.NDArray[np.bool_], size: int) -> FloatArray:
    """Return (3, size): number of pixels, number of correct pixels, and sum of the values, per index in ``place``."""
    return np.stack(
        [
            np.bincount(place, minlength=size),
            np.bincount(place[hit], minlength=size),
            np.bincount(place, weights=values, minlength=size),
        ]
    )


def _ece(sums: FloatArray) -> FloatArray:
    """Reduce (3, ..., B) counts, hits and confidences to (...): the gaps of the bins, weighted by their pixels."""
    count, hits, confidence = sums
    error: FloatArray = ratio(np.abs(hits - confidence).sum(axis=-1), count.sum(axis=-1))
    return error


def _adaptive_ece(cells: FloatArray, bins: int) -> tuple[float, float]:
    """Return the error over bins of equal pixel count, and its maximum distance from the error of sorted pixels.

    The i-th of B bins ends after i N / B of N pixels, rounded down. Where that is m pixels into a cell of n with h hits,
    the bin gets m / n of the cell. If sorted, its m pixels would contain between max(0, m + h - n) and min(m, h) hits, and
    confidences that differ from an even share by at most m (n - m) / n of the cell's width; both bins at the cut may err
    by that much.
    """
    count, hits, confidence = cells[:, cells[0] > 0]
    pixels = int(count.sum())
    if not pixels:
        return math.nan, math.nan
    cuts = np.arange(bins + 1) * pixels // bins
    ends = np.concatenate([[0.0], count.cumsum()])
    gaps = np.concatenate([[0.0], (hits - confidence).cumsum()])
    error = np.abs(np.diff(np.interp(cuts, ends, gaps))).sum() / pixels
    inner = cuts[1:-1]
    cut_cells = np.searchsorted(ends, inner, side="right") - 1
    n, h, m = count[cut_cells], hits[cut_cells], inner - ends[cut_cells]
    even = m * h / n
    uncertainty = (
        np.maximum(np.minimum(m, h) - even, even - np.maximum(0, m + h - n)) + m * (n - m) / n / cells.shape[1]
    )
    return float(error), float(2 * uncertainty.sum() / pixels)
