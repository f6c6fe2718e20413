"""The head of the dilated FCN, which also is the auxiliary head of PSPNet, DeepLabV3 and UPerNet."""

from __future__ import annotations

from torch import nn

from imageseg.models.layers import classifier, conv_norm_relu, initialize_head


class FCNHead(nn.Sequential):
    """A 3x3 convolution to a quarter of the channels, dropout, and the classifier: (N, in_channels, h, w) to logits.

    Zhao et al. 2017 (arXiv:1612.01105), section 3.3, for the auxiliary loss; torchvision's FCN as the main head.

    Args:
        in_channels: of the encoder's map.
        num_classes: the number of logits per pixel.
        channels: of the convolution; unset, a quarter of ``in_channels``.
        dropout: before the classifier.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, channels: int | None = None, dropout: float = 0.1
    ) -> None:
        width = channels or in_channels // 4
        super().__init__(*conv_norm_relu(in_channels, width), nn.Dropout(dropout), classifier(width, num_classes))
        initialize_head(self[0])
