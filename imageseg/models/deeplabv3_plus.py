"""DeepLabV3+ (Chen et al. 2018, arXiv:1802.02611): ASPP on a dilated encoder, refined with features at stride 4."""

from __future__ import annotations

from collections.abc import Sequence
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
    """DeepLabV3+ with the decoder of section 4.1: features at stride 4, projected to 48 channels, and two 3x3 convolutions.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        output_stride: Coarsest stride of the encoder: 16 as in the paper's training, 8 for finer maps at three times the cost,
            or 32.
        rates: Dilation rates of the ASPP's 3x3 convolutions. If not set, the paper's (6, 12, 18) at stride 16, scaled to the
            output stride.
        channels: Number of channels of the ASPP and the decoder.
        low_level_channels: Number of channels to which the features at stride 4 are reduced.
        decoder_convs: Number of 3x3 convolutions after the features are concatenated.
        separable: Whether the 3x3 convolutions in ASPP and decoder are depthwise separable (the paper's Xception variant).
        norm_between: Whether normalization and ReLU also follow the depthwise half of a separable convolution, as in the paper.
        aspp_conv: Whether another 3x3 convolution follows the ASPP.
        dropout: Dropout rate after the ASPP's projection and before the classifier.
        first_block: Dilation policy of the encoder: "contract" as in timm, "full" as in segmentation_models_pytorch.
        align_corners: Whether the resizing from the ASPP to stride 4, and from there to the image, aligns corner pixels.
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
            in_channels=in_channels,
            output_stride=output_stride,
            first_block=first_block,
        )
        super().__init__(num_classes, body, align_corners=align_corners)
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
        initialize_head(self.aspp, self.aspp_conv, self.reduce, self.decoder)
        self.classifier = classifier(channels, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 4."""
        fine = self.reduce(features[self.low_level])  # (N, 48, H/4, W/4)
        context = self.aspp_conv(self.aspp(features[-1]))
        context = resize(context, fine.shape[-2:], align_corners=self.align_corners)
        logits: Tensor = self.classifier(self.decoder(torch.cat([context, fine], dim=1)))
        return logits
