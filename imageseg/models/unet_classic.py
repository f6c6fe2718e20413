"""The U-Net of the paper (Ronneberger et al. 2015, arXiv:1505.04597), trained from scratch, with a contracting path of its own."""

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
    """The paper's U-Net, figure 1: two 3x3 convolutions per level, 2x2 max pools down, 2x2 up-convolutions and skips up.

    Two things are as everyone has them by now and not as in the paper: convolutions are padded, so that logits and picture
    have one size, and batch normalisation follows them. There are no published weights to start from.

    Args:
        num_classes: the number of logits per pixel.
        channels: of each level, finest first; the last one is the bottom.
        up: "deconv" is the paper's up-convolution, which halves the channels; "bilinear" resizes instead, with half the
            channels at the bottom and 17 million parameters instead of 31.
        in_channels: of the pictures.
        align_corners: of "bilinear"; checkpoints of milesial's Pytorch-UNet need True.
    """

    encoder: nn.ModuleList

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
        mean, std = (spread_over_channels(values, in_channels) for values in (IMAGENET_MEAN, IMAGENET_STD))
        super().__init__(num_classes, mean=mean, std=std, align_corners=align_corners)
        *levels, bottom = channels
        down = [in_channels, *levels, bottom if up == "deconv" else bottom // 2]
        self.encoder = nn.ModuleList(_double_conv(width, after) for width, after in itertools.pairwise(down))
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
                # Halved where another level follows, whose skip then has as many channels as what comes from below.
                narrow = skip // 2 if level else skip
                self.ups.append(nn.Identity())
                self.decoder.append(_double_conv(below + skip, narrow, between=(below + skip) // 2))
                below = narrow
        for part in (self.encoder, self.ups, self.decoder):
            initialize_head(part)
        self.classifier = classifier(below, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the pictures.

        Raises:
            InputError: pictures too small for the pools, or for batch statistics in training.
        """
        skips = self._contract(images)
        maps = skips.pop()
        for up, block in zip(self.ups, self.decoder, strict=True):
            skip = skips.pop()
            maps = block(torch.cat([skip, self._to_size(up(maps), skip.shape[-2:])], dim=1))
        logits: Tensor = self.classifier(maps)
        return logits

    def _contract(self, images: Tensor) -> list[Tensor]:
        stride = 2 ** (len(self.encoder) - 1)
        count, _, height, width = images.shape
        rows, columns = height // stride, width // stride  # each pool rounds down
        if self.training:
            require_values(count * max(rows, 1) * max(columns, 1), images, name="UNetClassic", stride=stride)
        if min(rows, columns) < 1:
            raise InputError(f"UNetClassic cannot take a {height} x {width} picture; {stride} x {stride} is enough")
        features: list[Tensor] = []
        for block in self.encoder:
            features.append(block(F.max_pool2d(features[-1], 2) if features else images))
        return features

    def _to_size(self, maps: Tensor, size: Sequence[int]) -> Tensor:
        if isinstance(self.ups[0], nn.Identity):
            return resize(maps, size, align_corners=self.align_corners)
        # A pool drops the last row and column of an odd size: the up-convolution has nothing to say of them.
        return F.pad(maps, (0, size[1] - maps.shape[-1], 0, size[0] - maps.shape[-2]))


def _double_conv(in_channels: int, out_channels: int, *, between: int | None = None) -> nn.Sequential:
    middle = between or out_channels
    return nn.Sequential(*conv_norm_relu(in_channels, middle), *conv_norm_relu(middle, out_channels))
