"""Class balance: rare class sampling, an order that draws samples of rare classes more often than they occur."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from imageseg.errors import InputError, counted, unknown_name
from imageseg.pipeline.epoch_order import EpochDraws, Indices, counted_generator

Balance = Literal["none", "rcs"]
"""``none``: every image once per epoch. ``rcs``: rare class sampling, see ``RareClassOrder``."""

BALANCES: tuple[Balance, ...] = ("none", "rcs")
REMOVED_BALANCES = ("repeat", "focus", "auto")
"""Removed values that old recipes and checkpoints may still contain."""

Array = npt.NDArray[np.float64]

_TEMPERATURE = 0.01  # DAFormer
_MIXTURE = 0.6
# DAFormer's configurations require 3,000 pixels in masks of 2 million pixels; masks of other sizes require the same share.
_MIN_SHARE = 3000 / (1024 * 2048)


def check_balance(balance: str) -> None:
    """Check that training supports this class balance.

    Raises:
        InputError: The name is unknown, or was removed.
    """
    if balance in REMOVED_BALANCES:
        raise InputError(
            f"data.balance '{balance}' was removed, because only rare class sampling has a measured gain; use rcs (or none)"
        )
    if balance not in BALANCES:
        raise unknown_name("balance", balance, BALANCES)


class RareClassOrder:
    """Rare class sampling: each draw selects a class, then any image that shows it, with a crop on that class.

    Hoyer, Dai and Van Gool, "DAFormer", CVPR 2022, section 3.3. An epoch has as many draws as there are images. Images that
    show frequent classes only are seldom drawn. An image shows a class if the class fills at least 0.14 % of its labeled
    pixels; if no image has that many, every image that contains the class counts.

    Args:
        pixels: (N, C) number of labeled pixels of each class in each image.
        seed: Random seed of the draws.

    Raises:
        InputError: No image has a pixel that is not ignored.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], *, seed: int) -> None:
        if not pixels.any():
            raise InputError(
                f"data.balance rcs: the training split ({counted(len(pixels), 'mask', 'masks')}) has no pixel that is not "
                "ignored; check its label table"
            )
        self.probabilities = class_probabilities(pixels.sum(axis=0))
        """(C,) probability of each class; 0 for a class that never occurs."""
        self._cumulative = np.cumsum(self.probabilities)
        self._last = np.flatnonzero(self.probabilities)[-1]
        # The images of the first class, then those of the second, ...
        label, self._images = np.nonzero(_shown(pixels).T)
        self._starts = np.searchsorted(label, np.arange(pixels.shape[1] + 1))
        self._length = len(pixels)
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def draws(self, epoch: int) -> EpochDraws:
        """The draws of one epoch."""
        heights, places = counted_generator(self._seed, epoch).random((2, self._length))
        # Rounding may leave the total slightly below a uniform number: limit to the last class that can be drawn.
        classes = np.minimum(np.searchsorted(self._cumulative, heights, side="right"), self._last)
        starts, counts = self._starts[classes], np.diff(self._starts)[classes]
        # A uniform number below 1, multiplied by a count, may round up to the count.
        samples = self._images[starts + np.minimum((places * counts).astype(np.int64), counts - 1)]
        return EpochDraws(epoch, samples, occurrences=_occurrences(samples), focuses=classes)


def class_probabilities(pixels: npt.NDArray[np.int64]) -> Array:
    """Probability of each class, P(c) = softmax((1 - f(c)) / T), where f(c) is the class's share of the labeled pixels.

    The paper's T = 0.01 is meant for street scenes with 19 classes, most of which fill less than 2 %: it draws them about
    equally often. With two or three classes, whose shares differ by much more than 0.01, it would draw a single class and never
    an image without it. T is therefore raised, if necessary, until the exponential of the entropy of P, the effective number of
    classes, is 1 + 0.6 (C - 1). With T = 0.01 that holds if two thirds of the classes are rare. Of two classes, the rarer one
    gets at most 82 % of the draws.

    Args:
        pixels: (C,) number of pixels of each class.

    Returns:
        (C,) probabilities with sum 1; 0 for a class that does not occur.
    """
    occurs = pixels > 0
    shares = pixels[occurs] / pixels.sum()
    wanted = 1 + _MIXTURE * (len(shares) - 1)
    chosen = _softmax(-shares / _TEMPERATURE)
    if _effective_classes(chosen) < wanted:
        low, high = _TEMPERATURE, 1e3  # T = 1000 is uniform
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if _effective_classes(_softmax(-shares / middle)) < wanted else (low, middle)
        chosen = _softmax(-shares / high)
    probabilities = np.zeros(len(pixels))
    probabilities[occurs] = chosen
    return probabilities


def _shown(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(N, C): whether an image has enough pixels of a class, or any pixel if no image has enough."""
    contains = pixels > 0
    enough = contains & (pixels >= _MIN_SHARE * pixels.sum(axis=1, keepdims=True))
    shown: npt.NDArray[np.bool_] = np.where(enough.any(axis=0), enough, contains)
    return shown


def _occurrences(samples: Indices) -> Indices:
    """Number of times that each sample has occurred before."""
    by_sample = np.argsort(samples, kind="stable")
    grouped = samples[by_sample]
    occurrences = np.empty_like(samples)
    # Position of each draw within the group of its sample
    occurrences[by_sample] = np.arange(len(samples)) - np.searchsorted(grouped, grouped)
    return occurrences


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max())
    probabilities: Array = powers / powers.sum()
    return probabilities


def _effective_classes(probabilities: Array) -> float:
    """The exponential of the entropy: the number of equally likely classes with the same entropy."""
    positive = probabilities[probabilities > 0]
    return math.exp(-float((positive * np.log(positive)).sum()))
