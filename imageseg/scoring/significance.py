"""Uncertainty of an mIoU: bootstrap intervals over images, and a paired test of two sets of predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from imageseg.scoring.dialects import miou_over
from imageseg.scoring.scores import FloatArray, json_number

MeanOver = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], FloatArray]
"""A rule from (..., C) intersections, true and predicted pixels to (...) mIoU, NaN where undefined."""

_OVER_UNION: MeanOver = partial(miou_over, "union")
# With up to this many images N, all 2^N swaps are tried (4096).
_MAX_ENUMERATED = 12
# Maximum number of values in a chunk of resamples: 16 MiB in float64.
_CHUNK = 2**21
# Rounding depends on the order of operations; differences of mIoU below this count as equal.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PerImageConfusion:
    """Pixel counts per image and class of a split, in a fixed order of images.

    Attributes:
        intersection: (N, C) pixels predicted as their true class.
        true: (N, C) valid pixels of each true class.
        predicted: (N, C) valid pixels predicted as each class.

    Raises:
        ValueError: The shapes differ, the counts are empty, or an intersection exceeds the true or predicted pixels.
    """

    intersection: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = [part.shape for part in (self.intersection, self.true, self.predicted)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
            raise ValueError(
                f"counts must all have the same shape (N, C), found {shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        if any(part.dtype.kind not in "ui" for part in (self.intersection, self.true, self.predicted)):
            raise ValueError("counts must be integers")
        if (self.intersection < 0).any() or (self.intersection > np.minimum(self.true, self.predicted)).any():
            raise ValueError("an intersection must be at least 0 and at most the true and the predicted pixels")

    @property
    def images(self) -> int:
        """Number of images N."""
        return len(self.true)


@dataclass(frozen=True)
class Interval:
    """An mIoU, or a difference of two, with its bootstrap percentile interval over images of the same kind.

    Attributes:
        estimate: Value over the images themselves.
        low: Lower end of the interval; NaN for a single image, which says nothing about others.
        high: Upper end of the interval.
        confidence: Share of such experiments in which the interval contains the true value.
        resamples: Number of resampled splits.
        images: Number of images.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    resamples: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON; undefined ones are None."""
        return {
            **{name: json_number(getattr(self, name)) for name in ("estimate", "low", "high")},
            "confidence": self.confidence,
            "method": "percentile",
            "resamples": self.resamples,
            "images": self.images,
        }


@dataclass(frozen=True)
class PairedTest:
    """Comparison of two sets of predictions of the same images.

    Attributes:
        miou_a: mIoU of the first set.
        miou_b: mIoU of the second set.
        difference: ``miou_b - miou_a`` with its bootstrap interval; each resample uses the same images for both sets.
        p_value: Share of random swaps of the two sets' predictions per image that give a difference at least as large, in
            either direction. NaN if the difference is undefined.
        permutations: Number of swaps tried.
        exact: Whether all possible swaps were tried.
    """

    miou_a: float
    miou_b: float
    difference: Interval
    p_value: float
    permutations: int
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON; undefined ones are None."""
        return {
            "miou_a": json_number(self.miou_a),
            "miou_b": json_number(self.miou_b),
            "difference": self.difference.to_dict(),
            "p_value": json_number(self.p_value),
            "permutations": self.permutations,
            "exact": self.exact,
        }


def bootstrap_miou(
    counts: PerImageConfusion,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    mean_over: MeanOver = _OVER_UNION,
) -> Interval:
    """Compute the mIoU of a split and its bootstrap percentile interval (Efron, 1979).

    The pixels of an image are not independent samples, images are: images are resampled with replacement and their counts
    summed.

    Args:
        counts: Pixel counts of every image.
        resamples: Number of resampled splits.
        confidence: Confidence level of the interval, between 0 and 1.
        seed: Random seed of the resampling.
        mean_over: Rule that averages over classes (default: classes with an empty union are left out).

    Raises:
        ValueError: An argument is out of range.
    """
    _check(resamples, confidence)
    table = _table(counts)
    statistic = partial(_miou, mean_over=mean_over)
    return _interval(table, statistic, resamples=resamples, confidence=confidence, seed=seed)


def paired_test(
    counts_a: PerImageConfusion,
    counts_b: PerImageConfusion,
    *,
    permutations: int = 10_000,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    mean_over: MeanOver = _OVER_UNION,
) -> PairedTest:
    """Test whether two sets of predictions differ in mIoU by more than chance (paired permutation test).

    Under the null hypothesis, the two predictions of an image are exchangeable. The test swaps them image by image and
    counts how often the difference becomes at least as large as observed. With up to 12 images all swaps are tried;
    otherwise p is (1 + hits) / (1 + permutations) (Phipson and Smyth, 2010).

    Args:
        counts_a: Pixel counts of every image for the first set.
        counts_b: Pixel counts of the same images, in the same order, for the second set.
        permutations: Number of random swaps if there are too many images to try all.
        resamples: Number of resampled splits for the interval of the difference.
        confidence: Confidence level of the interval of the difference.
        seed: Random seed of resampling and swaps.
        mean_over: Rule that averages over classes (default: classes with an empty union are left out).

    Raises:
        ValueError: An argument is out of range, or the two sets are not of the same images.
    """
    _check(resamples, confidence)
    if permutations < 1:
        raise ValueError(f"at least one permutation is needed, found {permutations}")
    if counts_a.true.shape != counts_b.true.shape:
        raise ValueError(f"the two sets differ in shape: {counts_a.true.shape} and {counts_b.true.shape}")
    others = np.flatnonzero((counts_a.true != counts_b.true).any(axis=1))
    if others.size:
        raise ValueError(f"the two sets are not of the same images: the ground truth of image {others[0]} differs")
    a, b = _table(counts_a), _table(counts_b)
    width = a.shape[1]

    def difference(sums: FloatArray) -> FloatArray:
        return _miou(sums[..., width:], mean_over=mean_over) - _miou(sums[..., :width], mean_over=mean_over)

    interval = _interval(np.hstack([a, b]), difference, resamples=resamples, confidence=confidence, seed=seed)
    images = counts_a.images
    exact = images <= _MAX_ENUMERATED
    swaps = _all_swaps(images) if exact else _random_swaps(images, 2 * width, permutations, seed)
    change, sum_a, sum_b = b - a, a.sum(axis=0), b.sum(axis=0)
    tried = hits = 0
    for swap in swaps:
        moved = swap @ change
        found = np.abs(difference(np.hstack([sum_a + moved, sum_b - moved])))
        hits += int(np.count_nonzero(found >= abs(interval.estimate) - _ROUNDING))
        tried += len(swap)
    p_value = hits / tried if exact else (1 + hits) / (1 + tried)
    return PairedTest(
        miou_a=float(_miou(sum_a, mean_over=mean_over)),
        miou_b=float(_miou(sum_b, mean_over=mean_over)),
        difference=interval,
        p_value=math.nan if math.isnan(interval.estimate) else p_value,
        permutations=tried,
        exact=exact,
    )


def _interval(
    table: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Interval:
    """Resample the (N, K) table by rows; ``statistic`` maps (..., K) sums over images to (...)."""
    images = len(table)
    estimate = float(statistic(table.sum(axis=0)))
    low = high = math.nan
    if images > 1 and not math.isnan(estimate):
        resampled = np.concatenate(
            [statistic(weights @ table) for weights in _resampling_weights(images, table.shape[1], resamples, seed)]
        )
        resampled = resampled[~np.isnan(resampled)]  # a resample with only ignored pixels has no mIoU
        tail = (1 - confidence) / 2
        if resampled.size:
            low, high = map(float, np.quantile(resampled, (tail, 1 - tail)))
    return Interval(estimate, low, high, confidence, resamples, images)


def _resampling_weights(images: int, columns: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield chunks of (R, N) that say how often each image occurs in a resample; each row is a multinomial draw of N."""
    rng = np.random.default_rng([seed, 0])
    for size in _chunks(images + columns, resamples):
        drawn = rng.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _random_swaps(images: int, columns: int, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Yield chunks of (P, N) with 1 where the two predictions of an image are swapped."""
    rng = np.random.default_rng([seed, 1])
    for size in _chunks(images + columns, permutations):
        yield rng.integers(0, 2, (size, images), dtype=np.uint8).astype(np.float64)


def _all_swaps(images: int) -> Iterator[FloatArray]:
    yield np.array(list(itertools.product((0.0, 1.0), repeat=images)))


def _chunks(width: int, rows: int) -> Iterator[int]:
    size = max(1, _CHUNK // width)
    for start in range(0, rows, size):
        yield min(size, rows - start)


def _table(counts: PerImageConfusion) -> FloatArray:
    """Counts as (N, 3 C) float64: sums are exact up to 2^53 pixels, and matrix products are faster than with integers."""
    return np.hstack([counts.intersection, counts.true, counts.predicted]).astype(np.float64)


def _miou(sums: FloatArray, *, mean_over: MeanOver) -> FloatArray:
    intersection, true, predicted = np.split(sums, 3, axis=-1)
    return mean_over(intersection, true, predicted)


def _check(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise ValueError(f"at least one resample is needed, found {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, found {confidence}")
