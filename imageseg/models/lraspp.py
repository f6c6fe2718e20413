"""LR-ASPP (Howard et al. 2019, arXiv:1905.02244): MobileNetV3's own head, for CPUs and small devices."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, conv_norm_relu, global_mean, initialize_head


class LRASPP(Network):
    """Lite reduced ASPP (section 6.4) as in torchvision: a gated map at stride 16, refined with features at stride 8.

    The gate uses the mean of the complete map; the paper's uses means over large windows. On MobileNetV3, the features at
    stride 8 come from the first block with this stride, and the first dilated block is fully dilated, as in torchvision's
    weights.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        output_stride: Coarsest stride of the encoder: 16 as in the paper, 8 or 32.
        channels: Number of channels of the gated map.
        norm_epsilon: Epsilon of the encoder's batch normalizations. If not set, timm's. torchvision's weights need 0.001.
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
        super().__init__(num_classes, body)
        if norm_epsilon is not None:
            if norm_epsilon <= 0:
                raise ValueError(f"norm_epsilon must be more than 0, found {norm_epsilon}")
            for layer in body.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = norm_epsilon
        self.low_level = body.strides.index(8)
        self.project = conv_norm_relu(body.channels[-1], channels, kernel=1)
        self.gate = nn.Sequential(nn.Conv2d(body.channels[-1], channels, 1, bias=False), nn.Sigmoid())
        initialize_head(self.project, self.gate)
        self.low_classifier = classifier(body.channels[self.low_level], num_classes)
        self.high_classifier = classifier(channels, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 8."""
        low, high = features[self.low_level], features[-1]
        gated = self.project(high) * self.gate(global_mean(high))  # (N, channels, H/16, W/16)
        logits: Tensor = self.low_classifier(low) + self.high_classifier(resize(gated, low.shape[-2:]))
        return logits


class _MobileNetV3(Encoder):
    """MobileNetV3 whose map at stride 8 is that of the first block with this stride, and whose dilation policy is "full"."""

    def __init__(self, name: str, *, pretrained: bool, output_stride: int, in_channels: int) -> None:
        super().__init__(
            name, pretrained=pretrained, output_stride=output_stride, first_block="full", in_channels=in_channels
        )
        self._first_block_only = self.network.feature_info[self._kept[self.strides.index(8)]]["module"]

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.network.act1(self.network.bn1(self.network.conv_stem(images)))
        names = self.network.feature_info.module_name()
        found = {names[0]: maps}  # the stem's map, unless the first stage has no stride
        for number, stage in enumerate(self.network.blocks):
            name = f"blocks.{number}"
            for index, block in enumerate(stage):
                maps = block(maps)
                if index == 0 or name != self._first_block_only:
                    found[name] = maps
        return [found[name] for name in names]
