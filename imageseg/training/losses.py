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
    target = mask.long()
    total = F.cross_entropy(logits.float(), target, class_weights, ignore_index=IGNORE, reduction="sum")
    valid = target != IGNORE
    if class_weights is None:
        return total / valid.sum().clamp(min=1)
    weights = class_weights[target.where(valid, 0)].where(valid, 0.0)
    return total / weights.sum().clamp(min=torch.finfo(torch.float32).tiny)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
