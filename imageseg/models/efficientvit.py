"""EfficientViT for segmentation (Cai et al. 2023, arXiv:2205.14756): three maps added at stride 8, then a few residual blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import Network
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, initialize_head

Block = Literal["mbconv", "fused"]


class EfficientViTSeg(Network):
    """EfficientViT's segmentation head, fast enough for street scenes at full resolution.

    Designed for timm's efficientvit_b0 to b3, l1 and l2. Head arguments that are not set default to the values that the authors
    published for Cityscapes with the same encoder, or to those of B1 for any other encoder.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        channels: Number of channels to which the maps at strides 8, 16 and 32 are projected.
        depth: Number of residual blocks after the maps are added.
        block: Type of these blocks. "mbconv" is a depthwise convolution between two 1x1 convolutions, as in B0 to B3; "fused" is
            a 3x3 and a 1x1 convolution, as in L1 and L2.
        expand_ratio: Ratio of channels inside a block to channels outside.
        final_expand: Ratio of channels in the layer before the classifier to ``channels``; 1 omits this layer.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "efficientvit_b1",
        pretrained: bool = True,
        in_channels: int = 3,
        channels: int | None = None,
        depth: int | None = None,
        block: Block | None = None,
        expand_ratio: int | None = None,
        final_expand: int | None = None,
    ) -> None:
        if block not in (None, *_BLOCKS):
            raise InputError(f"block must be 'mbconv' or 'fused', found {block!r}")
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, body)
        published = next((head for name, head in _PUBLISHED.items() if encoder.startswith(name)), _Head(64, 3))
        width = channels or published.channels
        inside = width * (expand_ratio or published.expand_ratio)
        before_classifier = width * (final_expand or published.final_expand)
        make, activation = _BLOCKS[block or published.block]
        self.levels = body.levels_from(8)
        self.inputs = nn.ModuleList(_conv_norm(body.channels[level], width) for level in self.levels)
        self.blocks = nn.ModuleList(make(width, inside) for _ in range(published.depth if depth is None else depth))
        widen = before_classifier != width
        self.expand = nn.Sequential(*_conv_norm(width, before_classifier), activation()) if widen else nn.Identity()
        initialize_head(self.inputs, self.blocks, self.expand)
        self.classifier = classifier(before_classifier, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 8."""
        finest = features[self.levels[0]].shape[-2:]  # (H/8, W/8)
        levels = zip(self.levels, self.inputs, strict=True)
        maps = torch.stack([bicubic(conv(features[level]), finest) for level, conv in levels]).sum(dim=0)
        maps = maps.to(
            self.classifier.weight.dtype
        )  # single precision under autocast too, half in a half-precision network
        for block in self.blocks:
            maps = maps + block(maps)
        logits: Tensor = self.classifier(self.expand(maps))
        return logits


@dataclass(frozen=True)
class _Head:
    channels: int
    depth: int
    block: Block = "mbconv"
    expand_ratio: int = 4
    final_expand: int = 4


_PUBLISHED = {
    "efficientvit_b0": _Head(32, 1),
    "efficientvit_b1": _Head(64, 3),
    "efficientvit_b2": _Head(96, 3),
    "efficientvit_b3": _Head(128, 3),
    "efficientvit_l1": _Head(256, 3, "fused", 1, 1),
    "efficientvit_l2": _Head(256, 5, "fused", 1, 1),
}


def _mbconv(channels: int, inside: int) -> nn.Sequential:
    return nn.Sequential(
        *_conv_norm(channels, inside),
        nn.Hardswish(),
        *_conv_norm(inside, inside, kernel=3, groups=inside),
        nn.Hardswish(),
        *_conv_norm(inside, channels),
    )


def _fused_mbconv(channels: int, inside: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(channels, inside, kernel=3), _gelu(), *_conv_norm(inside, channels))


def _gelu() -> nn.GELU:
    return nn.GELU(approximate="tanh")


_BLOCKS: dict[str, tuple[Callable[[int, int], nn.Module], Callable[[], nn.Module]]] = {
    "mbconv": (_mbconv, nn.Hardswish),
    "fused": (_fused_mbconv, _gelu),
}


def _conv_norm(in_channels: int, out_channels: int, *, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def bicubic(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (N, C, h, w) bicubically to (N, C, *size).

    Computed in single precision or better, because bicubic weights overshoot, which is visible in half precision.
    """
    maps = maps if maps.dtype == torch.float64 else maps.float()
    if maps.shape[-2:] == torch.Size(size):
        return maps
    if maps.is_cuda and torch.are_deterministic_algorithms_enabled():
        return bicubic_by_matrices(maps, size)  # the kernel's gradient is not deterministic
    return F.interpolate(maps, size=tuple(size), mode="bicubic", align_corners=False)


def bicubic_by_matrices(maps: Tensor, size: Sequence[int]) -> Tensor:
    """``bicubic`` as one matrix product per axis."""
    with torch.autocast(maps.device.type, enabled=False):
        along = [_bicubic_weights(new, old, maps) for new, old in zip(size, maps.shape[-2:], strict=True)]
        return along[0] @ maps @ along[1].T


def _bicubic_weights(new: int, old: int, like: Tensor) -> Tensor:
    """(new, old) interpolation weights of the old values for each new value."""
    identity = torch.eye(old, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(identity, size=(new, old), mode="bicubic", align_corners=False)[0, 0]
