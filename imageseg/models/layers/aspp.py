"""Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from imageseg.models.layers.blocks import PooledBatchNorm, conv_norm_relu, global_mean, separable_conv_norm_relu
from imageseg.models.layers.dropout import Dropout

_RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


def rates_for(output_stride: int) -> tuple[int, int, int]:
    """The paper's dilation rates, scaled so that the field of view in image pixels is the same at every output stride."""
    return _RATES[output_stride]


class ASPP(nn.Module):
    """A 1x1 convolution, one dilated 3x3 convolution per rate and the mean of the complete map, projected together.

    Args:
        in_channels: Number of channels of the encoder's last map.
        channels: Number of channels of each branch and of the result.
        rates: Dilation of each 3x3 branch in feature pixels.
        separable: Whether the 3x3 branches are depthwise separable (DeepLabV3+).
        norm_between: Whether a normalization also follows the depthwise half of a separable convolution.
        dropout: Dropout rate after the projection.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        rates: Sequence[int] = (6, 12, 18),
        separable: bool = False,
        norm_between: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        dilated = partial(separable_conv_norm_relu, norm_between=norm_between) if separable else conv_norm_relu
        self.convs = nn.ModuleList([conv_norm_relu(in_channels, channels, kernel=1)])
        self.convs.extend(dilated(in_channels, channels, dilation=rate) for rate in rates)
        self.pooled = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, bias=False), PooledBatchNorm(channels), nn.ReLU(inplace=True)
        )
        self.project = nn.Sequential(*conv_norm_relu(channels * (len(rates) + 2), channels, kernel=1), Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, channels, h, w)."""
        pooled = self.pooled(global_mean(features)).expand(-1, -1, *features.shape[-2:])
        branches = [conv(features) for conv in self.convs]
        projected: Tensor = self.project(torch.cat([*branches, pooled], dim=1))
        return projected
