"""Losses of pixels on coarse logits: value and gradient of the plain forms in ``losses``, without full-size logits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from imageseg.labels import IGNORE
from imageseg.training.upsampled import Band, Upsampled

_LN_2 = math.log(2)


def upsampled_cross_entropy(
    logits: Tensor, mask: Tensor, class_weights: Tensor | None = None, *, align_corners: bool = False
) -> Tensor:
    """``cross_entropy(resize(logits, mask.shape[1:]), mask, class_weights)``, band by band.

    Args:
        logits: (N, C, h, w); computed in float32, or in float64 where they are.
        mask: (N, H, W) integer class indices, 255 for ignore.
        class_weights: (C,), or None for equal ones.
        align_corners: as for ``resize``.

    Returns:
        A scalar; with a gradient of zero when every pixel is ignored. It can be differentiated once.
    """
    learns = logits.requires_grad and torch.is_grad_enabled()
    loss: Tensor = _UpsampledCrossEntropy.apply(logits, mask, class_weights, align_corners, learns)  # type: ignore[no-untyped-call]
    return loss


class _UpsampledCrossEntropy(torch.autograd.Function):
    """The gradient is made in the forward pass, while a band's probabilities are at hand."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, mask: Tensor, class_weights: Tensor | None, align_corners: bool, learns: bool
    ) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            upsampled = Upsampled(logits, mask.shape[1:], align_corners=align_corners)
            factors = None if class_weights is None else _with_ignored(class_weights.to(upsampled.dtype))
            share = _share(mask, factors, upsampled.dtype)
            padded = upsampled.padded(mask, IGNORE)

            def work(band: Band) -> Tensor:
                classes = band.cut(padded).long()
                valid = classes != IGNORE
                factor = valid.to(upsampled.dtype) if factors is None else factors[classes]
                index = classes.where(valid, 0)
                scores = band.logits()
                scores.sub_(scores.amax(2, keepdim=True))
                own = scores.gather(2, index)
                scores.exp2_()
                total = scores.sum(2, keepdim=True)
                loss = (factor * (total.log2() - own)).sum()
                if learns:
                    scale = factor / total
                    own = own.exp2_().mul_(scale).sub_(factor)
                    band.give_back(scores.mul_(scale).scatter_(2, index, own))
                return loss

            loss = torch.stack(list(upsampled.each(work))).sum() * _LN_2 / share
            ctx.save_for_backward(upsampled.gradient.div_(share).to(logits.dtype) if learns else None)
        return loss

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        (of_logits,) = ctx.saved_tensors
        return of_logits * gradient, None, None, None, None


def _with_ignored(class_weights: Tensor) -> Tensor:
    """(256,) the weight of every value in a mask."""
    factors = class_weights.new_zeros(256)
    factors[: len(class_weights)] = class_weights
    return factors


def _share(mask: Tensor, factors: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The sum of the weights of all pixels, not zero."""
    counts = torch.bincount(mask.flatten(), minlength=256).to(dtype)
    counts[IGNORE] = 0
    total = counts.sum() if factors is None else (counts * factors).sum()
    return total.clamp(min=1 if factors is None else torch.finfo(dtype).tiny)
