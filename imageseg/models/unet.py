"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) on any encoder of timm."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.models.base import Network
from imageseg.models.encoder import Encoder
from imageseg.models.layers import classifier, conv_norm_relu, initialize_head


class UNet(Network):
    """U-Net: every step doubles the map, joins the encoder's features of that size, and convolves twice.

    The paper's contracting path is an encoder of timm here, its convolutions are padded so that logits and picture have
    one size, and batch normalisation follows them.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        decoder_channels: of the steps to stride 16, 8, 4, 2 and 1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        decoder_channels: tuple[int, int, int, int, int] = (256, 128, 64, 32, 16),
    ) -> None:
        body = Encoder(encoder, pretrained=pretrained)
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder = body
        below = body.channels[-1]
        self.blocks = nn.ModuleList()
        self._strides = [stride for stride in (16, 8, 4, 2, 1) if stride < body.strides[-1]]
        for stride, channels in zip(self._strides, decoder_channels, strict=False):
            skip = body.channels[body.strides.index(stride)] if stride in body.strides else 0
            self.blocks.append(
                nn.Sequential(conv_norm_relu(below + skip, channels), conv_norm_relu(channels, channels))
            )
            below = channels
        initialize_head(self.blocks)
        self.classifier = classifier(below, num_classes, kernel=3)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the pictures."""
        features = dict(zip(self.encoder.strides, self.encoder(images), strict=True))  # type: ignore[arg-type]
        maps = features[max(features)]
        for stride, block in zip(self._strides, self.blocks, strict=True):
            skip = features.get(stride)
            size = skip.shape[-2:] if skip is not None else _size_at(images.shape[-2:], stride)
            maps = F.interpolate(maps, size=size, mode="nearest")
            maps = block(maps if skip is None else torch.cat([maps, skip], dim=1))
        logits: Tensor = self.classifier(maps)
        return logits


def _size_at(size: Sequence[int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
