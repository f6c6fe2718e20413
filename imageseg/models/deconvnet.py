"""DeconvNet (Noh et al. 2015, arXiv:1505.04366): VGG with its fully connected layers, and deconvolutions that undo its pools."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from imageseg.errors import InputError
from imageseg.models.base import Network
from imageseg.models.encoders.vgg import VGGEncoder, mirrored, unpool
from imageseg.models.layers.blocks import classifier, initialize_head

_LITE_CHANNELS = 1024
_FC_SIDE = 7 * 32
"""The smallest side whose coarsest map a 7x7 convolution fits on."""


class DeconvNet(Network):
    """DeconvNet as the paper's section 3.2 and the authors' model have it; nothing but pooling indices skips the bottleneck.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of a VGG; the paper's is VGG16, and the authors' model has batch normalisation: "vgg16_bn".
        pretrained: start from the encoder's published weights, with "fc7x7" also those of its fully connected layers.
        in_channels: of the pictures.
        bottleneck: "fc7x7" is the paper's, VGG's fully connected layers as convolutions, which take pictures of 224 x 224
            or more and hold 222 of 252 million parameters. "lite" has 3x3 convolutions of 1024 channels instead, for
            pictures of any size; it is no part of the paper.
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
        body = VGGEncoder(encoder, pretrained=pretrained, in_channels=in_channels, fully_connected=connected)
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder = body
        self.bottleneck = nn.Sequential()
        if not connected:
            self.bottleneck.extend((_conv(body.channels, kernel=3), _conv(_LITE_CHANNELS, kernel=1)))
        below = body.channels if connected else _LITE_CHANNELS
        width = body.widths[-1][-1]
        self.bottleneck.append(_deconv(below, width, kernel=7 if connected else 3, padding=0 if connected else 1))
        first = body.widths[0][1]
        # The finest stage ends in the width of the first convolution, where its mirror image would give a picture.
        stages = [mirrored(widths) for widths in ((first, *body.widths[0][1:]), *body.widths[1:])]
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_deconv(before, after) for before, after in stage)) for stage in reversed(stages)
        )
        initialize_head(self.bottleneck)
        initialize_head(self.decoder)
        self.classifier = classifier(first, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the pictures."""
        height, width = images.shape[-2:]
        if self.encoder.fully_connected is not None and min(height, width) < _FC_SIDE:
            raise InputError(
                f"DeConvNet's bottleneck fc7x7 cannot take a {height} x {width} picture; {_FC_SIDE} x {_FC_SIDE} is enough, "
                "or pass --network.bottleneck lite, which takes smaller ones"
            )
        maps, pools = self.encoder(images)
        maps = self.bottleneck(maps)  # the size of the coarsest pool's result again
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
