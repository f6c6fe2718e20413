"""Pyramid pooling (Zhao et al. 2017, arXiv:1612.01105, section 3.2): means over grids of a map, next to the map itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imageseg.models.base import resize
from imageseg.models.layers.blocks import PooledBatchNorm, conv_norm_relu, global_mean


class PyramidPooling(nn.Module):
    """Concatenates the map with its means over several grids, each after a 1x1 convolution and resized to the map.

    Args:
        in_channels: Number of channels of the map.
        channels: Number of channels of each grid's convolution.
        bins: Number of cells of each grid along height and width.
        align_corners: Whether the resizing aligns corner pixels.

    Attributes:
        out_channels: Number of channels of the result.
    """

    def __init__(
        self, in_channels: int, channels: int, *, bins: Sequence[int] = (1, 2, 3, 6), align_corners: bool = False
    ) -> None:
        if not bins or min(bins) < 1 or channels < 1:
            raise ValueError(
                f"bins must be one or more numbers of at least 1, no more than the channels, found {tuple(bins)}"
            )
        super().__init__()
        self.bins = tuple(bins)
        self.align_corners = align_corners
        self.out_channels = in_channels + channels * len(self.bins)
        self.branches = nn.ModuleList(conv_norm_relu(in_channels, channels, kernel=1) for _ in self.bins)
        for count, branch in zip(self.bins, self.branches, strict=True):
            if count == 1:
                branch[1] = PooledBatchNorm(channels)  # type: ignore[operator]

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w), for any h and w."""
        size = features.shape[-2:]
        grids = [branch(grid_means(features, count)) for count, branch in zip(self.bins, self.branches, strict=True)]
        resized = [resize(grid, size, align_corners=self.align_corners) for grid in grids]
        return torch.cat([features, *resized], dim=1)


def grid_means(features: Tensor, count: int) -> Tensor:
    """(N, C, h, w) to the means over ``count`` x ``count`` cells, which overlap if count does not divide h or w.

    The cells are those of torch's adaptive pooling, whose gradient is not deterministic on CUDA and whose export requires fixed
    sizes. A cell is a rectangle, so the mean over its rows can be computed before the mean over its columns.
    """
    if count == 1:
        return global_mean(features)
    rows = [features[:, :, first:last].mean(dim=2) for first, last in _cells(features.shape[2], count)]
    bands = torch.stack(rows, dim=2)  # (N, C, count, w)
    columns = [bands[..., first:last].mean(dim=3) for first, last in _cells(features.shape[3], count)]
    return torch.stack(columns, dim=3)


def _cells(size: int, count: int) -> list[tuple[int, int]]:
    return [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]
