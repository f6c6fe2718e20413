"""PairFile: a decoded image and its class indices in one memory-mapped file. No torch, so that worker processes start fast."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import sys
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imageseg.atomic_files import write_unflushed
from imageseg.errors import InputError
from imageseg.pipeline.crop import Box

# Magic number with version, height, width, checksum of the pixels; followed by a checksum of these
_HEADER = struct.Struct("<8sIII")
_MAGIC = b"imgseg-1"
_START = 64
"""Bytes before the pixels: (H, W, 3) RGB, then (H, W) class indices, rows from the top."""
_POPULATE_READ = 22
"""Linux 5.14 and later: maps pages in one call, and fails where reading them would kill the process (SIGBUS)."""


class DamagedPairError(Exception):
    """The file is missing, truncated or not a packed pair."""


class PairFile:
    """An image and its mask that need no decoding: reading a window costs the bytes of its rows only.

    The arrays that it returns are read-only views into the file's pages; they stay valid after the file is deleted.

    Args:
        path: Path of the packed file, which is open only while it is mapped.

    Raises:
        DamagedPairError: The file is missing, truncated, or has another header.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # an empty file cannot be mapped
            raise DamagedPairError(f"{path}: {error}") from error
        self.path = path
        header = self._map[:_START]
        magic, height, width, checksum = _HEADER.unpack_from(header.ljust(_START, b"\0"))
        if magic != _MAGIC or header[_HEADER.size :] != _with_checksum(header[: _HEADER.size]):
            raise DamagedPairError(f"{path}: is not a packed pair")
        self.size = (int(height), int(width))
        self._checksum = int(checksum)
        if len(self._map) != bytes_of(self.size):
            raise DamagedPairError(f"{path}: has {len(self._map)} bytes instead of {bytes_of(self.size)}")

    def mask(self, box: Box) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left) uint8 class indices."""
        height, width = self.size
        self._fetch(3 * height * width + box.top * width, (box.bottom - box.top) * width)
        return self._mask[box.top : box.bottom, box.left : box.right]

    def image(self, box: Box, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(bottom - top, right - left, 3) uint8 RGB; ``shrink`` has no effect, because nothing is decoded."""
        width = self.size[1]
        self._fetch(3 * box.top * width, 3 * (box.bottom - box.top) * width)
        return self._image[box.top : box.bottom, box.left : box.right]

    def is_intact(self) -> bool:
        """Whether the pixels match their checksum."""
        self._fetch(0, len(self._map) - _START)
        return zlib.crc32(memoryview(self._map)[_START:]) == self._checksum

    @cached_property
    def _image(self) -> npt.NDArray[np.uint8]:
        height, width = self.size
        return np.frombuffer(self._map, np.uint8, 3 * height * width, _START).reshape(height, width, 3)

    @cached_property
    def _mask(self) -> npt.NDArray[np.uint8]:
        height, width = self.size
        return np.frombuffer(self._map, np.uint8, height * width, _START + 3 * height * width).reshape(height, width)

    def _fetch(self, start: int, count: int) -> None:
        """Read these bytes of the pixels ahead and map them, on Linux: two calls instead of a page fault per few pages."""
        if sys.platform != "linux":
            return
        first = (_START + start) // mmap.PAGESIZE * mmap.PAGESIZE
        span = (first, _START + start + count - first)
        try:
            self._map.madvise(mmap.MADV_WILLNEED, *span)
            self._map.madvise(_POPULATE_READ, *span)
        except OSError as error:
            if error.errno != errno.EINVAL:  # an older Linux
                raise InputError(
                    f"{self.path}: cannot be read ({error.strerror}); delete it, then it is packed again"
                ) from error


def write_pair(path: Path, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
    """Write an (H, W, 3) image and (H, W) mask atomically; ``atomic_files.flush`` flushes the file to the disk."""
    pixels = np.ascontiguousarray(image).tobytes() + np.ascontiguousarray(mask).tobytes()
    header = _HEADER.pack(_MAGIC, *mask.shape, zlib.crc32(pixels))
    write_unflushed(os.fspath(path), header + _with_checksum(header) + pixels)


def bytes_of(size: tuple[int, int]) -> int:
    """Size of the packed file of an (H, W) image in bytes."""
    return _START + 4 * size[0] * size[1]


def _with_checksum(header: bytes) -> bytes:
    return zlib.crc32(header).to_bytes(4, "little").ljust(_START - _HEADER.size, b"\0")
