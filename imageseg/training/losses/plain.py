"""Losses on logits and masks in their plain forms; a batch without a valid pixel gives zero, never NaN.

They are what the forms without full-size logits (``pixel_loss``, ``region_loss``) are tested against.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imageseg.labels import IGNORE

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

# Lin et al. 2017 (arXiv:1708.02002), section 5.1: the best of those tried.
FOCUS = 2
# Hard examples (Shrivastava et al. 2016, arXiv:1604.03540) as segmentation has them, from Wu et al. 2016 (arXiv:1605.06885)
# on: pixels whose own class has less than this probability, and at least this share of all.
EASY = 0.7
HARD_SHARE = 1 / 16


def cross_entropy(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy, averaged over the valid pixels of the whole batch by the weights of their classes.

    Args:
        logits: (N, C, H, W); computed in float32, or in float64 where they are.
        mask: (N, H, W) integer class indices, 255 for ignore.
        class_weights: (C,), or None for equal ones.
        label_smoothing: the share of a pixel's label that is spread evenly over all classes (Szegedy et al. 2016).

    Returns:
        A scalar; with a gradient of zero when every pixel is ignored.
    """
    logits = _precise(logits)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = F.cross_entropy(
        logits, mask.long(), weights, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
    return total / _not_zero(pixel_weights(mask, weights, logits.dtype).sum())


def focal(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each pixel times (1 - probability of its class) squared; averaged as in ``cross_entropy``."""
    losses, weights = _per_pixel(logits, mask, class_weights)
    wrong = -torch.expm1(-losses)
    return (weights * wrong**FOCUS * losses).sum() / _not_zero(weights.sum())


def ohem(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of the hard pixels: those below a probability of 0.7, and the hardest sixteenth of the valid ones."""
    losses, weights = _per_pixel(logits, mask, class_weights)
    weights = weights * hard_pixels(losses.detach(), mask != IGNORE)
    return (weights * losses).sum() / _not_zero(weights.sum())


def dice(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """One minus the soft Dice coefficient (Milletari et al. 2016, arXiv:1606.04797) of softmax, over the classes in the batch.

    A class's sums run over all valid pixels of the batch. Classes are equal: weights are refused by the task.
    """
    probabilities, truth = _one_hot(logits, mask)
    common, predicted, there = (sums.sum(dim=(0, 2, 3)) for sums in (probabilities * truth, probabilities, truth))
    present = there > 0
    scores = (2 * common / (predicted + there).clamp(min=torch.finfo(common.dtype).tiny)).where(present, 0)
    return (present.sum() - scores.sum()) / present.sum().clamp(min=1)


def cross_entropy_dice(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The sum of both; the weights are of the cross-entropy."""
    return cross_entropy(logits, mask, class_weights) + dice(logits, mask)


def lovasz(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The Lovász-Softmax loss (Berman et al. 2018, arXiv:1705.08790): a convex surrogate of one minus the mean IoU.

    Over the classes in the batch and all its valid pixels at once. Classes are equal: weights are refused by the task.
    """
    logits = _precise(logits)
    valid = mask != IGNORE
    probabilities = logits.softmax(dim=1).movedim(1, 0)[:, valid]  # (C, P)
    classes = mask[valid]
    losses = []
    for label in torch.unique(classes).tolist():
        truth = classes == label
        errors, order = (truth.to(logits.dtype) - probabilities[label]).abs().sort(descending=True)
        losses.append((errors * jaccard_steps(truth[order], logits.dtype)).sum())
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def cross_entropy_lovasz(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The sum of both; the weights are of the cross-entropy."""
    return cross_entropy(logits, mask, class_weights) + lovasz(logits, mask)


def jaccard_steps(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """How far the Jaccard loss rises with each pixel that is got wrong, one after the other.

    Args:
        truth: (P,) whether a pixel is of the class, the worst error first; at least one is.
        dtype: of the result.

    Returns:
        (P,): algorithm 1 of the paper, with its differences taken by hand, so that nothing is lost by cancellation.
    """
    found = truth.cumsum(0)
    total = int(found[-1])
    others = torch.arange(1, len(truth) + 1, device=truth.device).sub_(found)
    union = others.add_(total).to(dtype)
    # A pixel of the class leaves the intersection; another one joins the union.
    return torch.where(truth, 1 / union, (total - found).to(dtype) / (union * (union - 1)).clamp(min=1))


def hard_pixels(losses: Tensor, valid: Tensor) -> Tensor:
    """Which pixels ``ohem`` keeps.

    Args:
        losses: (N, H, W) cross-entropy.
        valid: (N, H, W) which are not ignored.
    """
    least = math.ceil(HARD_SHARE * int(valid.sum()))
    threshold = -math.log(EASY)
    hard = valid & (losses > threshold)
    if int(hard.sum()) >= least:
        return hard
    candidates = losses[valid]
    threshold = float(candidates.kthvalue(len(candidates) - least + 1).values)
    return valid & (losses >= threshold)


def pixel_weights(mask: Tensor, class_weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(N, H, W) the weight of each pixel's class, 0 where it is ignored."""
    valid = mask != IGNORE
    return valid.to(dtype) if class_weights is None else class_weights.to(dtype)[mask.where(valid, 0).long()] * valid


def _per_pixel(logits: Tensor, mask: Tensor, class_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N, H, W) cross-entropy, 0 where ignored, and weights."""
    logits = _precise(logits)
    losses = F.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none")
    return losses, pixel_weights(mask, class_weights, logits.dtype)


def _one_hot(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) probabilities and truth, both 0 where ignored."""
    probabilities = _precise(logits).softmax(dim=1) * (mask != IGNORE).unsqueeze(1)
    classes = torch.arange(logits.shape[1], device=mask.device).view(1, -1, 1, 1)
    return probabilities, (mask.unsqueeze(1) == classes).to(probabilities.dtype)


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _not_zero(share: Tensor) -> Tensor:
    return share.clamp(min=torch.finfo(share.dtype).tiny)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "ohem": ohem,
    "focal": focal,
    "dice": dice,
    "cross_entropy_dice": cross_entropy_dice,
    "lovasz": lovasz,
    "cross_entropy_lovasz": cross_entropy_lovasz,
}
