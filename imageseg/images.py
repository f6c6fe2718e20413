"""Pictures and masks on disk: reading with one rule per pixel mode and one error type, writing whole files."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from imageseg.atomic_files import replacing
from imageseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs

_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")

_PNG_BEGINS = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_REDUCED = (8, 4, 2)
_SHORT = 0.85
"""Up to this share of a PNG's rows, Pillow is faster that stops below them than OpenCV that decodes all."""

_FRAMES, _SCAN, _EXIF, _PROFILE, _ADOBE = (0xC0, 0xC1, 0xC2), 0xDA, 0xE1, 0xE2, 0xEE
_HARMLESS = {0xC4, 0xDB, 0xDD, 0xE0, 0xEF, 0xFE, *range(0xE3, 0xEE)}
"""Tables, the JFIF header, other programs' notes, comments."""
_IN_SCANS = np.isin(np.arange(256), [0x00, 0xFF, *range(0xD0, 0xDA), 0xC4, 0xDA, 0xDB, 0xDD, 0xFE])
"""What may follow a byte of ones there."""
_PLAIN_CHUNKS = (b"IDAT", b"IEND", b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD")


def is_image(path: Path) -> bool:
    """Whether a file's name is that of a picture; hidden files are none, such as macOS leaves beside pictures."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8 RGB, upright as its EXIF tag says.

    Grey becomes three equal channels, 16 bits are scaled to 8, alpha is dropped, CMYK is converted.

    Raises:
        InputError: the file is missing, no picture, damaged, too large to be one, or holds floating-point values.
    """
    return OpenImage(path).read()


class OpenImage:
    """A picture of which any part can be read; its pixels are decoded when they are asked for.

    The pixels are those of ``read_image`` to the byte. OpenCV decodes the plain files, those whose header promises that
    it gives the same bytes as Pillow, and Pillow all others.

    Args:
        path: its file, which is read whole here.

    Raises:
        InputError: as ``read_image``, here for what the header tells, else when reading.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with _input_errors(path):
            self._content = Path(path).read_bytes()
        self._plain = _plain_jpeg(self._content) or _plain_png(self._content)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width), upright, from the header."""
        return self._plain.size if self._plain is not None else image_size(self._path)

    def read(self, box: tuple[int, int, int, int] | None = None, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """(h, w, 3) uint8 RGB of a box.

        Args:
            box: top, left, bottom, right in pixels, half open, inside the picture; unset, all of it.
            shrink: how many times smaller the result will be made. Above 2, a JPEG may be decoded at a half, a quarter or
                an eighth of its size, which the box must fit in whole pixels; h x w is then that share of the box, rounded up.
        """
        if self._plain is not None:
            height, width = self._plain.size
            top, left, bottom, right = box or (0, 0, height, width)
            factor = self._factor(top, left, bottom, right, shrink=shrink)
            whole = self._read_plain(self._plain, bottom, factor)
            if whole is not None:
                return whole[top // factor : -(-bottom // factor), left // factor : -(-right // factor)]
        image = self._read_any(self._content)
        return image if box is None else image[box[0] : box[2], box[1] : box[3]]

    def _factor(self, top: int, left: int, bottom: int, right: int, *, shrink: float) -> int:
        """By how much the picture may be smaller as it is decoded."""
        assert self._plain is not None
        height, width = self._plain.size
        for factor in _REDUCED if self._plain.is_jpeg else ():
            ends = (bottom % factor == 0 or bottom == height) and (right % factor == 0 or right == width)
            if factor < shrink and top % factor == left % factor == 0 and ends:
                return factor
        return 1

    def _read_plain(self, plain: _Plain, bottom: int, factor: int) -> npt.NDArray[np.uint8] | None:
        """At least the rows above ``bottom``; None where OpenCV finds a fault, of which Pillow shall tell."""
        height, width = plain.size
        if not plain.is_jpeg and bottom <= _SHORT * height:
            return self._read_any(_shortened(self._content, bottom))
        import cv2  # a quarter of a second, for which nobody waits who reads no picture

        flags = cv2.IMREAD_COLOR_RGB if factor == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}")
        try:
            image = cv2.imdecode(np.frombuffer(self._content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
        except cv2.error:
            return None
        expected = (-(-height // factor), -(-width // factor), 3)
        if image is None or image.shape != expected or image.dtype != np.uint8:
            return None
        return np.asarray(image if factor == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB))

    def _read_any(self, content: bytes) -> npt.NDArray[np.uint8]:
        with _opened(self._path, content=content) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in _SIXTEEN_BIT_MODES:
                grey = np.asarray(upright).astype(np.int64).clip(0, 65535)
                return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
            if upright.mode == "F":
                raise InputError(f"{self._path}: holds floating-point pixels; save it with 8 or 16 bits per channel")
            return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def read_mask(path: str | Path, *, rows: int | None = None) -> npt.NDArray[Any]:
    """A mask as the file stores it: (H, W) integers for modes L, P, 1 and 16-bit grey; (H, W, 3) uint8 for RGB.

    Palette files give their indices, never their colours. No EXIF rotation: masks have none.

    Args:
        path: its file.
        rows: how many of them are wanted, from the top; there may be more. A PNG is not decoded below them, and a fault
            there is not found.

    Raises:
        InputError: the file is missing, no picture, damaged, lossy, or of a mode that holds no labels.
    """
    with _opened(path, content=None if rows is None else _down_to(path, rows)) as picture:
        if picture.format == "JPEG":
            raise InputError(f"{path}: a JPEG cannot keep labels exactly; save masks as PNG")
        if picture.mode in ("L", "P", "RGB", *_SIXTEEN_BIT_MODES):
            return np.array(picture)
        if picture.mode == "1":
            return np.array(picture).astype(np.uint8)
        raise InputError(
            f"{path}: pixel mode {picture.mode} holds no labels; a mask has one channel of 8 or 16 bits, a palette, or RGB colours"
        )


def read_bitmask(path: str | Path) -> npt.NDArray[np.uint8]:
    """A mask whose four channels are data, alpha among them: (H, W, 4) uint8, nothing blended or dropped.

    Raises:
        InputError: as ``read_mask``, or the file has other channels.
    """
    with _opened(path) as picture:
        if picture.mode != "RGBA":
            raise InputError(f"{path}: pixel mode {picture.mode} is no bitmask; its four channels are RGBA")
        return np.array(picture)


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of a picture, from its header, upright as ``read_image`` gives it."""
    with _opened(path, decode=False) as picture:
        # Asked for a PNG's orientation, Pillow decodes all its pixels, because the tag may follow them.
        tagged = picture.format != "PNG" or _png_has_exif(Path(path))
        turned = tagged and picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def write_image(path: str | Path, image: npt.NDArray[np.uint8]) -> None:
    """Writes (H, W) grey or (H, W, 3) RGB uint8 in the format of the suffix, whole or not at all."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary)


def write_mask(path: str | Path, values: npt.NDArray[Any], palette: npt.NDArray[np.uint8]) -> None:
    """Writes (H, W) uint8 values as a palette PNG: the pixels are the values, the (256, 3) palette colours them."""
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise ValueError(f"{path}: a palette PNG holds 0 to 255, found {values.min()} to {values.max()}")
    picture = Image.fromarray(values.astype(np.uint8))
    picture.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def encode_mask(values: npt.NDArray[np.uint8], palette: npt.NDArray[np.uint8] | None = None) -> bytes:
    """Encode a mask as a PNG with one byte per pixel.

    Compression only looks for runs of one value (zlib's ``Z_RLE``), which is what masks consist of; this takes a third of the
    time of Pillow's default (docs/reference/mask-making.md).

    Args:
        values: Mask of shape (H, W), uint8, stored as it is.
        palette: Colors of the values, shape (256, 3), uint8. Without it the file is grayscale.
    """
    image = Image.fromarray(values)
    if palette is not None:
        image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _png_has_exif(path: Path) -> bool:
    """Whether any chunk is one, found by hopping from chunk to chunk."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"eXIf":
                return True
            file.seek(length + 4, os.SEEK_CUR)
    return False


class _Plain(NamedTuple):
    """What the header of a plain file tells: 8 bits, RGB or grey, upright, without anything that readers take differently."""

    size: tuple[int, int]
    is_jpeg: bool


def _plain_jpeg(content: bytes) -> _Plain | None:
    """None: no JPEG, or one that Pillow shall read. Markers as in ITU-T T.81, table B.1."""
    if content[:2] != b"\xff\xd8" or content[-2:] != b"\xff\xd9":  # cut off, perhaps
        return None
    size, position = None, 2
    while position + 4 <= len(content):
        mark, marker, length = struct.unpack_from(">BBH", content, position)
        start, end = position + 4, position + 2 + length
        if mark != 0xFF or end > len(content):
            return None
        if marker in _FRAMES:
            if length < 8 or size is not None:
                return None
            bits, height, width, components = struct.unpack_from(">BHHB", content, start)
            if bits != 8 or components not in (1, 3) or not 0 < height * width <= MAX_PIXELS:
                return None
            size = (height, width)
        elif marker == _SCAN:
            if size is None or _has_stray_marker(content, end):
                return None
            return _Plain(size, is_jpeg=True)
        elif marker not in _HARMLESS and not _is_harmless(marker, content[start:end]):
            return None
        position = end
    return None


def _has_stray_marker(content: bytes, start: int) -> bool:
    """Whether the scans of a JPEG hold a marker that belongs elsewhere: OpenCV goes on there, Pillow refuses the file."""
    values = np.frombuffer(content, np.uint8, offset=start)
    return not bool(_IN_SCANS[values[np.flatnonzero(values[:-1] == 0xFF) + 1]].all())


def _is_harmless(marker: int, segment: bytes) -> bool:
    """Whether the pixels are the same without this segment of a JPEG."""
    if marker == _ADOBE:  # without a transform, the channels are RGB or CMYK
        return len(segment) == 12 and segment[11] == 1
    if marker == _PROFILE:  # otherwise one of several pictures in the file
        return segment.startswith(b"ICC_PROFILE\0")
    if marker != _EXIF:
        return False
    if not segment.startswith(b"Exif\0\0"):  # XMP
        return b"rientation" not in segment
    exif = Image.Exif()
    try:
        exif.load(segment)
        return bool(exif.get(0x0112, 1) == 1)
    except (OSError, SyntaxError, ValueError, struct.error):
        return False


def _plain_png(content: bytes) -> _Plain | None:
    """None: no PNG, a damaged one, or one that Pillow shall read. Every chunk is looked at, none is decoded."""
    if content[:16] != _PNG_BEGINS or len(content) < 33:
        return None
    width, height, bits, color, compression, filters, interlace = struct.unpack_from(">IIBBBBB", content, 16)
    if (bits, compression, filters, interlace) != (8, 0, 0, 0) or color not in (0, 2):
        return None
    if not 0 < height * width <= MAX_PIXELS:
        return None
    position, kind = 33, b"IHDR"
    while position + 12 <= len(content) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, position)
        is_text = kind == b"tEXt" and not content.startswith(b"Raw profile", position + 8)  # may be EXIF
        if kind not in _PLAIN_CHUNKS and not is_text:
            return None
        position += 12 + length
    return _Plain((height, width), is_jpeg=False) if kind == b"IEND" and position <= len(content) else None


def _down_to(path: str | Path, rows: int) -> bytes | None:
    """A PNG that ends after so many rows; None where the file is none, or interlaced, or not much longer, or faulty."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None  # which opening it will tell of
    if content[:16] != _PNG_BEGINS or len(content) < 33 or content[28] != 0:
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return _shortened(content, rows) if rows <= _SHORT * height and width * height <= MAX_PIXELS else None


def _shortened(content: bytes, rows: int) -> bytes:
    """A PNG that ends after so many rows, as its header tells: the rows below are not inflated."""
    header = content[12:20] + struct.pack(">I", rows) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@contextlib.contextmanager
def _opened(path: str | Path, *, decode: bool = True, content: bytes | None = None) -> Iterator[Image.Image]:
    """The picture, open for the block; whatever Pillow raises for it, in the block too, becomes an InputError."""
    source = path if content is None else io.BytesIO(content)
    with _input_errors(path), _without_size_warning(), Image.open(source) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise InputError(
                f"{path}: {picture.width} x {picture.height} pixels are more than the limit of {MAX_PIXELS}"
            )
        if decode:
            picture.load()
        yield picture


@contextlib.contextmanager
def _input_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not a picture") from None
    except PermissionError:
        raise InputError(f"{path}: may not be read (permission denied)") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not a picture in a known format") from None
    # Pillow's decoders and its EXIF reader raise these four for damaged files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture ({error})") from error


@contextlib.contextmanager
def _without_size_warning() -> Iterator[None]:
    """Pillow warns of pictures from half of our limit on; ours is the one that counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
