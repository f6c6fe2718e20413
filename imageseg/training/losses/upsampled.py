"""Upsampled: coarse logits interpolated to the size of the image tile by tile, with the gradient of the interpolation.

Logits at full size are the largest array of a training step: 319 MB for 8 images of 512 x 1024 and 19 classes, several times
for a loss and its gradient. Here each tile is interpolated, used and discarded while it is in the CPU cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from imageseg.models.base import source_positions
from imageseg.models.row_bands import each_part, ranges

Result = TypeVar("Result")

LOG2_E = 1 / math.log(2)

_TILE = (32, 128)
"""Rows and columns of a tile, chosen so that the interpolation matrices are small but efficient to multiply."""
_BAND = 2**19
"""Number of full-size logits per band and thread, as in `classes_at`: 2 MB, which fits into the cache of a CPU core."""
_GPU_TILE = (256, 256)
_GPU_BAND = 2**26
"""The same on a GPU, where each operation should be large."""


class Band(Protocol):
    """A part of one image at full size: G groups of R rows and S columns."""

    def logits(self) -> Tensor:
        """Return (G, R, C, S) logits times ``LOG2_E``, so that ``exp2`` of them is ``exp`` of the logits; may be modified."""

    def cut(self, maps: Tensor) -> Tensor:
        """Return the (G, R, 1, S) part of (N, H', W') maps from ``Upsampled.padded``, as a view."""

    def give_back(self, gradient: Tensor) -> None:
        """Propagate the (G, R, C, S) gradient with respect to the full-size logits back to the coarse logits."""

    def settle(self) -> None:
        """Add the propagated gradient to the sum; called in the order of the bands."""


class Upsampled:
    """(N, C, h, w) logits, interpolated bilinearly to ``size`` on demand: the same values and gradients as ``resize``.

    Bilinear interpolation is linear and separable: a tile is computed by two small matrix products, and its gradient by the
    transposed products. The computation is in float32, or in float64 for float64 logits. Infinite logits are not supported.

    Args:
        logits: (N, C, h, w) logits at any resolution, including full size.
        size: (H, W) to interpolate to.
        align_corners: Same as for ``resize``.

    Attributes:
        gradient: (N, C, h, w) sum of the gradients that bands have propagated back.
    """

    def __init__(self, logits: Tensor, size: Sequence[int], *, align_corners: bool = False) -> None:
        self.coarse = logits
        self.size = (int(size[0]), int(size[1]))
        self.dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self.gradient = torch.zeros_like(logits, dtype=self.dtype)
        number, classes, *source = logits.shape
        on_cpu = logits.device.type == "cpu"
        limit, tiles = (_BAND, _TILE) if on_cpu else (_GPU_BAND, _GPU_TILE)
        self._same_size = tuple(source) == self.size
        if self._same_size:
            self._padding = (0, 0)
            step = max(1, limit // (classes * self.size[1]))
            self._bands: list[Band] = [
                _Rows(self, n, top, bottom) for n in range(number) for top, bottom in ranges(self.size[0], step)
            ]
            return
        rows, columns = (
            _Axis.of(*sizes, tile=tile, align_corners=align_corners, like=self.gradient)
            for *sizes, tile in zip(self.size, source, tiles, strict=True)
        )
        self._padding = (rows.tiles * rows.tile - self.size[0], columns.tiles * columns.tile - self.size[1])
        groups = ranges(columns.tiles, max(1, limit // (classes * rows.tile * columns.tile)))
        self._bands = [
            _Tiles(self, n, rows, row, columns, left, right)
            for n in range(number)
            for row in range(rows.tiles)
            for left, right in groups
        ]

    def padded(self, maps: Tensor, value: float) -> Tensor:
        """Pad (N, H, W) maps with ``value`` to the size that ``Band.cut`` requires."""
        rows, columns = self._padding
        return F.pad(maps, (0, columns, 0, rows), value=value) if rows or columns else maps

    def unpadded(self, maps: Tensor) -> Tensor:
        """Remove the padding of ``padded``."""
        return maps[:, : self.size[0], : self.size[1]]

    def each(self, work: Callable[[Band], Result]) -> Iterator[Result]:
        """Yield the results of ``work`` for each band, in order; bands are processed in parallel on a CPU.

        Sums of gradients are bit-identical for any number of threads.
        """
        for band, result in zip(self._bands, each_part(work, self._bands, self.coarse.device), strict=True):
            band.settle()
            yield result


class _Axis(NamedTuple):
    """Interpolation along one axis in tiles of equal size; the part of the last tile beyond the end is zero."""

    tile: int
    tiles: int
    width: int
    """Maximum number of source values per tile."""
    starts: list[int]
    """Index of the first source value of each tile."""
    matrices: Tensor
    """(tiles, width, tile) interpolation matrices: source values times the matrix give a tile."""

    @classmethod
    def of(cls, size: int, source: int, *, tile: int, align_corners: bool, like: Tensor) -> _Axis:
        tile = -(-size // -(-size // tile))  # tiles of similar size
        tile = -(-tile // 8) * 8  # full SIMD vectors
        count = -(-size // tile)
        places = source_positions(source, size, align_corners=align_corners, dtype=torch.float64)
        above = places.floor().long().clamp(max=source - 1)
        below = (above + 1).clamp(max=source - 1)
        first, last = above[::tile], below[torch.arange(tile - 1, count * tile, tile).clamp(max=size - 1)]
        width = int((last - first).max()) + 1
        first = first.clamp(max=source - width)
        share = places - above
        index = torch.arange(size)
        which, position = index // tile, index % tile
        matrices = torch.zeros(count, width, tile, dtype=torch.float64)
        matrices[which, above - first[which], position] = 1 - share
        matrices.index_put_((which, below - first[which], position), share, accumulate=True)
        return cls(tile, count, width, first.tolist(), matrices.to(like.device, like.dtype))


class _Tiles:
    """Adjacent tiles of one row of tiles, interpolated from the coarse logits."""

    def __init__(
        self, parent: Upsampled, image: int, rows: _Axis, row: int, columns: _Axis, left: int, right: int
    ) -> None:
        self._parent = parent
        self._image = image
        self._rows, self._row = rows, row
        self._columns, self._part = columns, slice(left, right)
        self._strip: Tensor | None = None

    def logits(self) -> Tensor:
        down, across = self._rows, self._columns
        starts = across.starts[self._part]
        coarse = self._parent.coarse[self._image, :, self._from_row : self._from_row + down.width].transpose(0, 1)
        windows = torch.stack([coarse[..., start : start + across.width] for start in starts])  # (G, k, C, s)
        windows = windows.to(self._parent.dtype).mul_(LOG2_E)
        classes = windows.shape[2]
        wide = torch.bmm(windows.flatten(1, 2), across.matrices[self._part])  # (G, k * C, S)
        taps = down.matrices[self._row].T.expand(len(starts), -1, -1)  # (G, R, k)
        full = torch.bmm(taps, wide.view(len(starts), down.width, -1))
        return full.view(len(starts), down.tile, classes, across.tile)

    def cut(self, maps: Tensor) -> Tensor:
        rows, columns = self._rows.tile, self._columns.tile
        band = maps[self._image, self._row * rows : (self._row + 1) * rows]
        return band.view(rows, -1, columns)[:, self._part].transpose(0, 1).unsqueeze(2)

    def give_back(self, gradient: Tensor) -> None:
        down, across = self._rows, self._columns
        groups, _, classes, _ = gradient.shape
        taps = down.matrices[self._row].expand(groups, -1, -1)  # (G, k, R)
        wide = torch.bmm(taps, gradient.flatten(2))  # (G, k, C * S)
        wide = wide.view(groups, down.width * classes, across.tile)
        windows = torch.bmm(wide, across.matrices[self._part].transpose(1, 2))
        windows = windows.view(groups, down.width, classes, across.width)
        starts = across.starts[self._part]
        strip = windows.new_zeros(down.width, classes, starts[-1] - starts[0] + across.width)
        for window, start in zip(windows, starts, strict=True):
            strip[..., start - starts[0] : start - starts[0] + across.width] += window
        self._strip = strip

    def settle(self) -> None:
        # Adjacent tiles share coarse logits: they are summed here in a fixed order, not by the threads.
        if self._strip is None:
            return
        left = self._columns.starts[self._part.start]
        right = left + self._strip.shape[2]
        gradient = self._parent.gradient[self._image, :, self._from_row : self._from_row + self._rows.width]
        gradient[..., left:right] += self._strip.transpose(0, 1)
        self._strip = None

    @property
    def _from_row(self) -> int:
        return self._rows.starts[self._row]


class _Rows:
    """Rows of logits that are at full size already."""

    def __init__(self, parent: Upsampled, image: int, top: int, bottom: int) -> None:
        self._parent = parent
        self._image = image
        self._rows = slice(top, bottom)

    def logits(self) -> Tensor:
        rows = self._parent.coarse[self._image, :, self._rows].transpose(0, 1).unsqueeze(0)  # (1, R, C, W)
        band = torch.empty(rows.shape, dtype=self._parent.dtype, device=rows.device)
        return torch.mul(rows, LOG2_E, out=band) if rows.dtype == band.dtype else band.copy_(rows).mul_(LOG2_E)

    def cut(self, maps: Tensor) -> Tensor:
        return maps[self._image, self._rows].unsqueeze(0).unsqueeze(2)

    def give_back(self, gradient: Tensor) -> None:
        self._parent.gradient[self._image, :, self._rows] += gradient[0].transpose(0, 1)

    def settle(self) -> None:
        pass  # no two bands share a row
