"""MaskClassifier: a network that divides a picture into masks, each with a class, instead of classifying its pixels."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from imageseg.models.base import Network

_FLOOR = 1e-6
"""Added to scores, so that a class that no mask has got a finite logarithm and a gradient."""


class MaskPrediction(NamedTuple):
    """What a number of queries (Q) found in each picture."""

    classes: Tensor
    """(N, Q, C + 1) logits of the class of each mask; the last one means "no object"."""
    masks: Tensor
    """(N, Q, h, w) logits of belonging to each mask."""
    size: tuple[int, int]
    """H and W that the masks cover: the picture with its padding at the right and the lower edge, a multiple of h and w."""


class MaskClassifier(Network):
    """A network whose queries each predict a mask and its class (MaskFormer, Cheng et al. 2021, arXiv:2107.06278).

    As any network it gives logits per pixel and trains on cross-entropy. It also trains on its masks: see
    ``imageseg.training.losses.mask_matching``.
    """

    @abstractmethod
    def mask_predictions(self, images: Tensor) -> list[MaskPrediction]:
        """(N, C, H, W) plain pictures to the predictions to be supervised: the final one, in training after those on the way."""

    @abstractmethod
    def anneal(self, progress: float) -> None:
        """Tells how much of the training is done, 0 to 1, where its course depends on that."""


def semantic_logits(prediction: MaskPrediction) -> Tensor:
    """Masks to logits of classes (MaskFormer, section 3.4), at the size of the masks.

    The score of a class is the sum over queries of the probability of that class times that of the pixel's being in the
    mask. Its logarithm is the logit, so that softmax gives back the scores as shares.

    Returns:
        (N, C, h, w) float32.
    """
    probabilities = prediction.classes.softmax(dim=-1)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", probabilities, prediction.masks.sigmoid())
    return (scores.float() + _FLOOR).log()
