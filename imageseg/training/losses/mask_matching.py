"""Loss of networks that predict masks: queries are matched to ground truth masks, then compared with them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from imageseg.labels import IGNORE
from imageseg.models.base import resize
from imageseg.models.mask_classifier import MaskPrediction

# Mask2Former (Cheng et al. 2022, arXiv:2112.01527), section 4.1, and EoMT after it.
_CLASS_WEIGHT = 2.0
_BINARY_WEIGHT = 5.0
_DICE_WEIGHT = 5.0
_NOWHERE = -100
"""Target of queries in images without labels. 255 is not free: "no object" is the class after up to 255 classes."""
_NO_OBJECT_WEIGHT = 0.1
"""Weight of the class "no object", which most queries have, in the classification of queries."""


def mask_classification(
    predictions: Sequence[MaskPrediction], mask: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Sum the mask losses (binary cross-entropy and Dice) and classification losses of all predictions.

    Each class in an image is one mask. By the assignment of minimum cost, each mask is matched with one query, which is
    trained to predict this mask and its class; unmatched queries are trained to predict "no object". Masks are matched at
    the predicted size and compared at the size of the labels. Mask2Former samples random points instead; here every pixel
    counts, so that the result is deterministic. Ignored pixels are excluded.

    Args:
        predictions: Predictions for one batch (of several blocks or of the last one only); all are supervised equally.
        mask: (N, H, W) integer class indices; 255 means ignore.
        class_weights: (C,) weights in the classification of matched queries, or None for equal weights.

    Returns:
        A float32 scalar; its gradient is zero if every pixel is ignored.
    """
    total = mask.new_zeros((), dtype=torch.float32)
    # Sums over many pixels are not accurate in half precision.
    with torch.autocast(mask.device.type, enabled=False):
        for prediction in predictions:
            total = total + _loss(prediction, _padded(mask, prediction.size), class_weights)
    return total


def _loss(prediction: MaskPrediction, mask: Tensor, class_weights: Tensor | None) -> Tensor:
    classes, masks = prediction.classes.float(), prediction.masks.float()
    nothing = classes.shape[2] - 1
    wanted = mask.new_full(classes.shape[:2], _NOWHERE, dtype=torch.long)  # (N, Q), ignored in images without labels
    binary = dice = masks.sum() * 0  # provides a gradient if there is no mask
    found = 0
    for n, labels in enumerate(mask):
        present = labels.unique()
        present = present[present != IGNORE].long()
        if not len(present):
            continue
        truth = (labels == present.view(-1, 1, 1)).float()  # (K, H, W)
        valid = (labels != IGNORE).float()  # (H, W)
        query, which = match(classes[n], masks[n], classes_present=present, truth=truth, valid=valid)
        wanted[n] = nothing
        wanted[n, query] = present[which]
        logits = resize(masks[n, query].unsqueeze(0), labels.shape)[0]  # (K, H, W)
        binary = binary + _binary(logits, truth[which], valid).sum()
        dice = dice + _dice(logits, truth[which], valid).sum()
        found += len(query)
    weights = torch.ones(nothing + 1, device=mask.device)
    if class_weights is not None:
        weights[:nothing] = class_weights.float()
    weights[nothing] = _NO_OBJECT_WEIGHT
    flat = wanted.flatten()
    total = F.cross_entropy(classes.flatten(0, 1), flat, weights, ignore_index=_NOWHERE, reduction="sum")
    share = weights[flat.where(flat != _NOWHERE, nothing)].where(flat != _NOWHERE, 0.0).sum()
    classification = total / share.clamp(min=torch.finfo(torch.float32).tiny)
    return _CLASS_WEIGHT * classification + (_BINARY_WEIGHT * binary + _DICE_WEIGHT * dice) / max(found, 1)


@torch.no_grad()
def match(
    classes: Tensor, masks: Tensor, *, classes_present: Tensor, truth: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the assignment of the masks of one image to queries with minimum cost (Kuhn 1955).

    The cost of a pair is the sum of its losses, with the negative probability of the class instead of its cross-entropy.

    Args:
        classes: (Q, C + 1) class logits.
        masks: (Q, h, w) mask logits.
        classes_present: (K,) class index of each ground truth mask.
        truth: (K, H, W) ground truth masks, 0 or 1; H and W are multiples of h and w.
        valid: (H, W) 1, or 0 for ignored pixels.

    Returns:
        Indices of queries and of the ground truth masks assigned to them, min(Q, K) each.
    """
    factor = truth.shape[-1] // masks.shape[-1], truth.shape[-2] // masks.shape[-2]
    shares = F.avg_pool2d(torch.cat([truth, valid.unsqueeze(0)]), (factor[1], factor[0])).flatten(1)
    inside, counted = (
        shares[:-1],
        shares[-1],
    )  # (K, P), (P,): share of each predicted pixel that is in the mask, and that is valid
    logits = masks.flatten(1)  # (Q, P)
    outside = (
        F.softplus(logits) * counted
    )  # loss if no pixel were in the mask; each pixel in the mask subtracts its logit
    binary = (outside.sum(dim=1, keepdim=True) - logits @ inside.T) / counted.sum()
    belonging = logits.sigmoid() * counted
    union = belonging.sum(dim=1, keepdim=True) + inside.sum(dim=1)
    dice = 1 - (2 * belonging @ inside.T + 1) / (union + 1)
    probabilities = classes.softmax(dim=1)[:, classes_present]
    cost = _BINARY_WEIGHT * binary + _DICE_WEIGHT * dice - _CLASS_WEIGHT * probabilities  # (Q, K)
    # Divergence is reported by the loss, not by an error of the assignment.
    query, which = linear_sum_assignment(torch.nan_to_num(cost).cpu().numpy())
    return torch.from_numpy(query).to(masks.device), torch.from_numpy(which).to(masks.device)


def _binary(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """(K, H, W) to (K,): mean binary cross-entropy over the valid pixels."""
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * valid
    return losses.sum(dim=(1, 2)) / valid.sum()


def _dice(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """(K, H, W) to (K,): one minus the Dice coefficient, with 1 added to numerator and denominator."""
    belonging = logits.sigmoid() * valid
    common = (belonging * truth).sum(dim=(1, 2))
    return 1 - (2 * common + 1) / (belonging.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1)


def _padded(mask: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = size[0] - mask.shape[1], size[1] - mask.shape[2]
    return F.pad(mask, (0, columns, 0, rows), value=IGNORE)
