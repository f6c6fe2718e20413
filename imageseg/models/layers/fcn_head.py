"""The head of the dilated FCN, which also is the auxiliary head of PSPNet, DeepLabV3 and UPerNet, and what these share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.dropout import Dropout


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
        super().__init__(*conv_norm_relu(in_channels, width), Dropout(dropout), classifier(width, num_classes))
        initialize_head(self[0])


class WithAuxiliaryHead(Network):
    """A network that may have an auxiliary head on one of its encoder's maps.

    Attributes:
        auxiliary: the head, or None.
        auxiliary_level: the index of its map; unless set, that before the coarsest.
    """

    auxiliary: FCNHead | None
    auxiliary_level = -2

    @abstractmethod
    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """The encoder's maps, finest first, to coarse logits for pictures of ``size`` (H, W)."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """As any network; the auxiliary head is not run."""
        return self.decode(self.encoder(images), images.shape[-2:])

    def coarse_logits_with_aux(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """As ``coarse_logits``, and the logits of the auxiliary head."""
        features = self.encoder(images)
        auxiliary = [] if self.auxiliary is None else [self.auxiliary(features[self.auxiliary_level])]
        return self.decode(features, images.shape[-2:]), auxiliary
