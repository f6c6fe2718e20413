"""Facts about one pair of image and mask files, collected in a worker process and judged later by the faults."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from imageseg.checking.mask_pixels import Color, PixelFacts, flatness, pixel_facts, rgb_array_to_ints
from imageseg.checking.perceptual_hash import PerceptualHash, perceptual_hash
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import MAX_PIXELS

MaskReader = Callable[[Path], npt.NDArray[Any]]
"""A dataset's ``read_stored``: path to (H, W) ids or (H, W, 3) colors."""

_ORIENTATION_TAG = 0x0112
_SWAPPED = {5, 6, 7, 8}  # orientations that swap height and width
_TO_UPRIGHT = {  # orientation -> the operation that makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DRAFT_SIZE = 64  # pixels, for JPEG's reduced decoding


class Header(NamedTuple):
    """What the header of a file declares, before any pixel is decoded."""

    bytes: int
    format: str = ""
    """Pillow's name of the format, such as "PNG"; empty if unknown."""
    mode: str = ""
    """Pillow's pixel mode; "16-bit RGB" for a 16-bit color PNG, which Pillow reports as RGB."""
    width: int = 0
    height: int = 0
    orientation: int = 1
    """EXIF orientation, 1 to 8, where 1 is upright. It is not read for masks."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as stored in the file."""
        return self.height, self.width

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) of the upright image, as ``read_image`` returns it."""
        return (self.width, self.height) if self.orientation in _SWAPPED else self.size

    @property
    def oversized(self) -> bool:
        """Whether the file has more pixels than ``read_image`` and ``read_mask`` accept."""
        return self.width * self.height > MAX_PIXELS


class ImageFacts(NamedTuple):
    """An image file."""

    header: Header
    error: str = ""
    """Why the file cannot be read; empty if it can."""
    digest: bytes = b""
    """Hash of the file's bytes."""
    perceptual_hash: PerceptualHash | None = None
    flat: float = 0.0
    """Share of pixels whose 3 x 3 neighborhood holds one gray value: near 1 in masks and drawings."""
    gray_levels: int = 256
    """Number of different gray values."""
    maximum: int = 65535
    """Largest value of a 16-bit image."""


class MaskFacts(NamedTuple):
    """A mask file, as the dataset's own reader decodes it."""

    header: Header
    error: str = ""
    """Why the dataset cannot read the file; empty if it can."""
    decodes: bool = True
    """Whether the file is an undamaged image, even if the dataset cannot read it as a mask."""
    size: tuple[int, int] = (0, 0)
    """(height, width) as stored."""
    colored: bool = False
    """Whether the stored values are RGB colors, each as one integer."""
    pixels: PixelFacts = PixelFacts((), 0, 1.0, 0.0, frozenset())
    is_instance_bitmask: bool = False
    """Whether the file looks like an instance bitmask of BDD100K: RGBA with small red values and varying alpha."""
    palette: tuple[tuple[int, Color], ...] = ()
    """Stored value and its palette color for every value that occurs; empty if the file has no palette."""


class PairFacts(NamedTuple):
    """An image with its mask."""

    pair: Pair
    image: ImageFacts
    mask: MaskFacts | None


def facts_of(pair: Pair, read_stored: MaskReader) -> PairFacts:
    """Collect the facts about one pair. Damaged files raise nothing: their facts hold the error."""
    return PairFacts(pair, image_facts(pair.image), mask_facts(pair.mask, read_stored) if pair.mask else None)


def image_facts(path: Path) -> ImageFacts:
    """Collect the facts about an image. JPEGs are decoded at reduced size, which still reads the complete file."""
    header, error = _header(path)
    if error or header.oversized:
        return ImageFacts(header, error)
    with _errors_as_text(path) as problem, Image.open(path) as image:
        image.draft("L", (_DRAFT_SIZE, _DRAFT_SIZE))
        image.load()
        if image.mode == "F":
            return ImageFacts(header, "holds floating-point pixels")
        # After decoding, because a PNG may store its EXIF data at the end and reading it would decode all pixels first.
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        header = header._replace(orientation=orientation if orientation in _TO_UPRIGHT else 1)
        deep = np.asarray(image) if image.mode.startswith("I") else None
        gray = _upright_gray(image, header.orientation)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").digest()[:16]
        return ImageFacts(
            header,
            digest=digest,
            perceptual_hash=perceptual_hash(gray),
            flat=flatness(np.asarray(gray)),
            gray_levels=sum(count > 0 for count in gray.histogram()),
            maximum=int(deep.max()) if deep is not None and deep.size else 65535,
        )
    return ImageFacts(header, problem[0])


def mask_facts(path: Path, read_stored: MaskReader) -> MaskFacts:
    """Collect the facts about a mask; if the dataset cannot read the file, those that any image reader would see."""
    header, error = _header(path)
    if error or header.oversized:
        return MaskFacts(header, error, decodes=not error)
    with _errors_as_text(path) as problem:
        stored = read_stored(path)
        facts = MaskFacts(header, size=stored.shape[:2], colored=stored.ndim == 3, pixels=pixel_facts(stored))
        return facts._replace(palette=_palette(path, [value.value for value in facts.pixels.values]))
    facts = MaskFacts(header, problem[0], decodes=False, size=header.size)
    with _errors_as_text(path), Image.open(path) as image:
        image.load()
        facts = facts._replace(decodes=True)
        if image.mode == "RGBA":
            facts = facts._replace(is_instance_bitmask=_is_instance_bitmask(np.asarray(image)))
        if image.mode != "F":
            facts = facts._replace(pixels=pixel_facts(np.asarray(image.convert("RGB"))), colored=True)
    return facts


def _header(path: Path) -> tuple[Header, str]:
    """Return the header, and what is wrong with it. Pillow's pixel limit is lifted, or it would not report the size."""
    header = Header(path.stat().st_size if path.is_file() else 0)
    with _errors_as_text(path) as problem:
        if path.is_dir():
            raise InputError("is a folder, not an image")
        if path.is_file() and header.bytes == 0:
            raise InputError("has no bytes")
        with _no_pixel_limit(), Image.open(path) as image:
            mode = "16-bit RGB" if _hides_sixteen_bits(image) else image.mode
            return Header(header.bytes, image.format or "", mode, image.width, image.height), ""
    return header, problem[0]


@contextlib.contextmanager
def _errors_as_text(path: Path) -> Iterator[list[str]]:
    """Turn whatever a decoder raises into one line of text, which stands in the yielded list after the block."""
    problem = [""]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield problem
    except InputError as error:
        problem[0] = error.line().removeprefix(f"{path}: ")
    except FileNotFoundError:
        problem[0] = "no such file"
    except PermissionError:
        problem[0] = "cannot be read (permission denied)"
    except UnidentifiedImageError:
        problem[0] = "is not an image in a known format"
    # Damaged files make decoders raise any exception; one such file must not end the scan of the others.
    except Exception as error:
        problem[0] = f"cannot be read as an image ({' '.join(str(error).split()) or type(error).__name__})"


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _hides_sixteen_bits(image: Image.Image) -> bool:
    """Whether Pillow will drop the lower 8 of 16 bits per channel, as it does for color PNGs."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    return image.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in tiles)


def _upright_gray(image: Image.Image, orientation: int) -> Image.Image:
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    gray = image.convert("L")
    return gray.transpose(_TO_UPRIGHT[orientation]) if orientation in _TO_UPRIGHT else gray


def _palette(path: Path, values: Iterable[int]) -> tuple[tuple[int, Color], ...]:
    """Return the palette colors of these values; empty if the file has no palette."""
    with Image.open(path) as image:
        if image.mode != "P" or image.palette is None:
            return ()
        # The raw palette of a PNG needs no decoding; Pillow's getpalette would decode all pixels first.
        raw = image.palette.rawmode == "RGB"
        flat = bytes(image.palette.palette if raw else image.getpalette() or ())
    colors = list(zip(flat[::3], flat[1::3], flat[2::3], strict=False))
    return tuple((value, colors[value]) for value in values if value < len(colors))


def _is_instance_bitmask(channels: npt.NDArray[np.uint8]) -> bool:
    """Whether RGBA channels are a bitmask of BDD100K: red is a category up to 40, blue and alpha an instance number."""
    red, alpha = channels[..., 0], channels[..., 3]
    return bool(
        red.max(initial=0) <= 40 and (alpha != 255).any() and len(np.unique(rgb_array_to_ints(channels))) <= 4096
    )
