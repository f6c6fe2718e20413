"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on any encoder of timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, global_mean, initialize_head


class UNet(Network):
    """U-Net: every step doubles the map, joins the encoder's features of that size, and convolves twice.

    The paper's contracting path is an encoder of timm here, its convolutions are padded so that logits and picture have
    one size, and batch normalisation follows them.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        decoder_channels: of the steps to stride 16, 8, 4, 2 and 1.
        attention: "scse" weighs channels and places before and after the convolutions of each step; unset, nothing does.
        upsample: how a map is doubled, "nearest" or "bilinear".
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        in_channels: int = 3,
        decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16),
        attention: Literal["scse"] | None = None,
        upsample: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        if attention not in (None, "scse"):
            raise InputError(f"attention must be 'scse' or none, found {attention!r}")
        if upsample not in ("nearest", "bilinear"):
            raise InputError(f"upsample must be 'nearest' or 'bilinear', found {upsample!r}")
        if len(decoder_channels) != 5:
            raise InputError(
                f"decoder_channels must be 5 numbers, of strides 16, 8, 4, 2 and 1, found {decoder_channels}"
            )
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder = body
        self.upsample = upsample
        below = body.channels[-1]
        self.blocks, self.before, self.after = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self._strides = [stride for stride in (16, 8, 4, 2, 1) if stride < body.strides[-1]]
        for stride, channels in zip(self._strides, decoder_channels, strict=False):
            skip = body.channels[body.strides.index(stride)] if stride in body.strides else 0
            self.blocks.append(
                nn.Sequential(conv_norm_relu(below + skip, channels), conv_norm_relu(channels, channels))
            )
            self.before.append(SCSE(below + skip) if attention and skip else nn.Identity())
            self.after.append(SCSE(channels) if attention else nn.Identity())
            below = channels
        for part in (self.blocks, self.before, self.after):
            initialize_head(part)
        self.classifier = classifier(below, num_classes, kernel=3)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the pictures."""
        features = dict(zip(self.encoder.strides, self.encoder(images), strict=True))  # type: ignore[arg-type]
        maps = features[max(features)]
        steps = zip(self._strides, self.before, self.blocks, self.after, strict=True)
        for stride, before, block, after in steps:
            skip = features.get(stride)
            size = skip.shape[-2:] if skip is not None else _size_at(images.shape[-2:], stride)
            maps = F.interpolate(maps, size=size, mode=self.upsample)
            maps = after(block(before(maps if skip is None else torch.cat([maps, skip], dim=1))))
        logits: Tensor = self.classifier(maps)
        return logits


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al. 2018, arXiv:1803.02579), section 2, added.

    Args:
        channels: of the maps.
        reduction: of the channels between both 1x1 convolutions of the channels' weights.
    """

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, channels, 1), nn.Sigmoid()
        )
        self.place = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        """(N, channels, h, w) to the same, weighed by channel plus weighed by place."""
        weighed: Tensor = maps * self.channel(global_mean(maps)) + maps * self.place(maps)
        return weighed


def _size_at(size: Sequence[int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
