"""Sample and Batch: what a dataset yields and what a loader stacks."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Sample(TypedDict):
    """One picture and its mask."""

    image: Tensor
    """(3, H, W) uint8 RGB."""
    mask: Tensor
    """(H, W) uint8 class indices, 255 for ignore."""
    name: str


class Batch(TypedDict):
    """Samples of one size, stacked."""

    image: Tensor
    """(N, 3, H, W) uint8 RGB, in channels_last memory order."""
    mask: Tensor
    """(N, H, W) uint8 class indices, 255 for ignore."""
    name: list[str]
    pixels: NotRequired[Tensor]
    """(256,) int64: how many pixels of the masks have each value; in training only."""


def make_sample(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], name: str) -> Sample:
    """A sample from an (H, W, 3) picture and an (H, W) mask; their memory is shared, not copied."""
    return {"image": torch.from_numpy(image).permute(2, 0, 1), "mask": torch.from_numpy(mask), "name": name}


def stack(samples: list[Sample]) -> Batch:
    """Samples of one size to a batch. The pictures keep their pixel order, which is channels_last for the batch."""
    images = torch.stack([sample["image"].permute(1, 2, 0) for sample in samples])  # (N, H, W, 3)
    return {
        "image": images.permute(0, 3, 1, 2),
        "mask": torch.stack([sample["mask"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
    }
