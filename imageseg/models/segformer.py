"""SegFormer (Xie et al. 2021, arXiv:2105.15203): a linear layer on each of an encoder's four maps, and one on all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, initialize_head
from imageseg.models.layers.dropout import Dropout


class SegFormer(Network):
    """SegFormer's decoder of linear layers (section 3.2), on MiT or any other encoder with four maps.

    Args:
        num_classes: the number of logits per pixel.
        encoder: "mit_b0" to "mit_b5" for the paper's, which come without weights, or timm's name of any; PVTv2 is the
            closest relative of MiT whose weights are free.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        channels: of each linear layer; unset, the paper's: 768 on MiT and PVTv2 from size 2 on, else 256.
        dropout: before the classifier.
        align_corners: of the last step, from stride 4 to the picture; the steps inside never do.
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
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained, align_corners=align_corners)
        self.encoder = body
        self.levels = [body.deepest(stride) for stride in sorted(set(body.strides)) if stride >= 4]
        width = channels or _paper_channels(encoder)
        # A linear layer on every pixel is a convolution of 1x1. They keep torch's initialisation: no ReLU follows them.
        self.linears = nn.ModuleList(nn.Conv2d(body.channels[level], width, 1) for level in self.levels)
        self.fuse = conv_norm_relu(len(self.levels) * width, width, kernel=1)
        initialize_head(self.fuse)
        self.dropout = Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at stride 4."""
        features = self.encoder(images)
        maps = [linear(features[level]) for level, linear in zip(self.levels, self.linears, strict=True)]
        size = maps[0].shape[-2:]  # (H/4, W/4)
        # Coarsest first, as the authors' weights have it.
        joined = torch.cat([resize(level, size) for level in reversed(maps)], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.fuse(joined)))
        return logits


def _paper_channels(encoder: str) -> int:
    """Table 6: 256 for B0 and B1, 768 for the larger."""
    family, _, size = encoder.partition("_b")
    return 768 if family in ("mit", "pvt_v2") and size[:1] in tuple("2345") else 256
