"""Coarse logits at the picture's size, a few tiles at a time, and the way back of their gradient.

Logits at the full size are the largest array of a training step: 319 MB for 8 pictures of 512 x 1024 in 19 classes, several
times over for a loss and its gradient. Here a tile is interpolated, used, and forgotten while the cache still holds it.
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
"""Rows and columns of a tile: few enough coarse ones under it for small matrices, and enough for quick ones."""
_BAND = 2**19
"""Full-size logits that a thread holds at once, as in `classes_at`: 2 MB, which a processor's cache can hold."""
_TILE_ON_A_CARD = (256, 256)
_BAND_ON_A_CARD = 2**26
"""Likewise on a graphics card, where each operation must be large."""


class Band(Protocol):
    """A part of one picture at the full size: G groups of R rows and S columns."""

    def logits(self) -> Tensor:
        """(G, R, C, S) logits, multiplied by ``LOG2_E``: 2 to their power is what e is to the plain ones'. May be changed."""

    def cut(self, maps: Tensor) -> Tensor:
        """The (G, R, 1, S) part of (N, H', W') maps that ``Upsampled.padded`` made; a view."""

    def give_back(self, gradient: Tensor) -> None:
        """Takes the (G, R, C, S) gradient of the full-size plain logits towards the coarse ones."""

    def settle(self) -> None:
        """Adds it up; called in the order of the bands."""


class Upsampled:
    """(N, C, h, w) logits as if interpolated bilinearly to ``size``: the same values and gradients as ``resize``.

    Interpolation is linear and separable: columns and rows of a tile are two small matrix products, and the gradient takes
    the same two transposed. Everything is in float32, or in float64 where the logits are. Infinite logits are not supported.

    Args:
        logits: on any grid, also the picture's own.
        size: H and W.
        align_corners: as for ``resize``.

    Attributes:
        gradient: (N, C, h, w), what bands have given back so far.
    """

    def __init__(self, logits: Tensor, size: Sequence[int], *, align_corners: bool = False) -> None:
        self.coarse = logits
        self.size = (int(size[0]), int(size[1]))
        self.dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        self.gradient = torch.zeros_like(logits, dtype=self.dtype)
        number, classes, *source = logits.shape
        on_processor = logits.device.type == "cpu"
        limit, tiles = (_BAND, _TILE) if on_processor else (_BAND_ON_A_CARD, _TILE_ON_A_CARD)
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
        """(N, H, W) maps to the size that ``Band.cut`` needs, with ``value`` beyond the picture."""
        rows, columns = self._padding
        return F.pad(maps, (0, columns, 0, rows), value=value) if rows or columns else maps

    def unpadded(self, maps: Tensor) -> Tensor:
        """The pictures' part of padded maps."""
        return maps[:, : self.size[0], : self.size[1]]

    def each(self, work: Callable[[Band], Result]) -> Iterator[Result]:
        """What ``work`` makes of each band, in their order; several bands at once where there are threads.

        The sums of gradients are the same bits for any number of threads.
        """
        for band, result in zip(self._bands, each_part(work, self._bands, self.coarse.device), strict=True):
            band.settle()
            yield result


class _Axis(NamedTuple):
    """One axis in tiles of equal size; the last may reach beyond its end, where all is zero."""

    tile: int
    tiles: int
    width: int
    """Source values that a tile needs, at most."""
    starts: list[int]
    """The first of them, for each tile."""
    matrices: Tensor
    """(tiles, width, tile): source values times this are a tile."""

    @classmethod
    def of(cls, size: int, source: int, *, tile: int, align_corners: bool, like: Tensor) -> _Axis:
        tile = -(-size // -(-size // tile))  # no tile much smaller than others
        tile = -(-tile // 8) * 8  # whole vectors
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
    """Tiles side by side, interpolated from the coarse logits under them."""

    def __init__(
        self, whole: Upsampled, picture: int, rows: _Axis, row: int, columns: _Axis, left: int, right: int
    ) -> None:
        self._whole = whole
        self._picture = picture
        self._rows, self._row = rows, row
        self._columns, self._part = columns, slice(left, right)
        self._strip: Tensor | None = None

    def logits(self) -> Tensor:
        down, across = self._rows, self._columns
        starts = across.starts[self._part]
        coarse = self._whole.coarse[self._picture, :, self._from_row : self._from_row + down.width].transpose(0, 1)
        windows = torch.stack([coarse[..., start : start + across.width] for start in starts])  # (G, k, C, s)
        windows = windows.to(self._whole.dtype).mul_(LOG2_E)
        classes = windows.shape[2]
        wide = torch.bmm(windows.flatten(1, 2), across.matrices[self._part])  # (G, k * C, S)
        taps = down.matrices[self._row].T.expand(len(starts), -1, -1)  # (G, R, k)
        full = torch.bmm(taps, wide.view(len(starts), down.width, -1))
        return full.view(len(starts), down.tile, classes, across.tile)

    def cut(self, maps: Tensor) -> Tensor:
        rows, columns = self._rows.tile, self._columns.tile
        band = maps[self._picture, self._row * rows : (self._row + 1) * rows]
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
        # Neighbours share coarse logits: their sums are made here, in one order, and not by the threads.
        if self._strip is None:
            return
        left = self._columns.starts[self._part.start]
        right = left + self._strip.shape[2]
        gradient = self._whole.gradient[self._picture, :, self._from_row : self._from_row + self._rows.width]
        gradient[..., left:right] += self._strip.transpose(0, 1)
        self._strip = None

    @property
    def _from_row(self) -> int:
        return self._rows.starts[self._row]


class _Rows:
    """Whole rows of logits that have the picture's size already."""

    def __init__(self, whole: Upsampled, picture: int, top: int, bottom: int) -> None:
        self._whole = whole
        self._picture = picture
        self._rows = slice(top, bottom)

    def logits(self) -> Tensor:
        rows = self._whole.coarse[self._picture, :, self._rows].transpose(0, 1).unsqueeze(0)  # (1, R, C, W)
        band = torch.empty(rows.shape, dtype=self._whole.dtype, device=rows.device)
        return torch.mul(rows, LOG2_E, out=band) if rows.dtype == band.dtype else band.copy_(rows).mul_(LOG2_E)

    def cut(self, maps: Tensor) -> Tensor:
        return maps[self._picture, self._rows].unsqueeze(0).unsqueeze(2)

    def give_back(self, gradient: Tensor) -> None:
        self._whole.gradient[self._picture, :, self._rows] += gradient[0].transpose(0, 1)

    def settle(self) -> None:
        pass  # no two bands share a row
