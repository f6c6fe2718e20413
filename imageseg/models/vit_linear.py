"""ViTLinear: a linear classifier on the features of a frozen vision transformer (DINOv2, DINOv3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import require_values
from imageseg.models.encoders.vit import ViTEncoder
from imageseg.models.layers.blocks import classifier


class ViTLinear(Network):
    """Batch normalisation and a 1x1 convolution on the patches of a plain ViT.

    The linear evaluation of DINOv2 (Oquab et al. 2023, arXiv:2304.07193): the encoder stays as it is, so little
    is trained, and little data is enough.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of a plain ViT.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        layers: the last so many layers, or indices from 0, whose features are joined: 1 for the paper's "linear", 4 for
            the features of its "+ms".
        frozen: keep the encoder as it is; False trains it too.
    """

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
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder: ViTEncoder = body
        width = body.channels * len(body.layers)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = classifier(width, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the grid of patches; at the size of the pictures where a side is no multiple of the patch.

        Raises:
            InputError: in training, a single picture of a single patch.
        """
        maps = torch.cat(self.encoder(images), dim=1)  # (N, layers * channels, H / patch, W / patch)
        if self.training:
            require_values(maps[:, 0].numel(), images, name=self.encoder.name, stride=self.encoder.patch)
        logits: Tensor = self.encoder.unpad(self.classifier(self.norm(maps)), images.shape[-2:])
        return logits
