"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): ASPP on a dilated encoder, refined with features of stride 4."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.aspp import ASPP, rates_for
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head, separable_conv_norm_relu
from imageseg.models.layers.dropout import Dropout


class DeepLabV3Plus(Network):
    """DeepLabV3+ with the decoder of the paper's section 4.1: features of stride 4, projected to 48 channels, two 3x3 convolutions.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        output_stride: the encoder's coarsest stride: 16 as in the paper's training, 8 for finer maps at 3 times the cost, or 32.
        rates: dilation of the ASPP's 3x3 convolutions; unset, the paper's (6, 12, 18) at stride 16, scaled to the stride.
        channels: of the ASPP and the decoder.
        low_level_channels: to which the features of stride 4 are reduced.
        decoder_convs: 3x3 convolutions after joining both.
        separable: depthwise separable convolutions in ASPP and decoder (the paper's Xception variant).
        norm_between: of their two convolutions, whether the depthwise one has normalisation and ReLU too, as in the paper.
        aspp_conv: one more 3x3 convolution after the ASPP.
        dropout: on the ASPP's projection and before the classifier.
        first_block: the encoder's dilation policy: "contract" as timm's weights, "full" as segmentation_models_pytorch.
        align_corners: of the step from the ASPP to stride 4, and from there to the picture.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        in_channels: int = 3,
        output_stride: int = 16,
        rates: tuple[int, ...] | None = None,
        channels: int = 256,
        low_level_channels: int = 48,
        decoder_convs: int = 2,
        separable: bool = False,
        norm_between: bool = True,
        aspp_conv: bool = False,
        dropout: float = 0.1,
        first_block: Literal["contract", "full"] = "contract",
        align_corners: bool = False,
    ) -> None:
        body = Encoder(
            encoder,
            pretrained=pretrained,
            output_stride=output_stride,
            first_block=first_block,
            in_channels=in_channels,
        )
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained, align_corners=align_corners)
        self.encoder = body
        self.low_level = body.deepest(4)
        self.aspp = ASPP(
            body.channels[-1],
            channels,
            rates=rates_for(output_stride) if rates is None else rates,
            separable=separable,
            norm_between=norm_between,
            dropout=dropout,
        )
        conv = partial(separable_conv_norm_relu, norm_between=norm_between) if separable else conv_norm_relu
        self.aspp_conv = conv(channels, channels) if aspp_conv else nn.Identity()
        self.reduce = conv_norm_relu(body.channels[self.low_level], low_level_channels, kernel=1)
        widths = [channels + low_level_channels] + [channels] * (decoder_convs - 1)
        self.decoder = nn.Sequential(*(conv(width, channels) for width in widths), Dropout(dropout))
        for part in (self.aspp, self.aspp_conv, self.reduce, self.decoder):
            initialize_head(part)
        self.classifier = classifier(channels, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at stride 4."""
        features = self.encoder(images)
        fine = self.reduce(features[self.low_level])  # (N, 48, H/4, W/4)
        context = self.aspp_conv(self.aspp(features[-1]))
        context = resize(context, fine.shape[-2:], align_corners=self.align_corners)
        logits: Tensor = self.classifier(self.decoder(torch.cat([context, fine], dim=1)))
        return logits
