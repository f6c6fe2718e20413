"""DeepLabV3 (Chen et al. 2017, arXiv:1706.05587): atrous spatial pyramid pooling on a dilated encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.dilation import set_multi_grid
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.aspp import ASPP, rates_for
from imageseg.models.layers.blocks import FCNHead, classifier, conv_norm_relu, initialize_head


class DeepLabV3(Network):
    """DeepLabV3: the encoder's last map, dilated instead of strided, through an ASPP (section 3.3) and a classifier.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        output_stride: Coarsest stride of the encoder. The paper trains with 16 (section 4.1) and evaluates with 8, which costs
            three times as much; torchvision's and most other published weights use 8.
        rates: Dilation rates of the ASPP's 3x3 convolutions. If not set, the paper's (6, 12, 18) at stride 16, scaled to the
            output stride.
        multi_grid: Dilation factors of the blocks in the encoder's last stage; (1, 2, 4) in the paper, with
            ``first_block="full"``.
        channels: Number of channels of the ASPP and of the convolution after it.
        head_conv: Whether a 3x3 convolution follows the ASPP. The paper has none, published weights have one.
        dropout: Dropout rate after the ASPP's projection.
        aux: Whether to add an auxiliary head on the stage before the last, for ``forward_with_aux``.
        first_block: Dilation policy of the encoder: "contract" as in torchvision, "full" as in segmentation_models_pytorch.
        align_corners: Whether the resizing from coarse logits to the image aligns corner pixels.
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
            in_channels=in_channels,
            output_stride=output_stride,
            first_block=first_block,
        )
        super().__init__(num_classes, body, align_corners=align_corners)
        if multi_grid is not None:
            set_multi_grid(body.network, multi_grid, encoder=encoder)
        *_, before_last, last = body.channels
        self.aspp = ASPP(last, channels, rates=rates_for(output_stride) if rates is None else rates, dropout=dropout)
        self.conv = conv_norm_relu(channels, channels) if head_conv else nn.Identity()
        initialize_head(self.aspp, self.conv)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = FCNHead(before_last, num_classes) if aux else None

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the output stride."""
        logits: Tensor = self.classifier(self.conv(self.aspp(features[-1])))
        return logits
