"""A dilated 3x3 convolution that is faster on CPUs than torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LARGEST_SHARE = 0.5
"""Share of products outside the padding up to which the trimmed backward pass was faster in all measurements: 1.9 to 10 times,
against 0.9 to 1.4 times at a share of 0.56 (benchmarks/dilated_convolutions.py)."""


class DilatedConv2d(nn.Conv2d):
    """A 3x3 convolution with stride 1 and dilation that keeps height and width; same weights and results as torch's.

    On CPUs with AMX, oneDNN has no fast path for dilated convolutions in bfloat16, nor for wide ones in float32. It has one for
    1x1 convolutions, one per kernel tap, and a tap that reaches beyond the map costs nothing. For training on any CPU, the
    backward pass skips the padding if at least half of the products are in it. Elsewhere, in exported and compiled programs and
    on other devices, this is torch's convolution.

    Attributes:
        shifted: Whether all instances run as shifted 1x1 convolutions; None decides by CPU and size.
        trimmed: Whether the backward pass of all instances skips the padding; None decides by size.
    """

    shifted: bool | None = None
    trimmed: bool | None = None

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        if self._is_faster_shifted(input):
            return shifted_conv(input, self.weight, self.dilation[0], self.bias)
        if self._is_faster_trimmed(input):
            # Cast as autocast would, which does not apply to functions with their own backward pass.
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
            with torch.autocast("cpu", enabled=False):
                return trimmed_conv(input.to(dtype), self.weight.to(dtype), self.dilation[0])
        return super().forward(input)

    def _is_faster_trimmed(self, features: Tensor) -> bool:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or features.device.type != "cpu":
            return False
        if self.bias is not None or features.dim() != 4 or not (features.requires_grad or self.weight.requires_grad):
            return False
        if DilatedConv2d.trimmed is not None:
            return DilatedConv2d.trimmed
        height, width = features.shape[-2:]
        return share_inside(height, width, self.dilation[0]) <= _LARGEST_SHARE

    def _is_faster_shifted(self, features: Tensor) -> bool:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or features.device.type != "cpu":
            return False
        if DilatedConv2d.shifted is not None:
            return DilatedConv2d.shifted
        if not torch.cpu._is_amx_tile_supported():
            return False
        is_half = features.dtype == torch.bfloat16 or (
            torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        )
        return features.shape[1] >= 1024 and (is_half or self.dilation[0] >= 24)


def shifted_conv(features: Tensor, weight: Tensor, dilation: int, bias: Tensor | None = None) -> Tensor:
    """``conv2d(features, weight, bias, padding=dilation, dilation=dilation)`` as one 1x1 convolution per kernel tap.

    Args:
        features: (N, C, H, W).
        weight: (O, C, 3, 3).
        dilation: Dilation in feature pixels.
        bias: (O,), present after batch normalization has been folded into the convolution.

    Returns:
        (N, O, H, W).
    """
    height, width = features.shape[-2:]
    result = F.conv2d(features, weight[:, :, 1:2, 1:2], bias)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            (down, right) = (row * dilation, column * dilation)
            if (row, column) == (0, 0) or abs(down) >= height or abs(right) >= width:
                continue  # done already, or entirely in the padding
            tap = weight[:, :, row + 1 : row + 2, column + 1 : column + 2]
            rows, columns = overlap(down, height), overlap(right, width)
            target_rows, target_columns = overlap(-down, height), overlap(-right, width)
            result[:, :, target_rows, target_columns] += F.conv2d(features[:, :, rows, columns], tap)
    return result


def trimmed_conv(features: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """``conv2d(features, weight, padding=dilation, dilation=dilation)`` with a backward pass of one product per kernel tap.

    For most pixels the outer taps of a large dilation are in the padding: on a 32 x 32 map, a dilation of 24 leaves a quarter of
    the work. oneDNN's forward pass skips the padding, its backward pass does not. This function is differentiable once.

    Args:
        features: (N, C, H, W).
        weight: (O, C, 3, 3), of the same dtype.
        dilation: Dilation in feature pixels.

    Returns:
        (N, O, H, W).
    """
    result: Tensor = _TrimmedConv.apply(features, weight, dilation)
    return result


def share_inside(height: int, width: int, dilation: int) -> float:
    """Share of a 3x3 convolution's products that are not in the padding."""
    rows, columns = (1 + 2 * max(0, side - dilation) / side for side in (height, width))
    return rows * columns / 9


def overlap(shift: int, size: int) -> slice:
    """The range of an axis whose values remain on the axis when they are moved back by ``shift``."""
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
        # Pixels by channels: each tap is one matrix product, independently of the memory format.
        maps = features.permute(0, 2, 3, 1)  # (N, H, W, C)
        output_gradient = gradient.permute(0, 2, 3, 1)
        height, width = maps.shape[1:3]
        features_gradient = None
        if ctx.needs_input_grad[0]:
            # The sum over taps is in float32 even if the products are in bfloat16.
            dtype = torch.promote_types(features.dtype, torch.float32)
            features_gradient = torch.zeros_like(features, dtype=dtype, memory_format=torch.channels_last)
        weight_gradient = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                down, right = row * ctx.dilation, column * ctx.dilation
                if abs(down) >= height or abs(right) >= width:
                    continue  # entirely in the padding
                reached = output_gradient[:, overlap(-down, height), overlap(-right, width)]
                reached = reached.reshape(-1, reached.shape[-1])  # (P, O)
                source = (slice(None), overlap(down, height), overlap(right, width))
                tap = weight[:, :, row + 1, column + 1]
                if weight_gradient is not None:
                    part = maps[source]
                    weight_gradient[:, :, row + 1, column + 1] = reached.T @ part.reshape(-1, part.shape[-1])
                if features_gradient is not None:
                    part = features_gradient.permute(0, 2, 3, 1)[source]
                    part += (reached @ tap).view(part.shape)
        return None if features_gradient is None else features_gradient.to(features.dtype), weight_gradient, None
