"""How sure an mIoU is: bootstrap intervals over pictures, and a paired test of two sets of predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from imageseg.scoring.dialects import miou_over
from imageseg.scoring.scores import FloatArray, plain

MeanOver = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], FloatArray]
"""From (..., C) intersections, true and predicted pixels to (...) mIoU, NaN where there is none."""

Method = Literal["percentile", "bca"]

_OVER_UNION: MeanOver = partial(miou_over, "union")
# Of up to so many pictures, all 2^N ways to swap are tried: 4096.
_ENUMERATED = 12
# Numbers that a chunk of resamples may hold: 16 MiB in float64.
_CHUNK = 2**21
# Two orders of the same operations round differently; no two mIoU that close are worth telling apart.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PerImageConfusion:
    """Pixels of every picture of a split by class, in one order of pictures.

    Attributes:
        intersection: (N, C) pixels that are predicted as their true class.
        true: (N, C) valid pixels of each true class.
        predicted: (N, C) valid pixels predicted as each class.

    Raises:
        ValueError: shapes differ, nothing was counted, or an intersection is larger than what it is part of.
    """

    intersection: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        shapes = [part.shape for part in (self.intersection, self.true, self.predicted)]
        if len(set(shapes)) != 1 or len(shapes[0]) != 2 or 0 in shapes[0]:
            raise ValueError(f"counts must be (N, C) alike, found {shapes[0]}, {shapes[1]} and {shapes[2]}")
        if any(part.dtype.kind not in "ui" for part in (self.intersection, self.true, self.predicted)):
            raise ValueError("counts must be integers")
        if (self.intersection < 0).any() or (self.intersection > np.minimum(self.true, self.predicted)).any():
            raise ValueError("an intersection lies between 0 and the true and the predicted pixels")

    @classmethod
    def from_matrices(cls, matrices: Sequence[npt.NDArray[np.int64]]) -> PerImageConfusion:
        """From one (C, C + 1) table per picture: rows are the truth, the last column is for predictions of no class."""
        stacked = np.stack(matrices)
        return cls(np.diagonal(stacked, axis1=1, axis2=2).copy(), stacked.sum(axis=2), stacked[:, :, :-1].sum(axis=1))

    @property
    def images(self) -> int:
        """N."""
        return len(self.true)


@dataclass(frozen=True)
class Interval:
    """A figure over a split, and where it would lie for other pictures of the same kind.

    Attributes:
        estimate: the mIoU of the pictures themselves.
        low: the lower end of the interval; NaN for a single picture, from which nothing follows about others.
        high: its upper end.
        confidence: in what share of such experiments the interval holds the true figure.
        method: how the interval was made.
        resamples: how many times pictures were drawn.
        images: how many pictures there are.
    """

    estimate: float
    low: float
    high: float
    confidence: float
    method: Method
    resamples: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined figures are None."""
        return {
            **{name: plain(getattr(self, name)) for name in ("estimate", "low", "high")},
            "confidence": self.confidence,
            "method": self.method,
            "resamples": self.resamples,
            "images": self.images,
        }


@dataclass(frozen=True)
class PairedTest:
    """Two sets of predictions of the same pictures.

    Attributes:
        miou_a: of the first set.
        miou_b: of the second.
        difference: b minus a, with its bootstrap interval: pictures are drawn once for both.
        p_value: how often a difference at least as large, in either direction, arises from swapping the two sets'
            predictions of each picture at random; small where it is no chance. NaN without a difference.
        permutations: how many swaps were tried.
        exact: whether those are all there are.
    """

    miou_a: float
    miou_b: float
    difference: Interval
    p_value: float
    permutations: int
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON: undefined figures are None."""
        return {
            "miou_a": plain(self.miou_a),
            "miou_b": plain(self.miou_b),
            "difference": self.difference.to_dict(),
            "p_value": plain(self.p_value),
            "permutations": self.permutations,
            "exact": self.exact,
        }


def bootstrap_miou(
    counts: PerImageConfusion,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "percentile",
    mean_over: MeanOver = _OVER_UNION,
) -> Interval:
    """The mIoU of a split with an interval from drawing its pictures again, with repetition (Efron, 1979).

    Pixels of a picture are no independent draws, pictures are: so whole pictures are drawn, and their counts summed.

    Args:
        counts: of every picture.
        resamples: how many splits are drawn.
        confidence: of the interval, between 0 and 1.
        seed: the same seed draws the same pictures.
        method: "percentile" takes quantiles of the drawn splits' mIoU; "bca" (Efron, 1987) shifts them by the bias and
            the skew that the drawn splits and those without one picture show.
        mean_over: the rule by which classes are averaged; classes of an empty union leave the mean unless told.

    Raises:
        ValueError: impossible arguments.
    """
    _check(resamples, confidence, method)
    table = _table(counts)
    statistic = partial(_miou, mean_over=mean_over)
    return _interval(table, statistic, resamples=resamples, confidence=confidence, seed=seed, method=method)


def paired_test(
    counts_a: PerImageConfusion,
    counts_b: PerImageConfusion,
    *,
    permutations: int = 10_000,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    method: Method = "percentile",
    mean_over: MeanOver = _OVER_UNION,
) -> PairedTest:
    """Whether the second set of predictions is better than the first by more than chance.

    If the two were equally good, it would be a coin's matter which of the two predictions of a picture came from which.
    So the test swaps them picture by picture and counts how often the difference becomes as large as it is; with up to
    12 pictures it tries every way there is, else p is (1 + hits) / (1 + permutations) (Phipson and Smyth, 2010).

    Args:
        counts_a: of every picture.
        counts_b: of the same pictures in the same order.
        permutations: how many random swaps, where they are too many to try all.
        resamples: as in ``bootstrap_miou``, as are the other arguments.
        confidence: of the difference's interval.
        seed: the same seed draws and swaps the same pictures.
        method: of the interval.
        mean_over: the rule by which classes are averaged.

    Raises:
        ValueError: impossible arguments, or the two are not of the same pictures.
    """
    _check(resamples, confidence, method)
    if permutations < 1:
        raise ValueError(f"at least one permutation is needed, found {permutations}")
    if counts_a.true.shape != counts_b.true.shape:
        raise ValueError(f"the two sets differ in shape: {counts_a.true.shape} and {counts_b.true.shape}")
    others = np.flatnonzero((counts_a.true != counts_b.true).any(axis=1))
    if others.size:
        raise ValueError(f"the two sets are not of the same pictures: the truth of picture {others[0]} differs")
    a, b = _table(counts_a), _table(counts_b)
    width = a.shape[1]

    def difference(sums: FloatArray) -> FloatArray:
        return _miou(sums[..., width:], mean_over=mean_over) - _miou(sums[..., :width], mean_over=mean_over)

    interval = _interval(
        np.hstack([a, b]), difference, resamples=resamples, confidence=confidence, seed=seed, method=method
    )
    images = counts_a.images
    exact = images <= _ENUMERATED
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
    method: Method,
) -> Interval:
    """``statistic`` takes (..., K) sums over pictures of the (N, K) table and gives (...)."""
    images = len(table)
    estimate = float(statistic(table.sum(axis=0)))
    low = high = math.nan
    if images > 1 and not math.isnan(estimate):
        drawn = np.concatenate(
            [statistic(weights @ table) for weights in _draws(images, table.shape[1], resamples, seed)]
        )
        drawn = drawn[~np.isnan(drawn)]  # a drawn split of nothing but ignored pixels has no mIoU
        tail = (1 - confidence) / 2
        ends = (tail, 1 - tail)
        if method == "bca":
            total = table.sum(axis=0)
            parts = np.array_split(table, math.ceil(table.size / _CHUNK))
            ends = _bca_ends(ends, drawn, estimate, np.concatenate([statistic(total - part) for part in parts]))
        if drawn.size:
            low, high = map(float, np.quantile(drawn, ends))
    return Interval(estimate, low, high, confidence, method, resamples, images)


def _bca_ends(
    ends: tuple[float, float], drawn: FloatArray, estimate: float, left_out: FloatArray
) -> tuple[float, float]:
    """Which quantiles to take instead of ``ends``; the same where a bias or a skew cannot be told.

    Args:
        ends: the quantiles of the percentile method.
        drawn: (R,) figures of drawn splits.
        estimate: the figure itself.
        left_out: (N,) figures without each picture in turn, for the acceleration by the jackknife.
    """
    normal = NormalDist()
    # Of draws that equal the estimate, half lie below it.
    below = (np.count_nonzero(drawn < estimate) + np.count_nonzero(drawn <= estimate)) / (2 * max(drawn.size, 1))
    deviations = left_out.mean() - left_out
    spread = float((deviations**2).sum())
    if not 0 < below < 1 or not spread > 0:
        return ends
    bias = normal.inv_cdf(below)
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    low, high = (bias + normal.inv_cdf(end) for end in ends)
    # The acceleration is never above 1 / 6, so that only absurd confidences come to this.
    if max(acceleration * low, acceleration * high) >= 1:
        return ends
    low, high = (normal.cdf(bias + end / (1 - acceleration * end)) for end in (low, high))
    return low, high


def _draws(images: int, columns: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """How often each picture is drawn: chunks of (R, N), each row a multinomial draw of N from N."""
    rng = np.random.default_rng([seed, 0])
    for size in _chunks(images + columns, resamples):
        drawn = rng.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _random_swaps(images: int, columns: int, permutations: int, seed: int) -> Iterator[FloatArray]:
    """Chunks of (P, N): 1 where a picture's two predictions are swapped."""
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
    """(N, 3 C) in float64: its sums are exact up to 2^53 pixels, and it multiplies faster than integers."""
    return np.hstack([counts.intersection, counts.true, counts.predicted]).astype(np.float64)


def _miou(sums: FloatArray, *, mean_over: MeanOver) -> FloatArray:
    intersection, true, predicted = np.split(sums, 3, axis=-1)
    return mean_over(intersection, true, predicted)


def _check(resamples: int, confidence: float, method: str) -> None:
    if resamples < 1:
        raise ValueError(f"at least one resample is needed, found {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, found {confidence}")
    if method not in ("percentile", "bca"):
        raise ValueError(f"an interval is made by percentile or bca, found '{method}'")
