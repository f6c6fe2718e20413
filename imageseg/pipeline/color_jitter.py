"""Color jitter in one pass: brightness, contrast, saturation and hue as one affine map of RGB."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, by which OpenCV and Pillow convert RGB to gray


def jittered(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Multiply brightness, contrast and saturation by random factors in 1 ± strength, and rotate the hue by up to a tenth of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        strength: Maximum relative change, 0 to 1.
        rng: Random generator, from which four numbers are drawn.
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
    """Change colors by the factors of torchvision's and Albumentations' ColorJitter; 1, 1, 1, 0 is the identity.

    Those implementations take four passes and clip after each, so that the order of the four matters. Without intermediate
    clipping they are a single affine map, clipped and rounded once, in which brightness, contrast and saturation commute. Hue
    is applied last, as a rotation around the gray axis of RGB; the others rotate along the hexagon of HSV, which differs by at
    most 1.2 degrees for pure colors.

    Args:
        image: (H, W, 3) uint8 RGB.
        brightness: Factor for all colors.
        contrast: Factor for the distance of colors to the mean gray of the image.
        saturation: Factor for the distance of colors to their own gray value.
        hue: Rotation of the hue as a share of a full turn.
    """
    mean = float(_LUMA @ cv2.mean(image)[:3])
    saturating = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    linear = brightness * contrast * saturating
    offset = np.full(3, brightness * (1 - contrast) * mean)
    matrix = _hue_rotation(2 * math.pi * hue) @ np.column_stack([linear, offset])
    return cv2.transform(image, matrix)  # type: ignore[return-value]


def _hue_rotation(angle: float) -> npt.NDArray[np.float64]:
    """(3, 3) rotation of RGB around the gray axis, from red towards green (Rodrigues' formula)."""
    cosine, sine = math.cos(angle), math.sin(angle) / math.sqrt(3)
    axis = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return cosine * np.eye(3) + (1 - cosine) / 3 * np.ones((3, 3)) + sine * axis
