"""Pictures and masks on disk: reading with one rule per pixel mode and one error type, writing whole files."""

from __future__ import annotations

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from imageseg.errors import InputError
from imageseg.files import replacing

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs

_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def is_picture(path: Path) -> bool:
    """Whether a file's name is that of a picture; hidden files are none, such as macOS leaves beside pictures."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """A picture as (H, W, 3) uint8 RGB, upright as its EXIF tag says.

    Grey becomes three equal channels, 16 bits are scaled to 8, alpha is dropped, CMYK is converted.

    Raises:
        InputError: the file is missing, no picture, damaged, too large to be one, or holds floating-point values.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in _SIXTEEN_BIT_MODES:
            grey = np.asarray(upright).astype(np.int64).clip(0, 65535)
            return np.repeat(((grey + 128) // 257).astype(np.uint8)[:, :, None], 3, axis=2)
        if upright.mode == "F":
            raise InputError(f"{path}: holds floating-point pixels; save it with 8 or 16 bits per channel")
        return np.array(upright.convert("RGB"))


def read_mask(path: str | Path) -> npt.NDArray[Any]:
    """A mask as the file stores it: (H, W) integers for modes L, P, 1 and 16-bit grey; (H, W, 3) uint8 for RGB.

    Palette files give their indices, never their colours. No EXIF rotation: masks have none.

    Raises:
        InputError: the file is missing, no picture, damaged, lossy, or of a mode that holds no labels.
    """
    with _opened(path) as picture:
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


@contextlib.contextmanager
def _opened(path: str | Path, *, decode: bool = True) -> Iterator[Image.Image]:
    """The picture, open for the block; whatever Pillow raises for it, in the block too, becomes an InputError."""
    try:
        with _without_size_warning(), Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{path}: {picture.width} x {picture.height} pixels are more than the limit of {MAX_PIXELS}"
                )
            if decode:
                picture.load()
            yield picture
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
