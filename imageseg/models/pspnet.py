"""PSPNet (Zhao et al. 2017, arXiv:1612.01105): a pyramid of pooled features beside the last map of a dilated encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.fcn_head import FCNHead, WithAuxiliaryHead
from imageseg.models.layers.pyramid_pooling import PyramidPooling


class PSPNet(WithAuxiliaryHead):
    """PSPNet: means over grids of 1, 2, 3 and 6 cells a side join the map that they were taken from (section 3.2).

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder. The authors' has three 3x3 convolutions as its stem: "resnet50s".
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        output_stride: the encoder's coarsest stride; 8 in the paper.
        bins: cells along height and width of each grid.
        pyramid_channels: of each grid; unset, the encoder's divided among the grids, as in the paper.
        channels: of the 3x3 convolution that joins map and grids.
        dropout: before the classifiers.
        aux: an auxiliary head on the stage before the last, for ``forward_with_aux`` (section 3.3; its loss weighs 0.4).
        first_block: the encoder's dilation policy: "contract" as timm's weights, "full" as in the authors' code.
        align_corners: of every resize, and of the last step to the picture; True in the authors' code.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        in_channels: int = 3,
        output_stride: int = 8,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        pyramid_channels: int | None = None,
        channels: int = 512,
        dropout: float = 0.1,
        aux: bool = True,
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
        width = body.channels[-1]
        self.pyramid = PyramidPooling(
            width, pyramid_channels or width // max(len(bins), 1), bins=bins, align_corners=align_corners
        )
        self.bottleneck = nn.Sequential(*conv_norm_relu(self.pyramid.out_channels, channels), nn.Dropout2d(dropout))
        for part in (self.pyramid, self.bottleneck):
            initialize_head(part)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = FCNHead(body.channels[-2], num_classes, dropout=dropout) if aux else None

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the output stride."""
        logits: Tensor = self.classifier(self.bottleneck(self.pyramid(features[-1])))
        return logits
