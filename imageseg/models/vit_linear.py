"""ViTLinear: a linear classifier on the features of a frozen vision transformer (DINOv2, DINOv3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import require_values
from imageseg.models.encoders.vit import ViTEncoder
from imageseg.models.layers.blocks import classifier


class ViTLinear(Network):
    """Batch normalization and a 1x1 convolution on the patch features of a plain ViT.

    The linear evaluation of DINOv2 (Oquab et al. 2023, arXiv:2304.07193): the encoder is frozen, so few parameters are trained
    and little data is enough.

    Args:
        num_classes: Number of classes.
        encoder: Name of a plain ViT in timm.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        layers: Encoder layers whose features are concatenated: the number of last layers, or their indices from 0. 1 is the
            paper's "linear"; 4 uses the features of its "+ms".
        frozen: Whether the encoder's weights stay fixed. False trains the encoder too.
    """

    encoder: ViTEncoder

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "vit_small_patch14_reg4_dinov2",
        pretrained: bool = True,
        in_channels: int = 3,
        layers: int | tuple[int, ...] = 1,
        frozen: bool = True,
    ) -> None:
        body = ViTEncoder(encoder, pretrained=pretrained, in_channels=in_channels, frozen=frozen, layers=layers)
        super().__init__(num_classes, body)
        width = body.channels * len(body.layers)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = classifier(width, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits on the grid of patches, or at the size of the images if a side is not a multiple of the patch size.

        Raises:
            InputError: A single image of a single patch, in training.
        """
        maps = torch.cat(features, dim=1)  # (N, layers * channels, H / patch, W / patch)
        if self.training:
            require_values(maps[:, 0].numel(), size, name=self.encoder.name, stride=self.encoder.patch)
        logits: Tensor = self.encoder.unpad(self.classifier(self.norm(maps)), size)
        return logits
