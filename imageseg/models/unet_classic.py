"""The U-Net of the paper (Ronneberger et al. 2015, arXiv:1505.04597) with its own contracting path, trained from scratch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import IMAGENET_MEAN, IMAGENET_STD, Network, resize
from imageseg.models.encoders.timm_encoder import require_values, spread_over_channels
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head


class UNetClassic(Network):
    """The U-Net of the paper (Figure 1): two 3x3 convolutions per level, 2x2 max pooling, 2x2 up-convolutions, skip connections.

    Two things differ from the paper, as in most implementations today: convolutions are padded, so that logits and image have
    the same size, and batch normalization follows each of them. There are no published weights to start from.

    Args:
        num_classes: Number of classes.
        channels: Number of channels of each level, finest first; the last level is the bottom.
        up: Upsampling of the maps. "deconv" is the paper's up-convolution, which halves the channels; "bilinear" resizes
            instead, with half the channels at the bottom and 17 instead of 31 million parameters.
        in_channels: Number of image channels.
        align_corners: Whether "bilinear" aligns corner pixels. Checkpoints of milesial's Pytorch-UNet need True.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        up: Literal["deconv", "bilinear"] = "deconv",
        in_channels: int = 3,
        align_corners: bool = False,
    ) -> None:
        if up not in ("deconv", "bilinear"):
            raise InputError(f"up must be 'deconv' or 'bilinear', found {up!r}")
        if len(channels) < 2 or any(width < 2 or width % 2 for width in channels):
            raise InputError(f"channels must be two or more even numbers, finest level first, found {list(channels)}")
        *levels, bottom = channels
        down = [in_channels, *levels, bottom if up == "deconv" else bottom // 2]
        super().__init__(num_classes, _ContractingPath(down), align_corners=align_corners)
        self.ups = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = down[-1]
        for level in reversed(range(len(levels))):
            skip = levels[level]
            if up == "deconv":
                self.ups.append(nn.ConvTranspose2d(below, skip, 2, stride=2))
                self.decoder.append(_double_conv(2 * skip, skip))
                below = skip
            else:
                # Halved if another level follows, because its skip connection has as many channels as the map from below.
                narrow = skip // 2 if level else skip
                self.ups.append(nn.Identity())
                self.decoder.append(_double_conv(below + skip, narrow, between=(below + skip) // 2))
                below = narrow
        initialize_head(self.encoder, self.ups, self.decoder)
        self.classifier = classifier(below, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the size of the images."""
        *skips, maps = features
        for up, block, skip in zip(self.ups, self.decoder, reversed(skips), strict=True):
            maps = block(torch.cat([skip, self._to_size(up(maps), skip.shape[-2:])], dim=1))
        logits: Tensor = self.classifier(maps)
        return logits

    def _to_size(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        if isinstance(self.ups[0], nn.Identity):
            return resize(maps, size, align_corners=self.align_corners)
        # Pooling drops the last row and column of an odd size, so the up-convolution has no values for them.
        return F.pad(maps, (0, size[1] - maps.shape[-1], 0, size[0] - maps.shape[-2]))


class _ContractingPath(nn.ModuleList):
    """Two convolutions per level, with a 2x2 max pooling between levels.

    Args:
        channels: Number of channels of the images and of each level.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(_double_conv(before, after) for before, after in itertools.pairwise(channels))
        self.mean = spread_over_channels(IMAGENET_MEAN, channels[0])
        self.std = spread_over_channels(IMAGENET_STD, channels[0])
        self.pretrained = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, C, H, W) to the maps of all levels, finest first.

        Raises:
            InputError: Images too small for pooling, or for batch statistics in training.
        """
        stride = 2 ** (len(self) - 1)
        count, _, height, width = images.shape
        rows, columns = height // stride, width // stride  # each pooling rounds down
        if self.training:
            require_values(count * max(rows, 1) * max(columns, 1), (height, width), name="UNetClassic", stride=stride)
        if min(rows, columns) < 1:
            raise InputError(f"UNetClassic cannot process a {height} x {width} image; {stride} x {stride} is enough")
        features: list[Tensor] = []
        for block in self:
            features.append(block(F.max_pool2d(features[-1], 2) if features else images))
        return features


def _double_conv(in_channels: int, out_channels: int, *, between: int | None = None) -> nn.Sequential:
    middle = between or out_channels
    return nn.Sequential(*conv_norm_relu(in_channels, middle), *conv_norm_relu(middle, out_channels))
