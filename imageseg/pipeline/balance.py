"""Class balance: orders that draw rare classes more often than they occur, each a pure function of (seed, epoch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from imageseg.datasets.statistics.counts import ImageCounts
from imageseg.errors import InputError, counted, unknown_name
from imageseg.pipeline.stream import EpochDraws, Indices, Order, Permutation, generator

Balance = Literal["none", "auto", "rcs", "repeat", "focus"]
"""``none``: every picture once per epoch. ``rcs``: a class is drawn, then a picture that holds it and a window on it.

``repeat``: pictures of rare classes come several times. ``focus``: every picture once, every second one with a window on
one of its rarer classes. ``auto``: ``none``, ``rcs`` or ``focus``, by the dataset.
"""

BALANCES: tuple[Balance, ...] = ("none", "auto", "rcs", "repeat", "focus")

Array = npt.NDArray[np.float64]

_TEMPERATURE = 0.01  # DAFormer's
_SPREAD = 0.6
# DAFormer's configurations ask for 3,000 pixels of masks that have 2 million; other masks are of other sizes.
_LEAST_SHARE = 3000 / (1024 * 2048)
_RARE = 0.1
_FOCUSED = 0.5


def balanced_order(
    balance: Balance, counts: ImageCounts, *, names: Sequence[str], seed: int
) -> tuple[Order, str | None]:
    """The order that ``balance`` names, and for ``auto`` a line that says what was chosen and why.

    Args:
        balance: how.
        counts: of the masks, one row per sample.
        names: of the classes.
        seed: of the order.

    Raises:
        InputError: no mask has a pixel that is not ignored.
    """
    if balance not in BALANCES:
        raise unknown_name("balance", balance, BALANCES)
    if balance != "none" and not counts.pixels.any():
        raise InputError(
            f"data.balance {balance}: the training split ({counted(len(counts.pixels), 'mask', 'masks')}) has no pixel that "
            "is not ignored; look at its label table"
        )
    said = None
    if balance == "auto":
        balance, reason = _fitting(counts, names)
        said = f"balance: {balance}, because {reason}"
    if balance == "rcs":
        return RareClasses(counts.pixels, seed=seed), said
    if balance == "repeat":
        return Repeats(counts.pixels, seed=seed), said
    if balance == "focus":
        return FocusedPermutation(counts.pixels, seed=seed), said
    return Permutation(len(counts.pixels), seed=seed), said


class RareClasses:
    """Rare class sampling: each draw takes a class, then any picture that shows it, with a window on that class.

    Hoyer, Dai and Van Gool, "DAFormer", CVPR 2022, section 3.3. An epoch is as many draws as there are pictures. Pictures of
    frequent classes alone are seldom drawn. A picture shows a class from 0.14 % of its labelled pixels on; where none has so
    many, all that hold the class count.

    Args:
        pixels: (N, C) labelled pixels of each class in each picture.
        seed: of the draws.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], *, seed: int) -> None:
        self.probabilities = class_probabilities(pixels.sum(axis=0))
        """(C,) of the classes; 0 for one that never occurs."""
        self._sums = np.cumsum(self.probabilities)
        self._last = np.flatnonzero(self.probabilities)[-1]
        # The pictures of the first class, then those of the second, ...
        label, self._pictures = np.nonzero(_shown(pixels).T)
        self._starts = np.searchsorted(label, np.arange(pixels.shape[1] + 1))
        self._length = len(pixels)
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def draws(self, epoch: int) -> EpochDraws:
        """The draws of one epoch."""
        heights, places = generator(self._seed, epoch).random((2, self._length))
        # Up to the last class that can be drawn: the sum of all may end a hair below a uniform number.
        classes = np.minimum(np.searchsorted(self._sums, heights, side="right"), self._last)
        starts, counts = self._starts[classes], np.diff(self._starts)[classes]
        # A uniform number below 1 times a count can round up to the count.
        samples = self._pictures[starts + np.minimum((places * counts).astype(np.int64), counts - 1)]
        return EpochDraws(epoch, samples, occurrences=_occurrences(samples), focuses=classes)


class Repeats:
    """Repeat factors: a picture comes as often as its rarest class asks for.

    Gupta, Dollár and Girshick, "LVIS", CVPR 2019: r(c) = max(1, sqrt(t / f(c))) where f(c) is the share of pictures
    that hold c, and a picture's factor is the largest of its classes'. Their t of 0.001 is for more than a thousand classes:
    among ten or a hundred none is as rare. Here t is the median of f, so that the rarer half of the classes is repeated.

    An epoch has the sum of the factors, rounded up, and every picture comes at least once in each. The fractions are rounded
    by chance such that this sum is met and each picture comes in the mean as often as its share of it says.

    Args:
        pixels: (N, C) labelled pixels of each class in each picture.
        seed: of the order and the rounding.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], *, seed: int) -> None:
        factors = repeat_factors(pixels)
        # Sums of many halves and thirds end a hair above a whole number.
        self._length = math.ceil(float(factors.sum()) - 1e-6)
        self.factors = factors * (self._length / factors.sum())
        """(N,) how often each picture comes in an epoch, in the mean."""
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def draws(self, epoch: int) -> EpochDraws:
        """The draws of one epoch."""
        chance = generator(self._seed, epoch)
        # Systematic rounding: a comb with a random offset over the factors, laid end to end in random order.
        order = chance.permutation(len(self.factors))
        ends = np.cumsum(self.factors[order])
        teeth = np.arange(self._length) + chance.random()
        places = np.minimum(np.searchsorted(ends, teeth, side="right"), len(order) - 1)
        samples = chance.permutation(order[places])
        return EpochDraws(epoch, samples, occurrences=_occurrences(samples))


class FocusedPermutation:
    """Every picture once per epoch; half of the draws have a window on one of the picture's rarer classes.

    Which one is drawn by the probabilities of rare class sampling among the classes that the picture shows. A picture of one
    class has no focus.

    Args:
        pixels: (N, C) labelled pixels of each class in each picture.
        seed: of the order and the focus.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], *, seed: int) -> None:
        shown = _shown(pixels)
        shown[(pixels > 0).sum(axis=1) < 2] = False
        picture, self._classes = np.nonzero(shown)
        self._starts = np.searchsorted(picture, np.arange(len(pixels) + 1))
        weights = class_probabilities(pixels.sum(axis=0))[self._classes]
        # Relative to the largest of the picture: among frequent classes all would vanish beside other pictures' sums.
        if len(picture):
            first = self._starts[:-1][np.diff(self._starts) > 0]
            weights = weights / np.repeat(np.maximum.reduceat(weights, first), np.diff(np.append(first, len(picture))))
        self._sums = np.append(0.0, np.cumsum(weights))
        self._permutation = Permutation(len(pixels), seed=seed)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._permutation)

    def draws(self, epoch: int) -> EpochDraws:
        """The draws of one epoch, in the order of the plain permutation."""
        chance = generator(self._seed, epoch, 1)
        focused, heights = chance.random((2, len(self)))  # by sample
        starts, ends = self._starts[:-1], self._starts[1:]
        low, high = self._sums[starts], self._sums[ends]
        entries = np.searchsorted(self._sums, low + heights * (high - low), side="right") - 1
        entries = np.clip(entries, starts, np.maximum(ends - 1, starts))
        has = (focused < _FOCUSED) & (ends > starts)
        samples = self._permutation.samples(epoch)
        focuses = np.full(len(self), -1)
        focuses[has] = self._classes[entries[has]]
        return EpochDraws(epoch, samples, focuses=focuses[samples])


def class_probabilities(pixels: npt.NDArray[np.int64]) -> Array:
    """P(c), the softmax of (1 - f(c)) / T over the classes that occur, f(c) being the class's share of the labelled pixels.

    The paper's T of 0.01 belongs to street scenes of 19 classes, most of them below 2 %, which it draws about alike. With two or
    three classes, whose shares differ by much more than 0.01, it would draw one class alone, and pictures without it never. So T
    is raised, where need be, until the draws are as mixed as of 1 + 0.6 (C - 1) classes that come equally often (the
    exponential of the entropy): six tenths of the way from one class to all, which 0.01 passes where two thirds of the classes
    are rare. Of two classes, the rarer one gets 82 % of the draws at most.

    Args:
        pixels: (C,) of each class.

    Returns:
        (C,) that sum to 1; 0 for a class that does not occur.
    """
    occurs = pixels > 0
    shares = pixels[occurs] / pixels.sum()
    wanted = 1 + _SPREAD * (len(shares) - 1)
    chosen = _softmax(-shares / _TEMPERATURE)
    if _spread(chosen) < wanted:
        low, high = _TEMPERATURE, 1e3  # at T = 1000 all are alike
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if _spread(_softmax(-shares / middle)) < wanted else (low, middle)
        chosen = _softmax(-shares / high)
    probabilities = np.zeros(len(pixels))
    probabilities[occurs] = chosen
    return probabilities


def repeat_factors(pixels: npt.NDArray[np.int64]) -> Array:
    """r of each picture, 1 or more; see ``Repeats``.

    Args:
        pixels: (N, C) labelled pixels of each class in each picture.
    """
    held = pixels > 0
    shares = held.mean(axis=0)
    occurs = shares > 0
    of_classes = np.ones(len(shares))
    of_classes[occurs] = np.maximum(1, np.sqrt(np.median(shares[occurs]) / shares[occurs]))
    factors: Array = np.where(held, of_classes, 1).max(axis=1)
    return factors


def _fitting(counts: ImageCounts, names: Sequence[str]) -> tuple[Balance, str]:
    """What ``auto`` means here, and why: rare is below a tenth of an even share of the pixels."""
    pixels, pictures = counts.pixels.sum(axis=0), (counts.pixels > 0).mean(axis=0)
    occurs = np.flatnonzero(pixels).tolist()
    shares = pixels / pixels.sum()
    rarest = min(occurs, key=lambda label: shares[label])
    rare = [label for label in occurs if shares[label] < _RARE / len(occurs)]
    if not rare:
        return "none", f"even the rarest class, {names[rarest]}, has {_percent(shares[rarest])} of the pixels"
    # In few pictures, the pictures must be drawn more often; in most of them, a window on it does.
    scarce = [label for label in rare if pictures[label] < 0.5]
    if not scarce:
        return "focus", f"{names[rarest]} has {_percent(shares[rarest])} of the pixels, in most of the pictures"
    first = min(scarce, key=lambda label: shares[label])
    return (
        "rcs",
        f"{names[first]} has {_percent(shares[first])} of the pixels, in {_percent(pictures[first])} of the pictures",
    )


def _shown(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(N, C): whether the picture has enough pixels of the class, or any where no picture has enough."""
    held = pixels > 0
    enough = held & (pixels >= _LEAST_SHARE * pixels.sum(axis=1, keepdims=True))
    shown: npt.NDArray[np.bool_] = np.where(enough.any(axis=0), enough, held)
    return shown


def _occurrences(samples: Indices) -> Indices:
    """How often each one has come before."""
    by_sample = np.argsort(samples, kind="stable")
    grouped = samples[by_sample]
    occurrences = np.empty_like(samples)
    occurrences[by_sample] = np.arange(len(samples)) - np.searchsorted(grouped, grouped)  # since its group began
    return occurrences


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    probabilities: Array = powers / powers.sum()
    return probabilities


def _spread(probabilities: Array) -> float:
    """How many classes that come equally often are as uncertain: the exponential of the entropy."""
    positive = probabilities[probabilities > 0]
    return math.exp(-float((positive * np.log(positive)).sum()))


def _percent(share: float) -> str:
    return f"{np.format_float_positional(100 * share, precision=2, fractional=False, trim='-')} %"
