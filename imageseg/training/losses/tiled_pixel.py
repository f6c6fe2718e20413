"""Losses of pixels on coarse logits: value and gradient of the plain forms in ``losses``, without full-size logits.

The gradient is made in the forward pass, while a band's probabilities are at hand; the backward pass only multiplies it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imageseg.labels import IGNORE
from imageseg.training.losses.plain import FOCUS, hard_pixels
from imageseg.training.losses.upsampled import Band, Upsampled

_LN_2 = math.log(2)


class UpsampledLoss(Protocol):
    """A loss on coarse logits, with the arguments of ``upsampled_cross_entropy``."""

    def __call__(
        self, logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
    ) -> Tensor:
        """A scalar."""


def upsampled_cross_entropy(
    logits: Tensor,
    mask: Tensor,
    class_weights: Tensor | None = None,
    *,
    align_corners: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """``cross_entropy(resize(logits, mask.shape[1:]), mask, class_weights)``, band by band.

    Args:
        logits: (N, C, h, w); computed in float32, or in float64 where they are.
        mask: (N, H, W) integer class indices, 255 for ignore.
        class_weights: (C,), or None for equal ones.
        align_corners: as for ``resize``.
        label_smoothing: as for ``cross_entropy``.

    Returns:
        A scalar; with a gradient of zero when every pixel is ignored. It can be differentiated once.
    """

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        pixels = _Pixels(upsampled, mask, class_weights)
        if label_smoothing == 0:
            return pixels.mean(_plainly, learns=learns)
        return pixels.smoothed_mean(label_smoothing, learns=learns)

    return computed(compute, logits, mask, align_corners=align_corners)


def upsampled_focal(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """As ``upsampled_cross_entropy``, for ``focal``."""

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        return _Pixels(upsampled, mask, class_weights).mean(_focused, learns=learns)

    return computed(compute, logits, mask, align_corners=align_corners)


def upsampled_ohem(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """As ``upsampled_cross_entropy``, for ``ohem``; bands are made twice: which pixels are hard is known only after all."""

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        losses = _Pixels(upsampled, mask, None).losses()
        kept = mask.where(hard_pixels(losses, mask != IGNORE), IGNORE)
        return _Pixels(upsampled, kept, class_weights).mean(_plainly, learns=learns)

    return computed(compute, logits, mask, align_corners=align_corners)


def computed(
    compute: Callable[[Upsampled, bool], Tensor], logits: Tensor, mask: Tensor, *, align_corners: bool
) -> Tensor:
    """The value of ``compute``, whose gradient is what it has given back to ``Upsampled``.

    Args:
        compute: takes the logits and whether a gradient is wanted.
        logits: (N, C, h, w).
        mask: (N, H, W).
        align_corners: as for ``resize``.
    """
    learns = logits.requires_grad and torch.is_grad_enabled()
    value: Tensor = _Computed.apply(logits, compute, mask.shape[1:], align_corners, learns)
    return value


class _Computed(torch.autograd.Function):
    """A value whose gradient is known with it."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        compute: Callable[[Upsampled, bool], Tensor],
        size: torch.Size,
        align_corners: bool,
        learns: bool,
    ) -> Tensor:
        # Sums over ten thousands of pixels are no task for half precision.
        with torch.autocast(logits.device.type, enabled=False):
            upsampled = Upsampled(logits, size, align_corners=align_corners)
            value = compute(upsampled, learns)
        # In half precision only when it has been multiplied: a mean over millions of pixels has gradients that float16 does
        # not hold before the loss is scaled up.
        ctx.save_for_backward(upsampled.gradient if learns else None)
        ctx.kind = logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (of_logits,) = ctx.saved_tensors
        return (of_logits * gradient).to(ctx.kind), None, None, None, None


def probabilities_of(scores: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Softmax of a band's logits, in their place.

    Args:
        scores: (G, R, C, S) from ``Band.logits``.
        index: (G, R, 1, S) a class of each pixel.

    Returns:
        Probabilities times a number per pixel, which comes second; and the cross-entropy of ``index``, over ln 2.
    """
    scores.sub_(scores.amax(2, keepdim=True))
    own = scores.gather(2, index)
    scores.exp2_()
    total = scores.sum(2, keepdim=True)
    return scores, total, total.log2() - own


class _Pixels:
    """Sums over pixels, each with the weight of its class."""

    def __init__(self, upsampled: Upsampled, mask: Tensor, class_weights: Tensor | None) -> None:
        self._upsampled = upsampled
        self._mask = upsampled.padded(mask, IGNORE)
        classes = upsampled.coarse.shape[1]
        weights = torch.ones(classes, device=mask.device) if class_weights is None else class_weights
        self._class_weights = weights.to(upsampled.dtype)
        self._factors = weights.new_zeros(256, dtype=upsampled.dtype)
        """The weight of every value in a mask. A value that is no class fails when its logit is asked for."""
        self._factors[:classes] = self._class_weights
        counts = torch.bincount(mask.flatten(), minlength=256).to(upsampled.dtype)
        self._share = (counts * self._factors).sum().clamp(min=torch.finfo(upsampled.dtype).tiny)

    def mean(self, bend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], *, learns: bool) -> Tensor:
        """The mean of a function of each pixel's cross-entropy.

        Args:
            bend: takes cross-entropies and weights; gives values and slopes, both times the weights.
            learns: whether a gradient is given back.
        """

        def work(band: Band) -> Tensor:
            index, factor = self._classes(band)
            scores, total, losses = probabilities_of(band.logits(), index)
            values, slopes = bend(losses * _LN_2, factor)
            if learns:
                own = torch.exp2(-losses).sub_(1).mul_(slopes)
                band.give_back(scores.mul_(slopes / total).scatter_(2, index, own))
            return values.sum()

        return self._mean(work)

    def smoothed_mean(self, smoothing: float, *, learns: bool) -> Tensor:
        """The mean of cross-entropies with labels that are smoothed."""
        each = (smoothing / len(self._class_weights) * self._class_weights).view(-1, 1)  # of every label

        def work(band: Band) -> Tensor:
            index, factor = self._classes(band)
            counted = (band.cut(self._mask) != IGNORE).to(factor.dtype)  # also where the weight of the class is 0
            scores = band.logits()
            everywhere = (scores * each).sum(2, keepdim=True)
            peak = scores.amax(2, keepdim=True)
            scores, total, losses = probabilities_of(scores, index)
            spread = each.sum() * (peak + total.log2()) - everywhere
            own = (1 - smoothing) * factor
            values = (own * losses + counted * spread).sum() * _LN_2
            if learns:
                scores.mul_((own + counted * each.sum()) / total)
                scores.scatter_add_(2, index, -own).sub_(each * counted)
                band.give_back(scores)
            return values

        return self._mean(work)

    def losses(self) -> Tensor:
        """(N, H, W) cross-entropy of each pixel, 0 where it is ignored."""
        losses = torch.zeros_like(self._mask, dtype=self._upsampled.dtype)

        def work(band: Band) -> None:
            index, factor = self._classes(band)
            _, _, found = probabilities_of(band.logits(), index)
            band.cut(losses).copy_(found.mul_(factor).mul_(_LN_2))

        for _ in self._upsampled.each(work):
            pass
        return self._upsampled.unpadded(losses)

    def _classes(self, band: Band) -> tuple[Tensor, Tensor]:
        """(G, R, 1, S) a class to look at, and the weight, 0 for ignored pixels."""
        classes = band.cut(self._mask).long()
        return classes.where(classes != IGNORE, 0), self._factors[classes]

    def _mean(self, work: Callable[[Band], Tensor]) -> Tensor:
        total = torch.stack(list(self._upsampled.each(work))).sum()
        self._upsampled.gradient.div_(self._share)
        return total / self._share


def _plainly(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return losses * weights, weights


def _focused(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The loss is (1 - p) ** FOCUS times -log p; its slope is towards -log p."""
    wrong = -torch.expm1(-losses)
    steepness = wrong + FOCUS * losses * (1 - wrong)
    return weights * wrong**FOCUS * losses, weights * wrong ** (FOCUS - 1) * steepness
