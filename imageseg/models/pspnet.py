"""PSPNet (Zhao et al. 2017, arXiv:1612.01105): a pyramid of pooled features next to the last map of a dilated encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import FCNHead, classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.pyramid_pooling import PyramidPooling


class PSPNet(Network):
    """PSPNet: means over grids of 1, 2, 3 and 6 cells per side, concatenated with the map that they pool (section 3.2).

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder. The authors' encoder has a stem of three 3x3 convolutions: "resnet50s".
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        output_stride: Coarsest stride of the encoder; 8 in the paper.
        bins: Number of cells along height and width of each grid.
        pyramid_channels: Number of channels of each grid. If not set, the encoder's channels divided by the number of grids, as
            in the paper.
        channels: Number of channels of the 3x3 convolution after map and grids are concatenated.
        dropout: Dropout rate before the classifiers.
        aux: Whether to add an auxiliary head on the stage before the last, for ``forward_with_aux`` (section 3.3, where its
            loss has a weight of 0.4).
        first_block: Dilation policy of the encoder: "contract" as in timm, "full" as in the authors' code.
        align_corners: Whether every resizing, including the last step to the image, aligns corner pixels, as in the authors'
            code.
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
            in_channels=in_channels,
            output_stride=output_stride,
            first_block=first_block,
        )
        super().__init__(num_classes, body, align_corners=align_corners)
        *_, before_last, last = body.channels
        per_grid = pyramid_channels or last // max(len(bins), 1)
        self.pyramid = PyramidPooling(last, per_grid, bins=bins, align_corners=align_corners)
        self.bottleneck = nn.Sequential(*conv_norm_relu(self.pyramid.out_channels, channels), nn.Dropout2d(dropout))
        initialize_head(self.pyramid, self.bottleneck)
        self.classifier = classifier(channels, num_classes)
        self.auxiliary = FCNHead(before_last, num_classes, dropout=dropout) if aux else None

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at the output stride."""
        logits: Tensor = self.classifier(self.bottleneck(self.pyramid(features[-1])))
        return logits
