"""LR-ASPP (Howard et al. 2019, arXiv:1905.02244): MobileNetV3's own head, for processors and small devices."""

from __future__ import annotations

from torch import Tensor, nn

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, global_mean, initialize_head


class LRASPP(Network):
    """Lite reduced ASPP (section 6.4), as torchvision builds it: a map of stride 16 under a gate, and details of stride 8.

    The gate takes the mean of the whole map; the paper's takes means over large windows. On MobileNetV3 the details
    are those of the first block at stride 8 and the first dilated block is dilated in full, as in torchvision's weights.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        output_stride: the encoder's coarsest stride: 16 as in the paper, 8 or 32.
        channels: of the gated map.
        norm_epsilon: of the encoder's batch normalisations; unset, timm's. torchvision's weights need 0.001.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "mobilenetv3_large_100",
        pretrained: bool = True,
        in_channels: int = 3,
        output_stride: int = 16,
        channels: int = 128,
        norm_epsilon: float | None = None,
    ) -> None:
        make = _MobileNetV3 if "mobilenetv3" in encoder else Encoder
        body = make(encoder, pretrained=pretrained, output_stride=output_stride, in_channels=in_channels)
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained)
        self.encoder = body
        if norm_epsilon is not None and norm_epsilon <= 0:
            raise ValueError(f"norm_epsilon must be more than 0, found {norm_epsilon}")
        if norm_epsilon is not None:
            for layer in body.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = norm_epsilon
        self.low_level = body.strides.index(8)
        self.project = conv_norm_relu(body.channels[-1], channels, kernel=1)
        self.gate = nn.Sequential(nn.Conv2d(body.channels[-1], channels, 1, bias=False), nn.Sigmoid())
        for part in (self.project, self.gate):
            initialize_head(part)
        self.low_classifier = classifier(body.channels[self.low_level], num_classes)
        self.high_classifier = classifier(channels, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at stride 8."""
        features = self.encoder(images)
        low, high = features[self.low_level], features[-1]
        gated = self.project(high) * self.gate(global_mean(high))  # (N, channels, H/16, W/16)
        logits: Tensor = self.low_classifier(low) + self.high_classifier(resize(gated, low.shape[-2:]))
        return logits


class _MobileNetV3(Encoder):
    """MobileNetV3 whose map of stride 8 is that of the first block at this stride, and whose dilation begins at once."""

    def __init__(self, name: str, *, pretrained: bool, output_stride: int, in_channels: int) -> None:
        super().__init__(
            name, pretrained=pretrained, output_stride=output_stride, first_block="full", in_channels=in_channels
        )
        self._first_only = self.network.feature_info[self._kept[self.strides.index(8)]]["module"]

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.network.act1(self.network.bn1(self.network.conv_stem(images)))
        names = self.network.feature_info.module_name()
        found = {names[0]: maps}  # the stem's, unless the first stage keeps its stride
        for number, stage in enumerate(self.network.blocks):
            name = f"blocks.{number}"
            for index, block in enumerate(stage):
                maps = block(maps)
                if index == 0 or name != self._first_only:
                    found[name] = maps
        return [found[name] for name in names]
