"""Layers that several networks share."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.models.layers.dilated_conv import DilatedConv2d


def conv_norm_relu(in_channels: int, out_channels: int, *, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps height and width, batch normalisation, ReLU."""
    convolution = (
        DilatedConv2d(in_channels, out_channels, dilation=dilation)
        if kernel == 3 and dilation > 1
        else nn.Conv2d(
            in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        )
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def separable_conv_norm_relu(
    in_channels: int, out_channels: int, *, dilation: int = 1, norm_between: bool = True
) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution, each with batch normalisation and ReLU (DeepLabV3+, section 3.2).

    Without ``norm_between`` the depthwise one has neither, as in segmentation_models_pytorch.
    """
    between = [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)] if norm_between else []
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False),
        *between,
        *conv_norm_relu(in_channels, out_channels, kernel=1),
    )


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of globally pooled features, which may be a single value per channel.

    A single value has no variance: torch refuses it. Here it is normalised with the running statistics, which stay as
    they are, and a warning says so once. Two values would pass and always come out as plus and minus one, so a batch
    of at least four pictures per device is better.
    """

    _warned = False

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, 1, 1) to the same."""
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        if not PooledBatchNorm._warned:
            PooledBatchNorm._warned = True
            warnings.warn(
                "batch size 1: pooled features are normalised with running statistics; better take 4 or more",
                stacklevel=2,
            )
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def initialize_head(module: nn.Module) -> None:
    """He initialisation of every convolution below ``module`` (He et al. 2015), batch normalisation as identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def classifier(in_channels: int, num_classes: int, *, kernel: int = 1) -> nn.Conv2d:
    """The last convolution, to logits; it starts near zero so that the first loss is that of a uniform guess."""
    layer = nn.Conv2d(in_channels, num_classes, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def global_mean(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C, 1, 1); unlike adaptive pooling its gradient is deterministic on CUDA."""
    return torch.mean(features, dim=(2, 3), keepdim=True)
