"""Calibration: whether a network is right as often as its probabilities say, over a whole split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.labels import IGNORE
from imageseg.scoring.scores import FloatArray, mean, plain, ratio

# 2^9 times the least common multiple of 10, 15 and 20.
_LEAST_CELLS = 7680
# In cells, how close to an edge is on it: with 85 bins, 33 / 255 is the edge 11 / 85 but for rounding.
_EDGE = 2.0**-30
# Of a true class with probability 0: the smallest normal float32, whose negative logarithm is 87.3.
_SMALLEST = float(np.finfo(np.float32).tiny)
# float16 probabilities of many classes add up to 1 within a few thousandths; logits do not.
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class Reliability:
    """The table behind a reliability diagram: one row per bin of confidence.

    Attributes:
        edges: (B + 1,) float64; a bin holds its upper edge and not its lower one, the first holds 0 too.
        confidence: (B,) float64 mean confidence of the bin's pixels; NaN where it has none.
        accuracy: (B,) float64 share of them that are right.
        count: (B,) int64 pixels.
    """

    edges: FloatArray
    confidence: FloatArray
    accuracy: FloatArray
    count: npt.NDArray[np.int64]

    def to_rows(self) -> list[dict[str, Any]]:
        """For JSON: undefined figures are None."""
        return [
            {
                "low": float(self.edges[index]),
                "high": float(self.edges[index + 1]),
                "confidence": plain(self.confidence[index]),
                "accuracy": plain(self.accuracy[index]),
                "count": int(self.count[index]),
            }
            for index in range(len(self.count))
        ]


@dataclass(frozen=True)
class CalibrationScores:
    """How far confidence and accuracy lie apart; NaN where nothing was counted.

    Attributes:
        ece: expected calibration error of the predicted class over bins of equal width.
        adaptive_ece: the same over bins of equally many pixels.
        adaptive_ece_bound: it lies no further than this from what sorting all pixels would give.
        mce: the largest gap of a bin of equal width.
        class_ece: (C,) ``ece`` over the pixels predicted as each class.
        accuracy: correct over all valid pixels.
        confidence: mean confidence; above the accuracy, the network is overconfident.
        reliability: the bins of ``ece``.
        classwise: (C,) calibration error of each class's probability over all pixels; NaN without all probabilities.
        classwise_ece: its mean.
        brier: mean over pixels of the squared distance between probabilities and truth, 0 to 2.
        nll: mean negative logarithm of the true class's probability.
        pixels: how many valid pixels were counted.
        images: how many pictures.
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
        """For JSON: undefined figures are None, figures per class are by class name."""
        figures = ("ece", "adaptive_ece", "adaptive_ece_bound", "mce", "accuracy", "confidence")
        return {
            **{name: plain(getattr(self, name)) for name in figures},
            "class_ece": dict(zip(names, map(plain, self.class_ece), strict=True)),
            **{name: plain(getattr(self, name)) for name in ("classwise_ece", "brier", "nll")},
            "classwise": dict(zip(names, map(plain, self.classwise), strict=True)),
            "reliability": self.reliability.to_rows(),
            "pixels": self.pixels,
            "images": self.images,
        }


class Calibration:
    """Counts, hits and confidences in thousands of cells, from which every calibration error follows.

    Bins of equal width are unions of cells, so figures over them are exact. A bin of equally many pixels may end inside a
    cell, which is then shared out evenly; ``adaptive_ece_bound`` says what that can matter. A prediction that is no class
    is never right.

    Args:
        num_classes: the number of classes, 1 to 255.
        bins: how many bins; 15 are those of Guo et al., ICML 2017 (arXiv:1706.04599).
    """

    def __init__(self, num_classes: int, bins: int = 15) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes must be 1 to 255, found {num_classes}")
        if bins < 1:
            raise ValueError(f"at least one bin is needed, found {bins}")
        self.num_classes = num_classes
        self.bins = bins
        self.images = 0
        cells = bins * math.ceil(_LEAST_CELLS / bins)
        # Rows: pixels, hits, and the sum of confidences, by cell. Whole numbers stay exact up to 2^53 pixels.
        self._cells = np.zeros((3, cells))
        self._by_class = np.zeros((3, num_classes, bins))
        # The same of every class's own probability, where hits are the class's true pixels.
        self._classwise = np.zeros((3, num_classes, bins))
        # Pixels with all probabilities, the sums of their Brier scores and of their negative logarithms.
        self._proper = np.zeros(3)

    def update(self, confidence: npt.NDArray[Any], classes: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        """Adds one picture, of which only the predicted class's probability is known.

        Args:
            confidence: (H, W) probability of the predicted class; floats, or uint8 where p stands for p / 255.
            classes: (H, W) uint8 class indices, the prediction; any other value is no class.
            mask: (H, W) uint8 class indices, the truth; 255 is ignored.

        Raises:
            ValueError: shapes differ, the truth holds an index that is no class, or a confidence of a valid pixel is NaN
                or outside 0 to 1.
        """
        if not confidence.shape == classes.shape == mask.shape or mask.ndim != 2:
            raise ValueError(
                f"confidence, classes and mask must be (H, W) alike, "
                f"found {confidence.shape}, {classes.shape} and {mask.shape}"
            )
        valid = self._valid(mask)
        values = _probabilities(confidence[valid])
        self._add(values, classes[valid], mask[valid])
        self.images += 1

    def update_probabilities(self, probabilities: npt.NDArray[Any], mask: npt.NDArray[np.uint8]) -> None:
        """Adds one picture with the probabilities of all classes; the largest is the prediction.

        Args:
            probabilities: (C, H, W) floats that sum to 1 over the classes.
            mask: (H, W) uint8 class indices, the truth; 255 is ignored.

        Raises:
            ValueError: another shape, the truth holds an index that is no class, or a valid pixel's probabilities are
                NaN, outside 0 to 1 or do not sum to 1.
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
        for index in range(self.num_classes):  # one class at a time: all of them in float64 would fill the memory
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
            raise ValueError(f"of {wrong} pixels the probabilities do not sum to 1; take logits.softmax(1) first")
        self._add(confidence, classes, true)
        self._classwise += classwise
        brier = squares - 2 * true_probability + 1
        self._proper += (true.size, brier.sum(), -np.log(np.maximum(true_probability, _SMALLEST)).sum())
        self.images += 1

    def merge(self, other: Calibration) -> Calibration:
        """Adds the sums of another to this one, and returns this one."""
        if (other.num_classes, other.bins) != (self.num_classes, self.bins):
            raise ValueError("only calibrations of the same classes and bins can be merged")
        self._cells += other._cells
        self._by_class += other._by_class
        self._classwise += other._classwise
        self._proper += other._proper
        self.images += other.images
        return self

    def scores(self) -> CalibrationScores:
        """The figures of everything counted so far."""
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
                f"the truth holds {wrong[0]}, which is neither a class (0 to {self.num_classes - 1}) nor ignored"
            )
        return valid

    def _cell(self, values: FloatArray) -> npt.NDArray[np.int64]:
        """Each value's cell, which holds its upper edge, as the bins of Guo et al. do."""
        cells = np.ceil(values * self._cells.shape[1] - _EDGE).astype(np.int64) - 1
        return np.maximum(cells, 0, out=cells)

    def _add(self, confidence: FloatArray, classes: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> None:
        """One picture's valid pixels, flat."""
        hit = classes == true
        cell = self._cell(confidence)
        self._cells += _binned(cell, confidence, hit, self._cells.shape[1])
        # Predictions that are no class go to rows of their own, which are dropped.
        place = np.minimum(classes, self.num_classes).astype(np.int64) * self.bins + cell // self._cells_per_bin
        by_class = _binned(place, confidence, hit, (self.num_classes + 1) * self.bins)
        self._by_class += by_class.reshape(3, -1, self.bins)[:, : self.num_classes]


def _probabilities(values: npt.NDArray[Any]) -> FloatArray:
    """Floats, or bytes as shares of 255, in float64."""
    if values.dtype == np.uint8:
        return values / 255.0
    if values.dtype.kind != "f":
        raise ValueError(f"probabilities must be floats or uint8, found {values.dtype}")
    wrong = values.size - int(np.count_nonzero((values >= 0) & (values <= 1)))
    if wrong:
        raise ValueError(f"{wrong} probabilities are NaN or outside 0 to 1; take logits.softmax(1) first")
    return values.astype(np.float64)


def _binned(place: npt.NDArray[np.int64], values: FloatArray, hit: npt.NDArray[np.bool_], size: int) -> FloatArray:
    """(3, size): how many, how many hits, and the sum of the values, by place."""
    return np.stack(
        [
            np.bincount(place, minlength=size),
            np.bincount(place[hit], minlength=size),
            np.bincount(place, weights=values, minlength=size),
        ]
    )


def _ece(sums: FloatArray) -> FloatArray:
    """(3, ..., B) counts, hits and confidences to (...): the bins' gaps, weighted by their pixels."""
    count, hits, confidence = sums
    error: FloatArray = ratio(np.abs(hits - confidence).sum(axis=-1), count.sum(axis=-1))
    return error


def _adaptive_ece(cells: FloatArray, bins: int) -> tuple[float, float]:
    """The error over bins of equally many pixels, and how far it may be from that of sorted pixels.

    The i-th of B bins ends after i N / B of N pixels, rounded down. Where that is m pixels into a cell of n with h hits,
    the bin gets m / n of the cell. Sorted, its m pixels would hold between max(0, m + h - n) and min(m, h) hits, and
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
    doubt = np.maximum(np.minimum(m, h) - even, even - np.maximum(0, m + h - n)) + m * (n - m) / n / cells.shape[1]
    return float(error), float(2 * doubt.sum() / pixels)
