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
        logits: (N, C, H, W), computed in float32 whatever they come in.
        mask: (N, H, W) integer class indices, 255 for ignore.
        class_weights: (C,), or None for equal ones.

    Returns:
        A scalar; with a gradient of zero when every pixel is ignored.
    """
    indices = mask.long()
    weights = None if class_weights is None else class_weights.float()
    total = F.cross_entropy(logits.float(), indices, weights, ignore_index=IGNORE, reduction="sum")
    valid = indices != IGNORE
    if weights is None:
        return total / valid.sum().clamp(min=1)
    weight = weights[indices.where(valid, 0)].where(valid, 0.0).sum()
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
