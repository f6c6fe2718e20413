"""PNGs of a submission: written with one channel of 8 bits, and examined without trust in what they say."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_PIXELS = 1 << 24
"""Of one prediction whose picture is not at hand: eight times the largest test picture of the four servers."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBB")
_MODES = {2: "RGB", 4: "grey with alpha", 6: "RGB with alpha"}
_GREY, _PALETTE = 0, 3


@dataclass(frozen=True)
class Examined:
    """What is wrong with a PNG, as a kind of fault and a detail; else its values.

    Attributes:
        fault: a kind of ``submission_faults``, "" if there is none.
        detail: what was found instead.
        values: the pixel values that occur, in order.
        palette: the colours of a palette file, three bytes each; empty for grey.
    """

    fault: str = ""
    detail: str = ""
    values: tuple[int, ...] = ()
    palette: bytes = b""


def encoded(values: npt.NDArray[np.uint8], palette: bytes = b"") -> bytes:
    """(H, W) values as a PNG of mode L, or of mode P with the given 256 colours; the same bytes for the same values."""
    picture = Image.fromarray(values)
    if palette:
        picture.putpalette(palette)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=6)
    return file.getvalue()


def occurring(values: npt.NDArray[np.uint8]) -> tuple[int, ...]:
    """The values that occur, in order."""
    counts = Image.fromarray(values).histogram()  # ten times as fast as np.unique
    return tuple(value for value, count in enumerate(counts) if count)


def examined(data: bytes, size: tuple[int, int] | None) -> Examined:
    """Looks at a prediction: first the header, and only where that is as it should be, the pixels.

    Args:
        data: the whole file.
        size: (height, width) that it must have; None where it is not known.
    """
    if not data.startswith(_SIGNATURE):
        return Examined("png", _kind_of(data))
    chunks = _chunks(data)
    if chunks is None or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return Examined("damaged")
    width, height, depth, color = _HEADER.unpack(chunks[0][1][: _HEADER.size])
    if color in _MODES:
        return Examined("mode", _MODES[color])
    if depth != 8:
        return Examined("depth", f"{depth} bit{'s' * (depth > 1)}")
    if size is not None and (height, width) != size:
        return Examined("size", f"{width} x {height} instead of {size[1]} x {size[0]}")
    if height * width > MAX_PIXELS:
        return Examined("pixels", f"{width} x {height}")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            picture.load()
            counts = picture.histogram()
    # What Pillow's PNG decoder raises for damaged files.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        zlib.error,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        return Examined("damaged", " ".join(str(error).split()))
    palette = next((content for kind, content in chunks if kind == b"PLTE"), b"") if color == _PALETTE else b""
    return Examined(values=tuple(value for value, count in enumerate(counts) if count), palette=palette)


def _chunks(data: bytes) -> list[tuple[bytes, bytes]] | None:
    """The chunks up to IEND, or None where a length or a checksum is wrong, which Pillow does not ask of pixels."""
    found: list[tuple[bytes, bytes]] = []
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            return None
        if zlib.crc32(data[place + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return None
        kind = data[place + 4 : place + 8]
        found.append((kind, data[place + 8 : end] if kind in (b"IHDR", b"PLTE") else b""))
        if kind == b"IEND":
            return found
        place = end + 4
    return None


def _kind_of(data: bytes) -> str:
    """What a file is that should be a PNG, where that is easily said."""
    if not data:
        return "empty"
    kinds = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"RIFF": "WebP"}
    return next((name for start, name in kinds.items() if data.startswith(start)), "unknown")
