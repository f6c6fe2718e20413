"""Pixel losses on coarse logits: values and gradients of the losses in ``plain``, without full-size logits.

The gradient is computed in the forward pass, where the probabilities of a band are available; the backward pass scales it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imageseg.labels import IGNORE
from imageseg.training.losses.plain import FOCAL_GAMMA, hard_pixels
from imageseg.training.losses.upsampled import Band, Upsampled

_LN_2 = math.log(2)


class UpsampledLoss(Protocol):
    """Signature of losses on coarse logits; see ``upsampled_cross_entropy`` for the arguments."""

    def __call__(
        self, logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
    ) -> Tensor:
        """Return the loss as a scalar."""


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
        logits: (N, C, h, w); the computation is in float32, or in float64 for float64 logits.
        mask: (N, H, W) integer class indices; 255 means ignore.
        class_weights: (C,) weights, or None for equal weights.
        align_corners: Same as for ``resize``.
        label_smoothing: Same as for ``cross_entropy``.

    Returns:
        A scalar that can be differentiated once; its gradient is zero if every pixel is ignored.
    """

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        pixels = _Pixels(upsampled, mask, class_weights)
        if label_smoothing == 0:
            return pixels.mean(_identity, learns=learns)
        return pixels.smoothed_mean(label_smoothing, learns=learns)

    return loss_with_gradient(compute, logits, mask, align_corners=align_corners)


def upsampled_focal(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``focal`` on coarse logits; see ``upsampled_cross_entropy``."""

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        return _Pixels(upsampled, mask, class_weights).mean(_focal, learns=learns)

    return loss_with_gradient(compute, logits, mask, align_corners=align_corners)


def upsampled_ohem(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``ohem`` on coarse logits; see ``upsampled_cross_entropy``. Two passes: hard pixels are selected after the first."""

    def compute(upsampled: Upsampled, learns: bool) -> Tensor:
        losses = _Pixels(upsampled, mask, None).losses()
        kept = mask.where(hard_pixels(losses, mask != IGNORE), IGNORE)
        return _Pixels(upsampled, kept, class_weights).mean(_identity, learns=learns)

    return loss_with_gradient(compute, logits, mask, align_corners=align_corners)


def loss_with_gradient(
    compute: Callable[[Upsampled, bool], Tensor], logits: Tensor, mask: Tensor, *, align_corners: bool
) -> Tensor:
    """Return the value of ``compute`` with the gradient that it has propagated back to ``Upsampled``.

    Args:
        compute: Function of the upsampled logits and of whether a gradient is required.
        logits: (N, C, h, w) coarse logits.
        mask: (N, H, W) class indices.
        align_corners: Same as for ``resize``.
    """
    learns = logits.requires_grad and torch.is_grad_enabled()
    value: Tensor = _Computed.apply(logits, compute, mask.shape[1:], align_corners, learns)
    return value


class _Computed(torch.autograd.Function):
    """A value whose gradient is computed together with it."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        compute: Callable[[Upsampled, bool], Tensor],
        size: torch.Size,
        align_corners: bool,
        learns: bool,
    ) -> Tensor:
        # Sums over many pixels are not accurate in half precision.
        with torch.autocast(logits.device.type, enabled=False):
            upsampled = Upsampled(logits, size, align_corners=align_corners)
            value = compute(upsampled, learns)
        # Converted to half precision after scaling only: the gradients of a mean over millions of pixels underflow in float16
        # before loss scaling.
        ctx.save_for_backward(upsampled.gradient if learns else None)
        ctx.kind = logits.dtype
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (of_logits,) = ctx.saved_tensors
        return (of_logits * gradient).to(ctx.kind), None, None, None, None


def probabilities_of(scores: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the softmax of a band's logits in place.

    Args:
        scores: (G, R, C, S) logits from ``Band.logits``; overwritten.
        index: (G, R, 1, S) class index of each pixel.

    Returns:
        Unnormalized probabilities, their (G, R, 1, S) normalizers, and the cross-entropy of ``index`` divided by ln 2.
    """
    scores.sub_(scores.amax(2, keepdim=True))
    own = scores.gather(2, index)
    scores.exp2_()
    total = scores.sum(2, keepdim=True)
    return scores, total, total.log2() - own


class _Pixels:
    """Weighted sums over pixels."""

    def __init__(self, upsampled: Upsampled, mask: Tensor, class_weights: Tensor | None) -> None:
        self._upsampled = upsampled
        self._mask = upsampled.padded(mask, IGNORE)
        classes = upsampled.coarse.shape[1]
        weights = torch.ones(classes, device=mask.device) if class_weights is None else class_weights
        self._class_weights = weights.to(upsampled.dtype)
        self._factors = weights.new_zeros(256, dtype=upsampled.dtype)
        """(256,) weight of each mask value. Values that are not classes fail when their logit is gathered."""
        self._factors[:classes] = self._class_weights
        counts = torch.bincount(mask.flatten(), minlength=256).to(upsampled.dtype)
        self._share = (counts * self._factors).sum().clamp(min=torch.finfo(upsampled.dtype).tiny)

    def mean(self, transform: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], *, learns: bool) -> Tensor:
        """Return the weighted mean of a function of the cross-entropy of each pixel.

        Args:
            transform: Function of cross-entropies and weights that returns values and derivatives, both times the weights.
            learns: Whether the gradient is propagated back.
        """

        def work(band: Band) -> Tensor:
            index, factor = self._classes(band)
            scores, total, losses = probabilities_of(band.logits(), index)
            values, slopes = transform(losses * _LN_2, factor)
            if learns:
                own = torch.exp2(-losses).sub_(1).mul_(slopes)
                band.give_back(scores.mul_(slopes / total).scatter_(2, index, own))
            return values.sum()

        return self._mean(work)

    def smoothed_mean(self, smoothing: float, *, learns: bool) -> Tensor:
        """Return the weighted mean cross-entropy with smoothed labels."""
        each = (smoothing / len(self._class_weights) * self._class_weights).view(
            -1, 1
        )  # weight of each class in the uniform part

        def work(band: Band) -> Tensor:
            index, factor = self._classes(band)
            counted = (band.cut(self._mask) != IGNORE).to(factor.dtype)  # includes classes with weight 0
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
        """Return the (N, H, W) cross-entropy of each pixel; 0 for ignored pixels."""
        losses = torch.zeros_like(self._mask, dtype=self._upsampled.dtype)

        def work(band: Band) -> None:
            index, factor = self._classes(band)
            _, _, found = probabilities_of(band.logits(), index)
            band.cut(losses).copy_(found.mul_(factor).mul_(_LN_2))

        for _ in self._upsampled.each(work):
            pass
        return self._upsampled.unpadded(losses)

    def _classes(self, band: Band) -> tuple[Tensor, Tensor]:
        """Return (G, R, 1, S) class indices, 0 for ignored pixels, and weights, 0 for ignored pixels."""
        classes = band.cut(self._mask).long()
        return classes.where(classes != IGNORE, 0), self._factors[classes]

    def _mean(self, work: Callable[[Band], Tensor]) -> Tensor:
        total = torch.stack(list(self._upsampled.each(work))).sum()
        self._upsampled.gradient.div_(self._share)
        return total / self._share


def _identity(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return losses * weights, weights


def _focal(losses: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return (1 - p) ** FOCAL_GAMMA * -log p and its derivative with respect to -log p, both times the weights."""
    wrong = -torch.expm1(-losses)
    steepness = wrong + FOCAL_GAMMA * losses * (1 - wrong)
    return weights * wrong**FOCAL_GAMMA * losses, weights * wrong ** (FOCAL_GAMMA - 1) * steepness
