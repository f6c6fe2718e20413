"""Masks as PNG files, quickly: long runs of one value need no search for repeats."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_GREY, _PALETTE = 0, 3
_MEMORY = 3  # of 1 to 9


def encode_mask(values: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """A PNG of one byte per pixel that holds ``values`` as they are.

    Deflate looks only for runs of one byte (zlib's ``Z_RLE``), which is what a mask is made of, and keeps little memory,
    which would have to be cleared for every file: about a quarter of the time of Pillow's default, for files of the same
    size (docs/reference/mask-making.md).

    Args:
        values: (H, W) uint8.
        palette: (256, 3) uint8 colours of the values; without it the picture is grey.
    """
    height, width = values.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0: none
    rows[:, 1:] = values
    deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY, zlib.Z_RLE)
    pixels = deflate.compress(rows.data) + deflate.flush()
    kind = _GREY if palette is None else _PALETTE
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)),
            b"" if palette is None else _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"IDAT", pixels),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))
