"""Sample and Batch: the elements of a dataset, and the batches that a loader stacks."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Sample(TypedDict):
    """One image and its mask."""

    image: Tensor
    """(3, H, W) uint8 RGB."""
    mask: Tensor
    """(H, W) uint8 class indices; 255 is ignored."""
    name: str


class Batch(TypedDict):
    """Stacked samples of one size."""

    image: Tensor
    """(N, 3, H, W) uint8 RGB, in channels_last memory format."""
    mask: Tensor
    """(N, H, W) uint8 class indices; 255 is ignored."""
    name: list[str]
    pixels: NotRequired[Tensor]
    """(256,) int64 number of mask pixels with each value; in training batches only."""


def make_sample(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], name: str) -> Sample:
    """A sample of an (H, W, 3) image and an (H, W) mask; the tensors share their memory."""
    return {"image": torch.from_numpy(image).permute(2, 0, 1), "mask": torch.from_numpy(mask), "name": name}


def stack(samples: list[Sample]) -> Batch:
    """A batch of samples of one size. Images keep their pixel order, which is channels_last for the batch."""
    images = torch.stack([sample["image"].permute(1, 2, 0) for sample in samples])  # (N, H, W, 3)
    return {
        "image": images.permute(0, 3, 1, 2),
        "mask": torch.stack([sample["mask"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
    }
