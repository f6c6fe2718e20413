"""Dilated 3x3 convolutions as sums of shifted 1x1 convolutions, where a processor is faster that way."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DilatedConv2d(nn.Conv2d):
    """A 3x3 convolution that keeps height and width, with stride 1 and dilation; same weights and results as torch's.

    On processors with AMX, oneDNN has no fast path for dilated convolutions in bfloat16, nor for wide ones in float32;
    1x1 convolutions, one per tap, do have one, and a tap that reaches beyond the map costs nothing. Elsewhere, and in
    training, in exported programs and on other devices, this is torch's convolution.

    Attributes:
        shifted: True or False decides for all instances; None lets the processor and the size decide.
    """

    shifted: bool | None = None

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        if self._is_faster_shifted(input):
            return shifted_conv(input, self.weight, self.dilation[0], self.bias)
        return super().forward(input)

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
            rows, columns = _overlap(down, height), _overlap(right, width)
            target_rows, target_columns = _overlap(-down, height), _overlap(-right, width)
            result[:, :, target_rows, target_columns] += F.conv2d(features[:, :, rows, columns], tap)
    return result


def _overlap(shift: int, size: int) -> slice:
    """The values of an axis that, moved back by ``shift``, still lie on it."""
    return slice(max(0, shift), size + min(0, shift))
