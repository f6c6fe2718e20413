"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587): atrous spatial pyramid pooling on a dilated encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from imageseg.models.encoders.dilation import set_multi_grid
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.aspp import ASPP, rates_for
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.fcn_head import FCNHead, WithAuxiliaryHead


class DeepLabV3(WithAuxiliaryHead):
    """DeepLabV3: the encoder's last map, dilated instead of strided, through an ASPP (section 3.3) and a classifier.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        output_stride: the encoder's coarsest stride. 16 is what the paper trains with (section 4.1), at a third of the cost of
            8, which it evaluates with and which torchvision's and most other published weights have.
        rates: dilation of the ASPP's 3x3 convolutions; unset, the paper's (6, 12, 18) at stride 16, scaled to the stride.
        multi_grid: factors on the dilation of the blocks in the encoder's last stage; (1, 2, 4) in the paper, with
            ``first_block="full"``.
        channels: of the ASPP and of the convolution after it.
        head_conv: a 3x3 convolution between ASPP and classifier, which the paper lacks and published weights have.
        dropout: on the ASPP's projection.
        aux: an auxiliary head on the stage before the last, for ``forward_with_aux``.
        first_block: the encoder's dilation policy: "contract" as torchvision, "full" as segmentation_models_pytorch.
        align_corners: of the last step, from coarse logits to the picture.
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
        multi_grid: tuple[int, ...] | None = None,
        channels: int = 256,
        head_conv: bool = True,
        dropout: float = 0.1,
        aux: bool = False,
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
        if multi_grid is not None:
            set_multi_grid(body.network, multi_grid, encoder=encoder)
        self.encoder = body
        self.aspp = ASPP(
            body.channels[-1], channels, rates=rates_for(output_stride) if rates is None else rates, dropout=dropout
        )
        self.conv = conv_norm_relu(channels, channels) if head_conv else nn.Identity()
        for part in (self.aspp, self.conv):
            initialize_head(part)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = FCNHead(body.channels[-2], num_classes) if aux else None

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the output stride."""
        logits: Tensor = self.classifier(self.conv(self.aspp(features[-1])))
        return logits
