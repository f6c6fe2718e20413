"""SegNet (Badrinarayanan et al. 2017, arXiv:1511.00561): VGG and its mirror image, which undoes each pooling by its indices."""

from __future__ import annotations

from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.vgg import VGGEncoder, mirrored, unpool
from imageseg.models.layers.blocks import classifier, initialize_head


class SegNet(Network):
    """SegNet as in the authors' model ``segnet_train``: pooling indices are the only connection from encoder to decoder stages.

    Each decoder stage unpools and then mirrors the convolutions of its encoder stage, all 3x3 with bias, batch normalization
    and ReLU. The very last convolution computes the logits.

    Args:
        num_classes: Number of classes.
        encoder: Name of a timm VGG. The paper uses VGG16 with batch normalization.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
    """

    encoder: VGGEncoder

    def __init__(
        self, num_classes: int, *, encoder: str = "vgg16_bn", pretrained: bool = True, in_channels: int = 3
    ) -> None:
        super().__init__(num_classes, VGGEncoder(encoder, pretrained=pretrained, in_channels=in_channels))
        coarsest, *others = [mirrored(widths) for widths in reversed(self.encoder.widths)]
        stages = [coarsest, *others[:-1], others[-1][:-1]]  # the last convolution is the classifier
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_conv_norm_relu(before, after) for before, after in stage)) for stage in stages
        )
        initialize_head(self.decoder)
        self.classifier = classifier(self.encoder.widths[0][1], num_classes, kernel=3)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the images."""
        maps, pools = self.encoder(images)
        for stage, pooled in zip(self.decoder, reversed(pools), strict=True):
            maps = stage(unpool(maps, pooled))
        logits: Tensor = self.classifier(maps)
        return logits


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    # A bias has no effect before a normalization; it is here because VGG's and the authors' weights have it.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
