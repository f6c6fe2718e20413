"""UPerNet (Xiao et al. 2018, arXiv:1807.10221): pyramid pooling on the coarsest map, a feature pyramid, one head on all levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import FCNHead, classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.dropout import Dropout
from imageseg.models.layers.pyramid_pooling import PyramidPooling


class UPerNet(Network):
    """UPerNet with one classifier on all levels of its pyramid, the paper's head for objects (section 3).

    Suits ConvNeXt, Swin and every other encoder with maps at strides 4 to 32.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        channels: Number of channels of both pyramids and the head; 512 as in the paper's code, 256 at half the parameters.
        bins: Number of cells along each side of the pooled grids.
        level_norm: Whether layer normalization is applied to each of the encoder's maps. If not set, only for encoders that do
            not end with a normalization.
        aux: Whether to add an auxiliary head on the map before the coarsest.
        aux_channels: Number of channels of the auxiliary head.
        dropout: Dropout rate before both classifiers.
        align_corners: Whether the resizing from stride 4 to the image aligns corner pixels; resizing inside the head never does.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        in_channels: int = 3,
        channels: int = 512,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        level_norm: bool | None = None,
        aux: bool = True,
        aux_channels: int = 256,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, body, align_corners=align_corners)
        self.levels = body.levels_from(4)
        widths = [body.channels[level] for level in self.levels]
        needs_norm = _has_unnormalized_maps(body) if level_norm is None else level_norm
        self.norms = nn.ModuleList(_LevelNorm(width) if needs_norm else nn.Identity() for width in widths)
        self.pyramid = PyramidPooling(widths[-1], channels, bins=bins)
        self.bottleneck = conv_norm_relu(self.pyramid.out_channels, channels)
        self.laterals = nn.ModuleList(conv_norm_relu(width, channels, kernel=1) for width in widths[:-1])
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels) for _ in self.laterals)
        self.fuse = conv_norm_relu(len(widths) * channels, channels)
        self.dropout = Dropout(dropout)
        initialize_head(self.pyramid, self.bottleneck, self.laterals, self.smooth, self.fuse)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary_level = self.levels[-2]
        self.auxiliary = FCNHead(widths[-2], num_classes, channels=aux_channels, dropout=dropout) if aux else None

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 4."""
        maps = [norm(features[level]) for level, norm in zip(self.levels, self.norms, strict=True)]
        merged = [self.bottleneck(self.pyramid(maps[-1]))]  # finest first after the loop
        for lateral, fine in zip(reversed(self.laterals), reversed(maps[:-1]), strict=True):
            merged.insert(0, lateral(fine) + resize(merged[0], fine.shape[-2:]))
        smooth = [conv(level) for conv, level in zip(self.smooth, merged[:-1], strict=True)] + merged[-1:]
        joined = torch.cat([resize(level, smooth[0].shape[-2:]) for level in smooth], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.fuse(joined)))
        return logits


class _LevelNorm(nn.LayerNorm):
    """Layer normalization over the channels of (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, input: Tensor) -> Tensor:
        last = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return last.permute(0, 3, 1, 2)


_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


def _has_unnormalized_maps(encoder: Encoder) -> bool:
    """Whether the encoder's last layer with weights is not a normalization, as in ConvNeXt and Swin."""
    with_weights = [layer for layer in encoder.modules() if list(layer.parameters(recurse=False))]
    return not isinstance(with_weights[-1], _NORMS)
