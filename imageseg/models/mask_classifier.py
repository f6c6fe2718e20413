"""MaskClassifier: the contract of networks that divide an image into masks with a class each, instead of classifying pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from imageseg.models.base import Network

_EPSILON = 1e-6
"""Added to scores, so that a class without any mask still has a finite logarithm and a gradient."""


class MaskPrediction(NamedTuple):
    """What Q queries predict for each image."""

    classes: Tensor
    """(N, Q, C + 1) class logits of each mask; the last one means "no object"."""
    masks: Tensor
    """(N, Q, h, w) logits of each pixel belonging to each mask."""
    size: tuple[int, int]
    """H and W that the masks cover: the image and its padding at the right and lower edge, a multiple of h and w."""


class MaskClassifier(Network, ABC):
    """A network whose queries each predict a mask and its class (MaskFormer, Cheng et al. 2021, arXiv:2107.06278).

    Like any network it computes logits per pixel and can be trained with cross-entropy. It can also be trained on its masks:
    see ``imageseg.training.losses.mask_matching``.
    """

    @abstractmethod
    def mask_predictions(self, images: Tensor) -> list[MaskPrediction]:
        """Compute all supervised predictions for plain (N, C, H, W) images: in training the intermediate ones, then the final."""

    @abstractmethod
    def anneal(self, progress: float) -> None:
        """Adapt the network to the progress of training, 0 to 1."""


def semantic_logits(prediction: MaskPrediction) -> Tensor:
    """Convert masks to class logits (MaskFormer, section 3.4) at the size of the masks.

    The score of a class is the sum over queries of the probability of this class times the probability that the pixel belongs
    to the mask. Its logarithm is the logit, so that softmax normalizes the scores.

    Returns:
        (N, C, h, w) float32.
    """
    probabilities = prediction.classes.softmax(dim=-1)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", probabilities, prediction.masks.sigmoid())
    return (scores.float() + _EPSILON).log()
