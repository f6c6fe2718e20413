"""Colour jitter in one pass: brightness, contrast, saturation and hue as one affine map of RGB."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

_GREY = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601, as OpenCV and Pillow turn RGB into grey


def jittered(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The picture with brightness, contrast and saturation times 1 - strength to 1 + strength, hue a tenth of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: 0 to 1.
        rng: four numbers are drawn.
    """
    low, high = 1 - strength, 1 + strength
    brightness, contrast, saturation = rng.uniform(low, high, 3)
    return recolored(
        image,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=rng.uniform(-strength / 10, strength / 10),
    )


def recolored(
    image: npt.NDArray[np.uint8], *, brightness: float, contrast: float, saturation: float, hue: float
) -> npt.NDArray[np.uint8]:
    """The picture with its colours changed by the factors of torchvision's and Albumentations' ColorJitter; 1, 1, 1, 0 keeps them.

    Theirs take four passes and cut each one's results to 0 to 255, for which the order of the four matters. Without that
    all are one affine map, cut and rounded once; brightness, contrast and saturation come out the same in any order. Hue,
    which comes last, turns colours about the grey axis of RGB; theirs goes around the hexagon of HSV, which is at most 1.2
    degrees away for pure colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        brightness: what colours are multiplied with.
        contrast: what their distance to the mean grey of the picture is multiplied with.
        saturation: what their distance to their own grey is multiplied with.
        hue: by what share of a full turn the hue is turned.
    """
    mean = float(_GREY @ cv2.mean(image)[:3])
    saturating = saturation * np.eye(3) + (1 - saturation) * np.tile(_GREY, (3, 1))
    linear = brightness * contrast * saturating
    offset = np.full(3, brightness * (1 - contrast) * mean)
    matrix = _about_grey(2 * math.pi * hue) @ np.column_stack([linear, offset])
    return cv2.transform(image, matrix)  # type: ignore[return-value]


def _about_grey(angle: float) -> npt.NDArray[np.float64]:
    """The rotation of RGB about the line of greys, from red towards green (Rodrigues)."""
    cosine, sine = math.cos(angle), math.sin(angle) / math.sqrt(3)
    axis = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cosine * np.eye(3) + (1 - cosine) / 3 * np.ones((3, 3)) + sine * axis
