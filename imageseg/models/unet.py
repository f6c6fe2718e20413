"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on any timm encoder."""

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
    """U-Net: every step doubles the size of the map, concatenates the encoder's features of this size, and convolves twice.

    Differences from the paper: the contracting path is a timm encoder, convolutions are padded so that logits and image have the
    same size, and batch normalization follows each convolution.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        decoder_channels: Number of channels of the decoder steps to strides 16, 8, 4, 2 and 1.
        attention: Attention before and after the convolutions of each step. "scse" weights channels and positions. If not set,
            there is none.
        upsample: Upsampling of the maps, "nearest" or "bilinear".
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
            raise InputError(f"attention must be 'scse' or null, found {attention!r}")
        if upsample not in ("nearest", "bilinear"):
            raise InputError(f"upsample must be 'nearest' or 'bilinear', found {upsample!r}")
        if len(decoder_channels) != 5:
            raise InputError(
                f"decoder_channels must be 5 numbers, for strides 16, 8, 4, 2 and 1, found {decoder_channels}"
            )
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, body)
        self.upsample = upsample
        self._encoder_strides = body.strides
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
        initialize_head(self.blocks, self.before, self.after)
        self.classifier = classifier(below, num_classes, kernel=3)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the size of the images."""
        skips = dict(zip(self._encoder_strides, features, strict=True))
        maps = features[-1]
        steps = zip(self._strides, self.before, self.blocks, self.after, strict=True)
        for stride, before, block, after in steps:
            skip = skips.get(stride)
            finer = skip.shape[-2:] if skip is not None else [-(-side // stride) for side in size]
            maps = F.interpolate(maps, size=finer, mode=self.upsample)
            maps = after(block(before(maps if skip is None else torch.cat([maps, skip], dim=1))))
        logits: Tensor = self.classifier(maps)
        return logits


class SCSE(nn.Module):
    """Concurrent spatial and channel squeeze and excitation (Roy et al. 2018, arXiv:1803.02579, section 2).

    Args:
        channels: Number of channels of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(1, channels // 16)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, channels, 1), nn.Sigmoid()
        )
        self.place = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid())

    def forward(self, maps: Tensor) -> Tensor:
        """(N, channels, h, w) to the same shape: the sum of the maps weighted by channel and weighted by position."""
        weighted: Tensor = maps * self.channel(global_mean(maps)) + maps * self.place(maps)
        return weighted
