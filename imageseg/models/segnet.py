"""SegNet (Badrinarayanan et al. 2017, arXiv:1511.00561): VGG, and its mirror image that undoes each pool by its indices."""

from __future__ import annotations

from torch import Tensor, nn

from imageseg.models.base import Network
from imageseg.models.encoders.vgg import VGGEncoder, mirrored, unpool
from imageseg.models.layers.blocks import classifier, initialize_head


class SegNet(Network):
    """SegNet as the authors' model ``segnet_train`` has it: the decoder gets nothing of the encoder but the indices of its pools.

    Each stage of the decoder unpools and then has the convolutions of the encoder's stage in reverse, all 3x3 with bias,
    batch normalisation and ReLU; the very last one gives the logits.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of a VGG; the paper's is VGG16 with batch normalisation.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
    """

    encoder: VGGEncoder

    def __init__(
        self, num_classes: int, *, encoder: str = "vgg16_bn", pretrained: bool = True, in_channels: int = 3
    ) -> None:
        body = VGGEncoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder = body
        coarsest, *others = [mirrored(widths) for widths in reversed(body.widths)]
        stages = [coarsest, *others[:-1], others[-1][:-1]]  # the last convolution is the classifier
        self.decoder = nn.ModuleList(
            nn.Sequential(*(_conv_norm_relu(before, after) for before, after in stage)) for stage in stages
        )
        initialize_head(self.decoder)
        self.classifier = classifier(body.widths[0][1], num_classes, kernel=3)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at the size of the pictures."""
        maps, pools = self.encoder(images)
        for stage, pooled in zip(self.decoder, reversed(pools), strict=True):
            maps = stage(unpool(maps, pooled))
        logits: Tensor = self.classifier(maps)
        return logits


def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    # The bias does nothing before a normalisation; it is there because VGG's and the authors' weights have it.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)
    )
