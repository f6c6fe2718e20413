"""VGG (Simonyan and Zisserman 2014, arXiv:1409.1556) that remembers where its pools took their values, and unpooling."""

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
    """What undoing a pool needs."""

    indices: Tensor
    """(N, C, h, w) int64: where in its H * W map each maximum was."""
    size: tuple[int, int]
    """H and W before the pool."""


class VGGEncoder(nn.Module):
    """A timm VGG without its classifier: the coarsest map, and what undoes each of its five pools.

    Its keys are those of torchvision and timm, ``features.<n>.weight`` and so on.

    Args:
        name: timm's name, for example "vgg16_bn".
        pretrained: load the weights that timm names; they come from this machine's cache or are fetched once.
        in_channels: of the pictures; timm spreads the weights of its first convolution over other numbers than 3.
        fully_connected: go on with VGG's two fully connected layers, as a 7x7 and a 1x1 convolution to 4096 channels, each
            with batch normalisation and ReLU.

    Attributes:
        widths: of each stage, the channels before and after each of its convolutions, finest stage first:
            ((3, 64, 64), (64, 128, 128), ...).
        channels: of the coarsest map.

    Raises:
        InputError: an encoder that is no VGG, weights that cannot be had.
    """

    def __init__(
        self, name: str, *, pretrained: bool = True, in_channels: int = 3, fully_connected: bool = False
    ) -> None:
        super().__init__()
        if name.partition(".")[0] not in _NAMES:
            raise InputError(
                f"encoder '{name}' is no VGG, whose pools this network undoes; take one of {', '.join(_NAMES)}, or a network for "
                "any encoder, as UNet"
            )
        self.name = name
        self.in_channels = in_channels
        # Of VGG16's 138 million parameters 124 are the classifier's: where none of them is kept, it is made narrow.
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
        """(N, in_channels, H, W) to the map after the last pool, (N, channels, H / 32, W / 32), and the pools, finest first.

        With ``fully_connected`` the map is smaller by 6 rows and columns.

        Raises:
            InputError: pictures too small for five pools, or for batch statistics in training.
        """
        count, _, height, width = images.shape
        rows, columns = height // _STRIDE, width // _STRIDE  # each pool rounds down
        if self.training:
            require_values(count * max(rows, 1) * max(columns, 1), images, name=self.name, stride=_STRIDE)
        if min(rows, columns) < 1:
            raise InputError(f"encoder '{self.name}' cannot take a {height} x {width} picture; 32 x 32 is enough")
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
    """(N, C, h, w) to (N, C, H, W) of before the pool: each value where its maximum was, zero elsewhere.

    The same as ``F.max_unpool2d``, which refuses to run where algorithms must be deterministic.
    """
    (count, channels), (height, width) = maps.shape[:2], pooled.size
    if maps.is_contiguous(memory_format=torch.channels_last):
        # The same in the memory's own order: without three copies, unpooling and the next convolution take half the time.
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
    """The channels before and after each convolution of a stage that undoes a stage of those ``widths``."""
    back = list(reversed(widths))
    return list(itertools.pairwise(back))
