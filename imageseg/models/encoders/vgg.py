"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556) with pooling indices, and unpooling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.encoders.timm_encoder import normalization_of, require_values, timm_network
from imageseg.models.layers.blocks import PooledBatchNorm

_NAMES = ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "vgg11", "vgg13", "vgg16", "vgg19")
_STRIDE = 32


class Pooled(NamedTuple):
    """What unpooling needs to know about a pooling."""

    indices: Tensor
    """(N, C, h, w) int64 position of each maximum in its H * W map."""
    size: tuple[int, int]
    """H and W before pooling."""


class VGGEncoder(nn.Module):
    """A timm VGG without its classifier: the coarsest map, and the indices of each of its five poolings.

    State dict keys are those of torchvision and timm, ``features.<n>.weight`` and so on.

    Args:
        name: timm name, for example "vgg16_bn".
        pretrained: Whether to load timm's weights, from this machine's cache or by downloading them once.
        in_channels: Number of image channels. If it is not 3, timm adapts the weights of the first convolution.
        fully_connected: Whether VGG's two fully connected layers follow, as a 7x7 and a 1x1 convolution to 4096 channels, each
            with batch normalization and ReLU.

    Attributes:
        widths: Number of channels before and after each convolution of each stage, finest stage first:
            ((3, 64, 64), (64, 128, 128), ...).
        channels: Number of channels of the coarsest map.
        mean: Mean per channel that the weights were trained with, on a scale of 0 to 1.
        std: Standard deviation per channel that the weights were trained with, on the same scale.
        pretrained: Whether timm's weights were loaded.

    Raises:
        InputError: The encoder is not a VGG, or its weights are unavailable.
    """

    def __init__(
        self, name: str, *, pretrained: bool = True, in_channels: int = 3, fully_connected: bool = False
    ) -> None:
        super().__init__()
        if name.partition(".")[0] not in _NAMES:
            raise InputError(
                f"encoder '{name}' is not a VGG, whose pooling this network undoes; use one of {', '.join(_NAMES)}, or a network "
                "for any encoder, such as UNet"
            )
        self.name = name
        self.pretrained = pretrained
        self.in_channels = in_channels
        # 124 of VGG16's 138 million parameters are in the classifier, so a narrow one is created if it is not used.
        narrow = {} if pretrained or fully_connected else {"mlp_ratio": 1 / 4096}
        network = timm_network(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **narrow)
        self.mean, self.std = normalization_of(network, in_channels)
        self.features: nn.Sequential = network.features
        self.widths = _widths(self.features)
        self.channels: int = self.widths[-1][-1]
        self.fully_connected: nn.Sequential | None = None
        if fully_connected:
            fc6, fc7 = network.pre_logits.fc1, network.pre_logits.fc2
            norms = (PooledBatchNorm(fc.out_channels) for fc in (fc6, fc7))
            self.fully_connected = nn.Sequential(
                fc6, next(norms), nn.ReLU(inplace=True), fc7, next(norms), nn.ReLU(inplace=True)
            )
            self.channels = fc7.out_channels

    def forward(self, images: Tensor) -> tuple[Tensor, list[Pooled]]:
        """(N, in_channels, H, W) to the map after the last pooling, (N, channels, H / 32, W / 32), and all poolings, finest first.

        With ``fully_connected`` the map is smaller by 6 rows and columns.

        Raises:
            InputError: Images too small for five poolings, or for batch statistics in training.
        """
        count, _, height, width = images.shape
        rows, columns = height // _STRIDE, width // _STRIDE  # each pooling rounds down
        if self.training:
            require_values(count * max(rows, 1) * max(columns, 1), (height, width), name=self.name, stride=_STRIDE)
        if min(rows, columns) < 1:
            raise InputError(f"encoder '{self.name}' cannot process a {height} x {width} image; 32 x 32 is enough")
        maps, pools = images, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                size = (maps.shape[-2], maps.shape[-1])
                maps, indices = F.max_pool2d(maps, 2, 2, return_indices=True)
                pools.append(Pooled(indices, size))
            else:
                maps = layer(maps)
        if self.fully_connected is not None:
            maps = self.fully_connected(maps)
        return maps, pools


def unpool(maps: Tensor, pooled: Pooled) -> Tensor:
    """(N, C, h, w) to (N, C, H, W), the size before pooling: each value at the position of its maximum, zero elsewhere.

    Equal to ``F.max_unpool2d``, which torch refuses to run when deterministic algorithms are required.
    """
    (count, channels), (height, width) = maps.shape[:2], pooled.size
    if maps.is_contiguous(memory_format=torch.channels_last):
        # The same in this memory format. This avoids three copies and halves the time of unpooling and the next convolution.
        indices, values = (tensor.permute(0, 2, 3, 1).flatten(1, 2) for tensor in (pooled.indices, maps))
        rows = maps.new_zeros((count, height * width, channels)).scatter(1, indices, values)
        return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
    planes = maps.new_zeros((count, channels, height * width))
    return planes.scatter(2, pooled.indices.flatten(2), maps.flatten(2)).view(count, channels, height, width)


def _widths(features: nn.Sequential) -> tuple[tuple[int, ...], ...]:
    stages: list[tuple[int, ...]] = []
    widths: list[int] = []
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            widths = [*(widths or [layer.in_channels]), layer.out_channels]
        elif isinstance(layer, nn.MaxPool2d):
            stages.append(tuple(widths))
            widths = widths[-1:]
    return tuple(stages)


def mirrored(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Number of channels before and after each convolution of the decoder stage that mirrors an encoder stage of ``widths``."""
    back = list(reversed(widths))
    return list(itertools.pairwise(back))
