"""Region losses on coarse logits: values and gradients of the losses in ``plain``, without full-size logits.

The loss of a region depends on all of its pixels, so that bands are computed twice: for the sums, then for the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imageseg.labels import IGNORE
from imageseg.training.losses.plain import jaccard_steps
from imageseg.training.losses.tiled_pixel import loss_with_gradient, probabilities_of, upsampled_cross_entropy
from imageseg.training.losses.upsampled import Band, Upsampled


def upsampled_dice(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``dice(resize(logits, mask.shape[1:]), mask)``, band by band; see ``upsampled_cross_entropy``."""

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        return _dice(upsampled, mask, learns=learns)

    return loss_with_gradient(compute, logits, mask, align_corners=align_corners)


def upsampled_cross_entropy_dice(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``cross_entropy_dice`` on coarse logits; see ``upsampled_cross_entropy``."""
    pixels = upsampled_cross_entropy(logits, mask, class_weights, align_corners=align_corners)
    return pixels + upsampled_dice(logits, mask, align_corners=align_corners)


def upsampled_lovasz(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``lovasz`` on coarse logits; see ``upsampled_cross_entropy``.

    The errors of a class are sorted over all pixels, so that full-size maps of one class at a time are in memory. Sorting
    dominates the run time, as in the plain form.
    """

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        return _Lovasz(upsampled, mask, align_corners=align_corners).loss(learns=learns)

    return loss_with_gradient(compute, logits, mask, align_corners=align_corners)


def upsampled_cross_entropy_lovasz(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``cross_entropy_lovasz`` on coarse logits; see ``upsampled_cross_entropy``."""
    pixels = upsampled_cross_entropy(logits, mask, class_weights, align_corners=align_corners)
    return pixels + upsampled_lovasz(logits, mask, align_corners=align_corners)


def _dice(upsampled: Upsampled, mask: Tensor, *, learns: bool) -> Tensor:
    classes = upsampled.coarse.shape[1]
    padded = upsampled.padded(mask, IGNORE)

    def probabilities(band: Band) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities (0 for ignored pixels), class indices, and the probability of each pixel's class."""
        found = band.cut(padded).long()
        valid = found != IGNORE
        index = found.where(valid, 0)
        scores, total, _ = probabilities_of(band.logits(), index)
        scores.mul_(valid / total)
        return scores, index, scores.gather(2, index)

    def sums(band: Band) -> Tensor:
        scores, index, own = probabilities(band)
        common = torch.zeros(classes, dtype=own.dtype, device=own.device)
        common.index_add_(0, index.flatten(), own.flatten())
        return torch.stack([common, scores.sum(dim=(0, 1, 3))])

    common, predicted = torch.stack(list(upsampled.each(sums))).sum(dim=0)
    there = torch.bincount(mask.flatten(), minlength=256)[:classes].to(upsampled.dtype)
    present = there > 0
    count = present.sum().clamp(min=1)
    size = (predicted + there).clamp(min=torch.finfo(upsampled.dtype).tiny)
    # Derivatives of the loss with respect to the sums of a class: over its own pixels, and over all pixels.
    inside = (-2 / (count * size)).where(present, 0)
    everywhere = (2 * common / (count * size**2)).where(present, 0).view(-1, 1)

    def slopes(band: Band) -> None:
        scores, index, own = probabilities(band)
        own = own * inside[index]
        along = (scores * everywhere).sum(2, keepdim=True) + own
        band.give_back(scores.mul_(everywhere - along).scatter_add_(2, index, own))

    if learns:
        for _ in upsampled.each(slopes):
            pass
    value: Tensor = (present.sum() - (2 * common / size).where(present, 0).sum()) / count
    return value


class _Lovasz:
    def __init__(self, upsampled: Upsampled, mask: Tensor, *, align_corners: bool) -> None:
        self._upsampled = upsampled
        self._mask = mask
        self._align_corners = align_corners
        self._valid = mask != IGNORE
        self._normalizer = upsampled.padded(torch.zeros_like(mask, dtype=upsampled.dtype), 0)
        """(N, H', W') log2 of the softmax normalizer of each pixel."""

    def loss(self, *, learns: bool) -> Tensor:
        """Return the mean over the classes in the batch."""
        whole = self._upsampled
        labels = torch.unique(self._mask[self._valid]).tolist()
        if not labels:
            return whole.coarse.sum() * 0

        def normalize(band: Band) -> None:
            scores = band.logits()
            peak = scores.amax(2, keepdim=True)
            band.cut(self._normalizer).copy_(scores.sub_(peak).exp2_().sum(2, keepdim=True).log2_().add_(peak))

        for _ in whole.each(normalize):
            pass
        pull = torch.zeros_like(self._normalizer)  # sum over classes of derivative times probability
        total = torch.zeros((), dtype=whole.dtype, device=pull.device)
        for label in labels:
            total += self._of_class(label, pull, count=len(labels), learns=learns)

        def slopes(band: Band) -> None:
            scores = band.logits().sub_(band.cut(self._normalizer)).exp2_()
            band.give_back(scores.mul_(-band.cut(pull)))

        if learns:
            for _ in whole.each(slopes):
                pass
        return total / len(labels)

    def _of_class(self, label: int, pull: Tensor, *, count: int, learns: bool) -> Tensor:
        """Return the loss of one class; its derivatives are added to the gradient of its logits and to ``pull``."""
        whole = self._upsampled
        one = Upsampled(whole.coarse[:, [label]], whole.size, align_corners=self._align_corners)
        # The bands of one class differ from those of all classes; the maps have the same size.
        maps = one.padded(whole.unpadded(self._normalizer), 0)
        probabilities = torch.empty_like(maps)

        def probability(band: Band) -> None:
            band.cut(probabilities).copy_(band.logits().sub_(band.cut(maps)).exp2_())

        for _ in one.each(probability):
            pass
        classes = self._mask[self._valid]
        truth = classes == label
        errors = one.unpadded(probabilities)[self._valid]
        errors = torch.where(truth, 1 - errors, errors)
        errors, order = errors.sort(descending=True)
        steps = jaccard_steps(truth[order], whole.dtype)
        if learns:
            slopes = torch.empty_like(steps)
            slopes[order] = steps
            slopes = torch.where(truth, -slopes, slopes).div_(count)
            of_pixels = torch.zeros_like(self._mask, dtype=whole.dtype)
            of_pixels[self._valid] = slopes
            of_pixels *= one.unpadded(probabilities)
            whole.unpadded(pull).add_(of_pixels)
            of_pixels = one.padded(of_pixels, 0)

            def give_back(band: Band) -> None:
                band.give_back(band.cut(of_pixels).contiguous())

            for _ in one.each(give_back):
                pass
            whole.gradient[:, label] += one.gradient[:, 0]
        return (errors * steps).sum()
