"""FPN for segmentation (Kirillov et al. 2019, arXiv:1901.02446), on feature pyramids (Lin et al. 2017, arXiv:1612.03144)."""

from __future__ import annotations

import itertools
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
    """Semantic FPN: a pyramid of one width from the encoder's maps, each level brought to stride 4, their sum classified.

    The pyramid is that of Lin et al., section 3; the branches to stride 4 are those of Kirillov et al., section 3.1.

    Args:
        num_classes: the number of logits per pixel.
        encoder: timm's name of the encoder.
        pretrained: start from the encoder's published weights.
        in_channels: of the pictures.
        pyramid_channels: of every level of the pyramid.
        segmentation_channels: of every branch to stride 4.
        smooth: a 3x3 convolution on each level after merging, as in the paper and Detectron2; without it the network is
            that of segmentation_models_pytorch.
        norm: after the branches' convolutions, "gn" (32 groups, the paper's) or "bn" (faster, for large batches).
        merge: of the branches, "add" (the paper's) or "cat".
        dropout: of whole channels, before the classifier.
        align_corners: of every bilinear step; checkpoints of segmentation_models_pytorch need True.
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
        super().__init__(num_classes, mean=body.mean, std=body.std, pretrained=pretrained, align_corners=align_corners)
        self.encoder = body
        self.merge = merge
        strides = sorted({stride for stride in body.strides if stride >= 4})
        self._levels = [body.deepest(stride) for stride in strides]
        self.laterals = nn.ModuleList(nn.Conv2d(body.channels[level], pyramid_channels, 1) for level in self._levels)
        self.smoothing = nn.ModuleList(
            nn.Conv2d(pyramid_channels, pyramid_channels, 3, padding=1) if smooth else nn.Identity() for _ in strides
        )
        # One convolution per doubling on the way to stride 4, and one where there is none.
        self.branches = nn.ModuleList()
        for doublings in range(len(strides)):
            widths = [pyramid_channels] + [segmentation_channels] * max(1, doublings)
            convs = itertools.pairwise(widths)
            self.branches.append(nn.ModuleList(_conv(before, after, norm=norm) for before, after in convs))
        self.dropout = nn.Dropout2d(dropout)
        for part in (self.laterals, self.smoothing, self.branches):
            initialize_head(part)
        merged = segmentation_channels * (len(strides) if merge == "cat" else 1)
        self.classifier = classifier(merged, num_classes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits at stride 4."""
        features = self.encoder(images)
        pyramid = self._pyramid([features[level] for level in self._levels])
        sizes = [maps.shape[-2:] for maps in pyramid]
        reached = []
        for level, branch in reversed(list(enumerate(self.branches))):
            maps = pyramid[level]
            for step, conv in enumerate(branch.children(), start=1):
                maps = resize(conv(maps), sizes[max(level - step, 0)], align_corners=self.align_corners)
            reached.append(maps)
        merged = torch.cat(reached, dim=1) if self.merge == "cat" else sum(reached[1:], start=reached[0])
        logits: Tensor = self.classifier(self.dropout(merged))
        return logits

    def _pyramid(self, features: list[Tensor]) -> list[Tensor]:
        """Maps of one width, finest first: each is the encoder's, plus the next coarser one of the pyramid."""
        levels = [lateral(maps) for lateral, maps in zip(self.laterals, features, strict=True)]
        for level in range(len(levels) - 2, -1, -1):
            above = F.interpolate(levels[level + 1], size=levels[level].shape[-2:], mode="nearest")
            levels[level] = levels[level] + above
        return [smooth(maps) for smooth, maps in zip(self.smoothing, levels, strict=True)]


def _conv(in_channels: int, out_channels: int, *, norm: str) -> nn.Sequential:
    normalisation = nn.GroupNorm(_GROUPS, out_channels) if norm == "gn" else nn.BatchNorm2d(out_channels)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), normalisation, nn.ReLU(inplace=True)
    )
