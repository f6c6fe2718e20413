"""PNGs of a submission: written with one channel of 8 bits, and examined without trust in what they say."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from imageseg.images import MAX_PIXELS as MAX_IMAGE_PIXELS
from imageseg.images import image_size

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


def size_of(path: Path) -> tuple[int, int]:
    """(height, width) of a picture or prediction, upright.

    ``image_size`` asks Pillow for a PNG's EXIF tag, for which it decodes all pixels: 50 ms for a street of 2048 x 1024,
    where hopping from chunk to chunk takes 0.1 ms. Only a PNG with such a tag is left to it.

    Raises:
        InputError: no such file, or no picture.
    """
    try:
        return _plain_png_size(path) or image_size(path)
    except OSError:
        return image_size(path)  # words the error


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


def _plain_png_size(path: Path) -> tuple[int, int] | None:
    """From the header of a whole PNG without EXIF tag; None for anything else."""
    with path.open("rb") as file:
        start = file.read(len(_SIGNATURE) + 8 + _HEADER.size)
        if not start.startswith(_SIGNATURE) or start[12:16] != b"IHDR" or len(start) < 26:
            return None
        width, height = struct.unpack_from(">II", start, 16)
        if width * height > MAX_IMAGE_PIXELS:
            return None
        file.seek(len(_SIGNATURE))
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"eXIf":
                return None
            if kind == b"IEND":
                return height, width
            file.seek(length + 4, io.SEEK_CUR)
    return None


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
