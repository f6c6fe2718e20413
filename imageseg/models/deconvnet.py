"""DeconvNet (Noh et al. 2015, arXiv:1505.04366): VGG with its fully connected layers, and deconvolutions that undo its pooling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.models.base import Network
from imageseg.models.encoders.vgg import VGGEncoder, mirrored, unpool
from imageseg.models.layers.blocks import classifier, initialize_head

_LITE_CHANNELS = 1024
_FC_SIDE = 7 * 32
"""Smallest side of an image whose coarsest feature map a 7x7 convolution fits into."""


class DeconvNet(Network):
    """DeconvNet as in the paper's section 3.2 and the authors' model; only pooling indices bypass the bottleneck.

    Args:
        num_classes: Number of classes.
        encoder: Name of a timm VGG. The paper uses VGG16, the authors' model VGG16 with batch normalization: "vgg16_bn".
        pretrained: Whether to start from the encoder's published weights; with "fc7x7" also those of its fully connected
            layers.
        in_channels: Number of image channels.
        bottleneck: Layers between encoder and decoder. "fc7x7" is the paper's: VGG's fully connected layers as convolutions,
            which require images of 224 x 224 or more and hold 222 of 252 million parameters. "lite", which is not in the paper,
            uses 3x3 convolutions of 1024 channels instead and accepts images of any size.
    """

    encoder: VGGEncoder

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "vgg16_bn",
        pretrained: bool = True,
        in_channels: int = 3,
        bottleneck: Literal["fc7x7", "lite"] = "fc7x7",
    ) -> None:
        if bottleneck not in ("fc7x7", "lite"):
            raise InputError(f"bottleneck must be 'fc7x7' or 'lite', found {bottleneck!r}")
        connected = bottleneck == "fc7x7"
        vgg = VGGEncoder(encoder, pretrained=pretrained, in_channels=in_channels, fully_connected=connected)
        super().__init__(num_classes, vgg)
        self.bottleneck = nn.Sequential()
        if not connected:
            self.bottleneck.extend((_conv(vgg.channels, kernel=3), _conv(_LITE_CHANNELS, kernel=1)))
        below = vgg.channels if connected else _LITE_CHANNELS
        width = vgg.widths[-1][-1]
        self.bottleneck.append(_deconv(below, width, kernel=7 if connected else 3, padding=0 if connected else 1))
        first = vgg.widths[0][1]
        # The finest stage ends with the width of the first convolution; a strict mirror image would end with image channels.
        stages = [mirrored(widths) for widths in ((first, *vgg.widths[0][1:]), *vgg.widths[1:])]
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_deconv(before, after) for before, after in stage)) for stage in reversed(stages)
        )
        initialize_head(self.bottleneck, self.decoder)
        self.classifier = classifier(first, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the images."""
        height, width = images.shape[-2:]
        if self.encoder.fully_connected is not None and min(height, width) < _FC_SIDE:
            raise InputError(
                f"DeConvNet's bottleneck fc7x7 cannot process a {height} x {width} image; {_FC_SIDE} x {_FC_SIDE} is enough, "
                "or pass --network.bottleneck lite, which accepts smaller images"
            )
        maps, pools = self.encoder(images)
        maps = self.bottleneck(maps)  # back to the size of the last pooling's result
        for stage, pooled in zip(self.decoder, reversed(pools), strict=True):
            maps = stage(unpool(maps, pooled))
        logits: Tensor = self.classifier(maps)
        return logits


def _conv(in_channels: int, *, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, _LITE_CHANNELS, kernel, padding=kernel // 2),
        nn.BatchNorm2d(_LITE_CHANNELS),
        nn.ReLU(inplace=True),
    )


def _deconv(in_channels: int, out_channels: int, *, kernel: int = 3, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_channels, out_channels, kernel, padding=padding),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
