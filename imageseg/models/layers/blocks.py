"""Layers that several networks share."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.models.layers.dilated_conv import DilatedConv2d
from imageseg.models.layers.dropout import Dropout


def conv_norm_relu(in_channels: int, out_channels: int, *, kernel: int = 3, dilation: int = 1) -> nn.Sequential:
    """A convolution that keeps height and width, batch normalization, ReLU."""
    convolution = (
        DilatedConv2d(in_channels, out_channels, dilation=dilation)
        if kernel == 3 and dilation > 1
        else nn.Conv2d(
            in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        )
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def separable_conv_norm_relu(
    in_channels: int, out_channels: int, *, dilation: int = 1, norm_between: bool = True
) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution, each with batch normalization and ReLU (DeepLabV3+, section 3.2).

    Without ``norm_between``, only the pointwise convolution has them, as in segmentation_models_pytorch.
    """
    between = [nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True)] if norm_between else []
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=dilation, dilation=dilation, groups=in_channels, bias=False),
        *between,
        *conv_norm_relu(in_channels, out_channels, kernel=1),
    )


class FCNHead(nn.Sequential):
    """A 3x3 convolution, dropout and the classifier: (N, in_channels, h, w) to logits.

    The auxiliary head of PSPNet (Zhao et al. 2017, arXiv:1612.01105, section 3.3), and the main head of torchvision's FCN.

    Args:
        in_channels: Number of channels of the encoder's map.
        num_classes: Number of classes.
        channels: Number of channels of the 3x3 convolution. If not set, a quarter of ``in_channels``.
        dropout: Dropout rate before the classifier.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, channels: int | None = None, dropout: float = 0.1
    ) -> None:
        width = channels or in_channels // 4
        super().__init__(*conv_norm_relu(in_channels, width), Dropout(dropout), classifier(width, num_classes))
        initialize_head(self[0])


class PooledBatchNorm(nn.BatchNorm2d):
    """Batch normalization of globally pooled features, also when there is a single value per channel.

    A single value has no variance, and torch raises an error. Here it is normalized with the running statistics, which remain
    unchanged, and a warning is issued once. Two values would always be normalized to plus and minus one, so use a batch size of
    at least 4 per device.
    """

    _warned = False

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, 1, 1) to the same shape."""
        if not self.training or input.numel() > input.shape[1]:
            return super().forward(input)
        if not PooledBatchNorm._warned:
            PooledBatchNorm._warned = True
            warnings.warn(
                "batch size 1: pooled features are normalized with running statistics; use a batch size of 4 or more",
                stacklevel=2,
            )
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def initialize_head(*modules: nn.Module) -> None:
    """He initialization of all convolutions in these modules (He et al. 2015), batch normalization as identity."""
    for layer in (layer for module in modules for layer in module.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def classifier(in_channels: int, num_classes: int, *, kernel: int = 1) -> nn.Conv2d:
    """The last convolution, to logits; initialized near zero, so that the first loss is that of a uniform prediction."""
    layer = nn.Conv2d(in_channels, num_classes, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def global_mean(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C, 1, 1). Unlike adaptive pooling, its gradient is deterministic on CUDA."""
    return torch.mean(features, dim=(2, 3), keepdim=True)
