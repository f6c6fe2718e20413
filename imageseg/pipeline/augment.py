"""Augmentation: the one file that knows Albumentations."""

from __future__ import annotations

import math
import os
import random

import cv2
import numpy as np
import numpy.typing as npt

# Set before the import: otherwise it asks PyPI for its newest version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A

from imageseg.errors import InputError
from imageseg.labels import IGNORE

_PADDING = (124, 116, 104)  # the mean of ImageNet's pictures


class Augmentation:
    """Scales, crops, mirrors and recolours a picture and its mask.

    Padding is ignored in the mask and never a class; mask values are never interpolated.

    Args:
        crop_size: height and width of what the network sees in training.
        scale: the picture is resized by a factor between these two before it is cropped.
        flip: the chance that it is mirrored left to right.
        color_jitter: how far brightness, contrast and saturation may change, as a share; hue a tenth of it. 0 leaves colours.
    """

    def __init__(
        self,
        *,
        crop_size: tuple[int, int] = (512, 512),
        scale: tuple[float, float] = (0.5, 2.0),
        flip: float = 0.5,
        color_jitter: float = 0.3,
    ) -> None:
        if len(crop_size) != 2 or min(crop_size) < 1 or len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise InputError(f"crop_size must be two sizes and scale two rising factors, found {crop_size} and {scale}")
        if not 0 <= flip <= 1 or not 0 <= color_jitter <= 1:
            raise InputError(f"flip and color_jitter must lie between 0 and 1, found {flip} and {color_jitter}")
        height, width = crop_size
        # Of a smaller side, scaling could leave nothing.
        self._smallest = 1 if scale[0] >= 1 else math.ceil(1 / scale[0]) + 1
        steps: list[A.BasicTransform] = []
        if scale != (1.0, 1.0):
            steps.append(
                A.RandomScale(
                    scale_limit=(scale[0] - 1, scale[1] - 1),
                    interpolation=cv2.INTER_LINEAR,
                    # INTER_NEAREST rounds down, which moves masks by up to a pixel against their pictures.
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,
                    area_for_downscale="image",
                    p=1,
                )
            )
        steps += [
            A.PadIfNeeded(
                height, width, position="random", border_mode=cv2.BORDER_CONSTANT, fill=_PADDING, fill_mask=IGNORE, p=1
            ),
            A.RandomCrop(height, width, p=1),
            A.HorizontalFlip(p=flip),
        ]
        if color_jitter:
            share = (max(0.0, 1 - color_jitter), 1 + color_jitter)
            hue = color_jitter / 10
            steps.append(A.ColorJitter(brightness=share, contrast=share, saturation=share, hue=(-hue, hue), p=0.8))
        self._compose = A.Compose(steps)

    def __call__(
        self, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], *, seed: int
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """(H, W, 3) uint8 and (H, W) uint8 to the same of ``crop_size``; the same seed gives the same bytes."""
        if min(mask.shape) < self._smallest:
            image, mask = _enlarged(image, mask, self._smallest)
        # Albumentations 2.0.8 gives every loader worker the same state and restarts it each epoch; seeding every sample
        # takes its own counting out of play. Not by set_random_seed, which seeds each step alike: then a large scale would
        # always crop at the bottom and never mirror. Here all steps draw from one generator.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        changed = self._compose(image=image, mask=mask)
        return np.ascontiguousarray(changed["image"]), np.ascontiguousarray(changed["mask"])


def _enlarged(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], side: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Both with padding at the bottom and on the right, so that no side is below ``side``."""
    height, width = (max(side, size) for size in mask.shape)
    larger_image = np.full((height, width, 3), _PADDING, np.uint8)
    larger_mask = np.full((height, width), IGNORE, np.uint8)
    larger_image[: mask.shape[0], : mask.shape[1]] = image
    larger_mask[: mask.shape[0], : mask.shape[1]] = mask
    return larger_image, larger_mask
