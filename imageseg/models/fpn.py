"""FPN for segmentation (Kirillov et al. 2019, arXiv:1901.02446), on feature pyramids (Lin et al. 2017, arXiv:1612.03144)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imageseg.errors import InputError
from imageseg.models.base import Network, resize
from imageseg.models.encoders.timm_encoder import Encoder
from imageseg.models.layers.blocks import classifier, initialize_head

_GROUPS = 32


class FPN(Network):
    """Semantic FPN: a pyramid of maps with equally many channels, each resized to stride 4; a classifier on their sum.

    The pyramid follows Lin et al., section 3; the branches to stride 4 follow Kirillov et al., section 3.1.

    Args:
        num_classes: Number of classes.
        encoder: Name of the timm encoder.
        pretrained: Whether to start from the encoder's published weights.
        in_channels: Number of image channels.
        pyramid_channels: Number of channels of every pyramid level.
        segmentation_channels: Number of channels of every branch to stride 4.
        smooth: Whether a 3x3 convolution follows on each merged level, as in the paper and Detectron2. Without it the network is
            that of segmentation_models_pytorch.
        norm: Normalization in the branches: "gn" (32 groups, as in the paper) or "bn" (faster, for large batches).
        merge: Merging of the branches: "add" (as in the paper) or "cat".
        dropout: Rate at which complete channels are dropped before the classifier.
        align_corners: Whether every bilinear resizing aligns corner pixels. Checkpoints of segmentation_models_pytorch need
            True.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        encoder: str = "resnet50",
        pretrained: bool = True,
        in_channels: int = 3,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        smooth: bool = True,
        norm: Literal["gn", "bn"] = "gn",
        merge: Literal["add", "cat"] = "add",
        dropout: float = 0.1,
        align_corners: bool = False,
    ) -> None:
        for name, value, known in (("norm", norm, ("gn", "bn")), ("merge", merge, ("add", "cat"))):
            if value not in known:
                raise InputError(f"{name} must be '{known[0]}' or '{known[1]}', found {value!r}")
        if norm == "gn" and segmentation_channels % _GROUPS:
            raise InputError(
                f"segmentation_channels must be a multiple of {_GROUPS} with norm 'gn', found {segmentation_channels}"
            )
        body = Encoder(encoder, pretrained=pretrained, in_channels=in_channels)
        super().__init__(num_classes, body, align_corners=align_corners)
        self.merge = merge
        self._levels = body.levels_from(4)
        self.laterals = nn.ModuleList(nn.Conv2d(body.channels[level], pyramid_channels, 1) for level in self._levels)
        self.smoothing = nn.ModuleList(
            nn.Conv2d(pyramid_channels, pyramid_channels, 3, padding=1) if smooth else nn.Identity()
            for _ in self._levels
        )
        # One convolution per doubling on the way to stride 4, and one where there is none.
        self.branches = nn.ModuleList()
        for doublings in range(len(self._levels)):
            widths = [pyramid_channels] + [segmentation_channels] * max(1, doublings)
            convs = itertools.pairwise(widths)
            self.branches.append(nn.ModuleList(_conv(before, after, norm=norm) for before, after in convs))
        self.dropout = nn.Dropout2d(dropout)
        initialize_head(self.laterals, self.smoothing, self.branches)
        merged = segmentation_channels * (len(self._levels) if merge == "cat" else 1)
        self.classifier = classifier(merged, num_classes)

    def decode(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """Logits at stride 4."""
        pyramid = self._pyramid([features[level] for level in self._levels])
        sizes = [maps.shape[-2:] for maps in pyramid]
        at_stride_4 = []
        for level, branch in reversed(list(enumerate(self.branches))):
            maps = pyramid[level]
            for step, conv in enumerate(branch.children(), start=1):
                maps = resize(conv(maps), sizes[max(level - step, 0)], align_corners=self.align_corners)
            at_stride_4.append(maps)
        merged = torch.cat(at_stride_4, dim=1) if self.merge == "cat" else sum(at_stride_4[1:], start=at_stride_4[0])
        logits: Tensor = self.classifier(self.dropout(merged))
        return logits

    def _pyramid(self, features: list[Tensor]) -> list[Tensor]:
        """The pyramid, finest first: each level is the encoder's projected map plus the next coarser level."""
        levels = [lateral(maps) for lateral, maps in zip(self.laterals, features, strict=True)]
        for level in range(len(levels) - 2, -1, -1):
            above = F.interpolate(levels[level + 1], size=levels[level].shape[-2:], mode="nearest")
            levels[level] = levels[level] + above
        return [smooth(maps) for smooth, maps in zip(self.smoothing, levels, strict=True)]


def _conv(in_channels: int, out_channels: int, *, norm: str) -> nn.Sequential:
    normalization = nn.GroupNorm(_GROUPS, out_channels) if norm == "gn" else nn.BatchNorm2d(out_channels)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), normalization, nn.ReLU(inplace=True)
    )
