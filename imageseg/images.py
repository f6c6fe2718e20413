"""Images and masks on disk: reading with one rule per pixel mode and one error type, and atomic writing."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from imageseg.atomic_files import replacing
from imageseg.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs

_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")

_ORIENTATION = 0x0112  # EXIF tag
_REDUCTIONS = (8, 4, 2)
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION_CHUNKS = {b"eXIf", b"Raw profile type ", b"XML:com.adobe.xmp"}
"""PNG chunks, and first 17 bytes of text chunks, from which Pillow reads an orientation."""


def is_image(path: Path) -> bool:
    """Whether a file has an image suffix. Hidden files do not count: macOS leaves some next to images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB, rotated upright by its EXIF orientation.

    Grayscale becomes three equal channels, 16 bits are scaled to 8, alpha is dropped, CMYK is converted.

    Raises:
        InputError: The file is missing, not an image, damaged, too large, or contains floating-point values.
    """
    return OpenImage(path).read()


class OpenImage:
    """An image of which any part can be read. Pixels are decoded when they are requested.

    The pixels are those of ``read_image``, byte for byte, except where a reduced size was requested.

    Args:
        path: Image file; it is read completely here.

    Raises:
        InputError: As ``read_image``; a missing file is reported here, other faults when reading.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with _input_errors(path):
            self._content = Path(path).read_bytes()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) from the header, upright."""
        return self._header.size

    @cached_property
    def _header(self) -> _Header:
        return _read_header(self._path, io.BytesIO(self._content))

    def read(self, box: tuple[int, int, int, int] | None = None, *, shrink: float = 1.0) -> npt.NDArray[np.uint8]:
        """Read a box of the image as (h, w, 3) uint8 RGB.

        Args:
            box: Top, left, bottom and right edge in pixels, half open, inside the image. If not set, the complete image.
            shrink: Factor by which the caller will downscale the result. Above 2, a JPEG may be decoded at a half, a quarter
                or an eighth of its size if the box fits whole pixels; h x w is then that share of the box, rounded up.
        """
        header = self._header
        height, width = header.size
        top, left, bottom, right = box or (0, 0, height, width)
        factor = _reduction(header, (top, left, bottom, right), shrink)
        content = self._content if header.is_rotated else _upper_rows(self._content, bottom)
        with _opened(self._path, io.BytesIO(content)) as image:
            if factor > 1:
                image.draft(None, (width // factor, height // factor))
            image.load()
            upright = ImageOps.exif_transpose(image) if header.is_rotated else image
            # Cropped before the conversion to an array, which copies all pixels.
            region = (left // factor, top // factor, -(-right // factor), -(-bottom // factor))
            return _rgb(upright if box is None else upright.crop(region), self._path)


def read_mask(path: str | Path, *, rows: int | None = None) -> npt.NDArray[Any]:
    """Read a mask as the file stores it: (H, W) integers for modes L, P, 1 and 16-bit gray; (H, W, 3) uint8 for RGB.

    Palette files give their indices, never their colors. EXIF orientation is ignored: masks have none.

    Args:
        path: Mask file.
        rows: Number of rows needed, from the top; more may be returned. A PNG is not decoded below them, and damage there is
            not detected.

    Raises:
        InputError: The file is missing, not an image, damaged, lossy, or of a mode that cannot store labels.
    """
    with _input_errors(path):
        content = None if rows is None else _upper_rows(Path(path).read_bytes(), rows)
    with _opened(path, None if content is None else io.BytesIO(content)) as image:
        image.load()
        if image.format == "JPEG":
            raise InputError(f"{path}: a JPEG cannot keep labels exactly; save masks as PNG")
        if image.mode in ("L", "P", "RGB", *_SIXTEEN_BIT_MODES):
            return np.array(image)
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        raise InputError(
            f"{path}: pixel mode {image.mode} cannot store labels; a mask has one channel of 8 or 16 bits, a palette, or RGB colors"
        )


def read_bitmask(path: str | Path) -> npt.NDArray[np.uint8]:
    """Read a mask whose four channels, including alpha, are data: (H, W, 4) uint8, nothing blended or dropped.

    Raises:
        InputError: As ``read_mask``, or the file has other channels.
    """
    with _opened(path) as image:
        image.load()
        if image.mode != "RGBA":
            raise InputError(f"{path}: pixel mode {image.mode} is not a bitmask, which has the four channels RGBA")
        return np.array(image)


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image from its header, upright as ``read_image`` returns it."""
    with _input_errors(path), Path(path).open("rb") as file:
        return _read_header(path, file).size


def write_image(path: str | Path, image: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) gray or (H, W, 3) RGB uint8 atomically, in the format of the suffix."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary)


def write_mask(path: str | Path, values: npt.NDArray[Any], palette: npt.NDArray[np.uint8]) -> None:
    """Write (H, W) values from 0 to 255 atomically as a palette PNG: pixels are the values, shown in the (256, 3) palette."""
    if values.size and not 0 <= values.min() <= values.max() <= 255:
        raise ValueError(f"{path}: a palette PNG stores 0 to 255, found {values.min()} to {values.max()}")
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(palette.tobytes())
    with replacing(path) as temporary:
        image.save(temporary, format="PNG")


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


class _Header(NamedTuple):
    size: tuple[int, int]
    """(height, width), upright."""
    is_rotated: bool
    """Whether the stored pixels must be rotated or mirrored to be upright."""
    can_reduce: bool
    """Whether the decoder can deliver a reduced size: a JPEG in RGB or gray, stored upright."""


def _read_header(path: str | Path, file: IO[bytes]) -> _Header:
    # Asked for a PNG's orientation, Pillow decodes all pixels, because the tag may follow them.
    is_upright = file.read(16) == _PNG_START and _ORIENTATION_CHUNKS.isdisjoint(_png_chunks(file))
    file.seek(0)
    with _opened(path, file) as image:
        orientation = 1 if is_upright else image.getexif().get(_ORIENTATION, 1)
        size = (image.width, image.height) if orientation in (5, 6, 7, 8) else (image.height, image.width)
        is_rotated = orientation in range(2, 9)
        can_reduce = image.format == "JPEG" and image.mode in ("L", "RGB") and not is_rotated
        return _Header(size, is_rotated, can_reduce)


def _reduction(header: _Header, box: tuple[int, int, int, int], shrink: float) -> int:
    """The largest factor below ``shrink`` by which the image can be reduced while it is decoded."""
    (height, width), (top, left, bottom, right) = header.size, box
    for factor in _REDUCTIONS if header.can_reduce and shrink > min(_REDUCTIONS) else ():
        fits = (bottom % factor == 0 or bottom == height) and (right % factor == 0 or right == width)
        if factor < shrink and top % factor == left % factor == 0 and fits and factor <= min(height, width):
            return factor
    return 1


def _rgb(image: Image.Image, path: str | Path) -> npt.NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BIT_MODES:
        gray = np.asarray(image).astype(np.int64).clip(0, 65535)
        return np.repeat(((gray + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError(f"{path}: contains floating-point pixels; save it with 8 or 16 bits per channel")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _png_chunks(file: IO[bytes]) -> set[bytes]:
    """Names of the chunks of a PNG, found without reading their content; text chunks also by the start of their keyword."""
    found: set[bytes] = set()
    file.seek(8)
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        found.add(kind)
        end = file.tell() + length + 4
        if kind in _TEXT_CHUNKS:
            found.add(file.read(17))
        file.seek(end)
    return found


def _upper_rows(content: bytes, rows: int) -> bytes:
    """Shorten a PNG to its upper rows, so that those below are not inflated; return any other file as it is.

    Only the height in the header changes. Decoding a crop of a Cityscapes image takes about a quarter longer without this.
    """
    if (
        content[:16] != _PNG_START or len(content) < 33 or content[28] != 0
    ):  # interlaced files store rows in another order
        return content
    width, height = struct.unpack_from(">II", content, 16)
    if rows >= height or width * height > MAX_PIXELS:
        return content
    chunks = _png_chunks(io.BytesIO(content))
    if b"IEND" not in chunks or b"acTL" in chunks:  # truncated, or animated
        return content
    header = content[12:20] + struct.pack(">I", rows) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@contextlib.contextmanager
def _opened(path: str | Path, file: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Open an image for the block, not yet decoded. Whatever Pillow raises, also in the block, becomes an InputError."""
    with _input_errors(path), _without_size_warning(), Image.open(path if file is None else file) as image:
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{path}: {image.width} x {image.height} pixels exceed the limit of {MAX_PIXELS}")
        yield image


@contextlib.contextmanager
def _input_errors(path: str | Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not an image") from None
    except PermissionError:
        raise InputError(f"{path}: cannot be read (permission denied)") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: is not an image in a known format") from None
    # Pillow's decoders and its EXIF reader raise these four for damaged files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error})") from error


@contextlib.contextmanager
def _without_size_warning() -> Iterator[None]:
    """Silence Pillow's warning, which starts at half of the limit that counts here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
