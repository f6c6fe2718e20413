"""Losses on logits and masks; a batch without a valid pixel gives zero, never NaN."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imageseg.labels import IGNORE

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def cross_entropy(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy, averaged over the valid pixels of the whole batch by the weights of their classes.

    Args:
        logits: (N, C, H, W); computed in float32, or in float64 where they are.
        mask: (N, H, W) integer class indices, 255 for ignore.
        class_weights: (C,), or None for equal ones.

    Returns:
        A scalar; with a gradient of zero when every pixel is ignored.
    """
    indices, logits = mask.long(), _precise(logits)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = F.cross_entropy(logits, indices, weights, ignore_index=IGNORE, reduction="sum")
    valid = indices != IGNORE
    if weights is None:
        return total / valid.sum().clamp(min=1)
    weight = weights[indices.where(valid, 0)].where(valid, 0.0).sum()
    return total / weight.clamp(min=torch.finfo(logits.dtype).tiny)


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
