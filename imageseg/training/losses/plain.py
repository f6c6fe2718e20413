"""Losses on full-size logits, in plain form; the reference for the tiled forms.

A batch without any valid pixel gives a loss of zero, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from imageseg.labels import IGNORE

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

# Lin et al. 2017 (arXiv:1708.02002), section 5.1: the best value of the paper.
FOCAL_GAMMA = 2
# Online hard example mining (Shrivastava et al. 2016, arXiv:1604.03540), applied to pixels as in Wu et al. 2016
# (arXiv:1605.06885): pixels whose class has a probability below the threshold, but at least this share of all pixels.
OHEM_THRESHOLD = 0.7
OHEM_MIN_SHARE = 1 / 16


def cross_entropy(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy: the weighted mean over all valid pixels of the batch, with the weights of their classes.

    Args:
        logits: (N, C, H, W); the computation is in float32, or in float64 for float64 logits.
        mask: (N, H, W) integer class indices; 255 means ignore.
        class_weights: (C,) weights, or None for equal weights.
        label_smoothing: Share of each label that is spread evenly over all classes (Szegedy et al. 2016).

    Returns:
        A scalar; its gradient is zero if every pixel is ignored.
    """
    logits = _precise(logits)
    weights = None if class_weights is None else class_weights.to(logits.dtype)
    total = F.cross_entropy(
        logits, mask.long(), weights, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
    return total / _not_zero(pixel_weights(mask, weights, logits.dtype).sum())


def focal(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Focal loss: cross-entropy times (1 - probability of the true class) squared; averaged as in ``cross_entropy``."""
    losses, weights = _per_pixel(logits, mask, class_weights)
    wrong = -torch.expm1(-losses)
    return (weights * wrong**FOCAL_GAMMA * losses).sum() / _not_zero(weights.sum())


def ohem(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of hard pixels: those with a probability below 0.7, and at least the hardest sixteenth of all valid pixels."""
    losses, weights = _per_pixel(logits, mask, class_weights)
    weights = weights * hard_pixels(losses.detach(), mask != IGNORE)
    return (weights * losses).sum() / _not_zero(weights.sum())


def dice(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """One minus the soft Dice coefficient (Milletari et al. 2016, arXiv:1606.04797), averaged over the classes in the batch.

    The sums of a class include all valid pixels of the batch. ``class_weights`` are not used: the task refuses them.
    """
    probabilities, truth = _one_hot(logits, mask)
    common, predicted, there = (sums.sum(dim=(0, 2, 3)) for sums in (probabilities * truth, probabilities, truth))
    present = there > 0
    scores = (2 * common / (predicted + there).clamp(min=torch.finfo(common.dtype).tiny)).where(present, 0)
    return (present.sum() - scores.sum()) / present.sum().clamp(min=1)


def cross_entropy_dice(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Sum of both losses; the class weights apply to the cross-entropy."""
    return cross_entropy(logits, mask, class_weights) + dice(logits, mask)


def lovasz(logits: Tensor, mask: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Lovász-Softmax loss (Berman et al. 2018, arXiv:1705.08790): a convex surrogate of one minus the mean IoU.

    Averaged over the classes in the batch, each over all valid pixels of the batch. ``class_weights`` are not used: the
    task refuses them.
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
    """Sum of both losses; the class weights apply to the cross-entropy."""
    return cross_entropy(logits, mask, class_weights) + lovasz(logits, mask)


def jaccard_steps(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the increase of the Jaccard loss with each further misclassified pixel.

    Args:
        truth: (P,) whether each pixel belongs to the class, sorted by descending error; at least one does.
        dtype: Data type of the result.

    Returns:
        (P,) gradient of the Lovász extension (algorithm 1 of the paper), in closed form to avoid cancellation.
    """
    found = truth.cumsum(0)
    total = int(found[-1])
    others = torch.arange(1, len(truth) + 1, device=truth.device).sub_(found)
    union = others.add_(total).to(dtype)
    # A pixel of the class leaves the intersection; any other pixel joins the union.
    return torch.where(truth, 1 / union, (total - found).to(dtype) / (union * (union - 1)).clamp(min=1))


def hard_pixels(losses: Tensor, valid: Tensor) -> Tensor:
    """Select the pixels that ``ohem`` keeps.

    Args:
        losses: (N, H, W) cross-entropy.
        valid: (N, H, W) whether each pixel is not ignored.

    Returns:
        (N, H, W) whether each pixel is kept.
    """
    least = math.ceil(OHEM_MIN_SHARE * int(valid.sum()))
    threshold = -math.log(OHEM_THRESHOLD)
    hard = valid & (losses > threshold)
    if int(hard.sum()) >= least:
        return hard
    candidates = losses[valid]
    threshold = float(candidates.kthvalue(len(candidates) - least + 1).values)
    return valid & (losses >= threshold)


def pixel_weights(mask: Tensor, class_weights: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the (N, H, W) weights of the classes of the pixels; 0 for ignored pixels."""
    valid = mask != IGNORE
    return valid.to(dtype) if class_weights is None else class_weights.to(dtype)[mask.where(valid, 0).long()] * valid


def _per_pixel(logits: Tensor, mask: Tensor, class_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return (N, H, W) cross-entropy, 0 for ignored pixels, and (N, H, W) weights."""
    logits = _precise(logits)
    losses = F.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none")
    return losses, pixel_weights(mask, class_weights, logits.dtype)


def _one_hot(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N, C, H, W) probabilities and one-hot ground truth, both 0 for ignored pixels."""
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
