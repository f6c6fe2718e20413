"""Dilated 3x3 convolutions as sums of shifted 1x1 convolutions, where a processor is faster that way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.models.layers.trimmed_conv import overlap, share_inside, trimmed_conv

_LARGEST_SHARE = 0.5
"""Of products that do not lie in the padding, up to which the trimmed backward pass was the faster one in all that was
measured: 1.9 to 10 times, and 0.9 to 1.4 times at 0.56 (benchmarks/dilated_convolutions.py)."""


class DilatedConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps height and width, with stride 1 and dilation; same weights and results as torch's.

    On processors with AMX, oneDNN has no fast path for dilated convolutions in bfloat16, nor for wide ones in float32;
    1x1 convolutions, one per tap, do have one, and a tap that reaches beyond the map costs nothing. In training on any
    processor, the backward pass leaves out what lies in the padding where that is at least half of it. Elsewhere, in exported
    and compiled programs and on other devices, this is torch's convolution.

    Attributes:
        shifted: True or False decides for all instances; None lets the processor and the size decide.
        trimmed: likewise, of the backward pass.
    """

    shifted: bool | None = None
    trimmed: bool | None = None

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        if self._is_faster_shifted(input):
            return shifted_conv(input, self.weight, self.dilation[0], self.bias)
        if self._learns_faster_trimmed(input):
            # As autocast would do it, which does not reach into functions with a backward pass of their own.
            kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
            with torch.autocast("cpu", enabled=False):
                return trimmed_conv(input.to(kind), self.weight.to(kind), self.dilation[0])
        return super().forward(input)

    def _learns_faster_trimmed(self, features: Tensor) -> bool:
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
    """``conv2d(features, weight, bias, padding=dilation, dilation=dilation)`` by one 1x1 convolution per tap.

    Args:
        features: (N, C, H, W).
        weight: (O, C, 3, 3).
        dilation: in feature pixels.
        bias: (O,), which folding a normalisation brings.

    Returns:
        (N, O, H, W).
    """
    height, width = features.shape[-2:]
    result = F.conv2d(features, weight[:, :, 1:2, 1:2], bias)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            (down, right) = (row * dilation, column * dilation)
            if (row, column) == (0, 0) or abs(down) >= height or abs(right) >= width:
                continue  # done, or all of it lies in the padding
            tap = weight[:, :, row + 1 : row + 2, column + 1 : column + 2]
            rows, columns = overlap(down, height), overlap(right, width)
            target_rows, target_columns = overlap(-down, height), overlap(-right, width)
            result[:, :, target_rows, target_columns] += F.conv2d(features[:, :, rows, columns], tap)
    return result
