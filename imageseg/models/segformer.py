"""SegFormer (Xie et al. 2021, arXiv:2105.15203): a linear layer on each of the encoder's four maps, and one on all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.dropout import Dropout


class SegFormer(Network):
    """SegFormer's decoder of linear layers (section 3.2), on MiT or any other encoder with four maps.

    Args:
        num_classes: Number of classes.
        encoder: Name of the encoder: "mit_b0" to "mit_b5" for the paper's, which have no freely licensed weights, or any timm
            encoder. PVTv2 is the closest relative of MiT with free weights.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        channels: Number of channels of each linear layer. If not set, the paper's: 768 for MiT and PVTv2 from size 2 on,
            otherwise 256.
        dropout: Dropout rate before the classifier.
        align_corners: Whether the resizing from stride 4 to the image aligns corner pixels; resizing inside the decoder never
            does.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "pvt_v2_b0",
        pretrained: bool = True,
        in_channels: int = 3,
        channels: int | None = None,
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, body, align_corners=align_corners)
        self.levels = body.levels_from(4)
        width = channels or _paper_channels(encoder)
        # A linear layer on every pixel is a 1x1 convolution. These keep torch's initialization: no ReLU follows them.
        self.linears = nn.ModuleList(nn.Conv2d(body.channels[level], width, 1) for level in self.levels)
        self.fuse = conv_norm_relu(len(self.levels) * width, width, kernel=1)
        initialize_head(self.fuse)
        self.dropout = Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 4."""
        maps = [linear(features[level]) for level, linear in zip(self.levels, self.linears, strict=True)]
        finest = maps[0].shape[-2:]  # (H/4, W/4)
        # Coarsest first, as in the authors' weights.
        joined = torch.cat([resize(level, finest) for level in reversed(maps)], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.fuse(joined)))
        return logits


def _paper_channels(encoder: str) -> int:
    """Table 6: 256 for B0 and B1, 768 for the larger sizes."""
    family, _, size = encoder.partition("_b")
    return 768 if family in ("mit", "pvt_v2") and size[:1] in tuple("2345") else 256
