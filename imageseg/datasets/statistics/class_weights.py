"""Class weights for a loss from class frequencies, by three published rules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

BETA = 0.9999


def median_frequency(pixels: IntArray, image_pixels: IntArray) -> Weights:
    """Median frequency balancing: median frequency / class frequency (Eigen and Fergus, arXiv:1411.4734; used by SegNet).

    The frequency of a class is its share of the valid pixels of the images in which it occurs.

    Args:
        pixels: Number of pixels of each class, shape (C,).
        image_pixels: Number of valid pixels of the images in which each class occurs, shape (C,).

    Returns:
        Weights of shape (C,), NaN for classes that do not occur.
    """
    frequency = _ratio(pixels, image_pixels)
    occurring = frequency[pixels > 0]
    weights: Weights = (np.median(occurring) if occurring.size else np.nan) / frequency
    return weights


def enet(pixels: IntArray) -> Weights:
    """ENet's weights 1 / ln(1.02 + p), where p is the share of the class in all valid pixels (Paszke et al., arXiv:1606.02147).

    They are between 1.4 and 50.

    Args:
        pixels: Number of pixels of each class, shape (C,).

    Returns:
        Weights of shape (C,), NaN for classes that do not occur.
    """
    share = _ratio(pixels, np.full_like(pixels, pixels.sum()))
    weights: Weights = 1.0 / np.log(1.02 + share)
    return weights


def effective_number(images: IntArray, *, beta: float = BETA) -> Weights:
    """(1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al., CVPR 2019, arXiv:1901.05555).

    n is the number of images in which the class occurs, not the number of its pixels: pixels of one image are strongly
    correlated, and for millions of them every common beta gives equal weights.

    Args:
        images: Number of images in which each class occurs, shape (C,).
        beta: Hyperparameter in [0, 1): 0 gives equal weights, values towards 1 give weights inverse to n.

    Returns:
        Weights of shape (C,), NaN for classes that do not occur.
    """
    weights: Weights = np.full(images.shape, np.nan)
    occurs = images > 0
    if occurs.any():
        weights[occurs] = (1.0 - beta) / (1.0 - beta ** images[occurs])
        weights /= float(weights[occurs].mean())
    return weights


def _ratio(part: IntArray, total: IntArray) -> Weights:
    ratio: Weights = np.full(part.shape, np.nan)
    occurs = part > 0
    ratio[occurs] = part[occurs] / total[occurs]
    return ratio
