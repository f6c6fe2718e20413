"""A dilated 3x3 convolution whose backward pass leaves out what lies in the padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def trimmed_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """``conv2d(features, weight, padding=dilation, dilation=dilation)``, with a backward pass of one product per tap.

    Far taps of a large dilation reach beyond the map for most pixels: of a 32 x 32 map a dilation of 24 leaves a quarter of
    the work. oneDNN's forward pass knows, its backward pass multiplies the padding too. It can be differentiated once.

    Args:
        features: (N, C, H, W).
        weight: (O, C, 3, 3), of the same kind of number.
        dilation: in feature pixels.

    Returns:
        (N, O, H, W).
    """
    result: Tensor = _TrimmedConv.apply(features, weight, dilation)
    return result


def share_inside(height: int, width: int, dilation: int) -> float:
    """The share of a 3x3 convolution's products that do not lie in the padding."""
    rows, columns = (1 + 2 * max(0, side - dilation) / side for side in (height, width))
    return rows * columns / 9


def overlap(shift: int, size: int) -> slice:
    """The values of an axis that, moved back by ``shift``, still lie on it."""
    return slice(max(0, shift), size + min(0, shift))


class _TrimmedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.dilation = dilation
        return F.conv2d(features, weight, padding=dilation, dilation=dilation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        # Pixels by channels: each tap is one product of matrices, whatever the memory order was.
        maps = features.permute(0, 2, 3, 1)  # (N, H, W, C)
        slopes = gradient.permute(0, 2, 3, 1)
        height, width = maps.shape[1:3]
        of_maps = None
        if ctx.needs_input_grad[0]:
            # The sum over taps is in float32 also where the products are in bfloat16.
            kind = torch.promote_types(features.dtype, torch.float32)
            of_maps = torch.zeros_like(features, dtype=kind, memory_format=torch.channels_last)
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                down, right = row * ctx.dilation, column * ctx.dilation
                if abs(down) >= height or abs(right) >= width:
                    continue  # all of it lies in the padding
                seen = slopes[:, overlap(-down, height), overlap(-right, width)]
                seen = seen.reshape(-1, seen.shape[-1])  # (P, O)
                here = (slice(None), overlap(down, height), overlap(right, width))
                tap = weight[:, :, row + 1, column + 1]
                if of_weight is not None:
                    part = maps[here]
                    of_weight[:, :, row + 1, column + 1] = seen.T @ part.reshape(-1, part.shape[-1])
                if of_maps is not None:
                    part = of_maps.permute(0, 2, 3, 1)[here]
                    part += (seen @ tap).view(part.shape)
        return None if of_maps is None else of_maps.to(features.dtype), of_weight, None
