"""Class weights for a loss, from how often classes occur: three published rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

BETA = 0.9999


def median_frequency(pixels: IntArray, image_pixels: IntArray) -> Weights:
    """The median frequency over the class's own (Eigen and Fergus, arXiv:1411.4734; SegNet uses it).

    A class's frequency is its share of the valid pixels of those pictures in which it occurs.

    Args:
        pixels: (C,) pixels of each class.
        image_pixels: (C,) valid pixels of the pictures in which the class occurs.

    Returns:
        (C,), NaN for a class that does not occur.
    """
    frequency = _ratio(pixels, image_pixels)
    occurring = frequency[pixels > 0]
    weights: Weights = (np.median(occurring) if occurring.size else np.nan) / frequency
    return weights


def enet(pixels: IntArray, *, c: float = 1.02) -> Weights:
    """1 / ln(c + p), p being the class's share of all valid pixels (ENet: Paszke et al., arXiv:1606.02147).

    With the paper's c, weights lie between 1.4 and 50.

    Returns:
        (C,), NaN for a class that does not occur.
    """
    share = _ratio(pixels, np.full_like(pixels, pixels.sum()))
    weights: Weights = 1.0 / np.log(c + share)
    return weights


def effective_number(images: IntArray, *, beta: float = BETA) -> Weights:
    """(1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al., CVPR 2019, arXiv:1901.05555).

    n is the number of pictures in which the class occurs, not of its pixels: those of one picture say nearly the same, and for
    millions of them every usual beta gives equal weights.

    Args:
        images: (C,) pictures in which each class occurs.
        beta: 0 for equal weights, towards 1 for weights inverse to n.

    Returns:
        (C,), NaN for a class that does not occur.
    """
    weights: Weights = np.full(images.shape, np.nan)
    occurs = images > 0
    if occurs.any():
        weights[occurs] = (1.0 - beta) / (1.0 - beta ** images[occurs])
        weights /= float(weights[occurs].mean())
    return weights


def _ratio(part: IntArray, whole: IntArray) -> Weights:
    ratio: Weights = np.full(part.shape, np.nan)
    occurs = part > 0
    ratio[occurs] = part[occurs] / whole[occurs]
    return ratio
