"""Plain facts about one pair of files, collected in a worker process; judging them is the business of the faults."""

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

from imageseg.checking.mask_pixels import PixelFacts, flatness, packed, pixel_facts
from imageseg.checking.perceptual_hash import Fingerprint, fingerprint
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import MAX_PIXELS

Reader = Callable[[Path], npt.NDArray[Any]]

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = {5, 6, 7, 8}  # orientations that swap height and width
_UPRIGHT = {  # what turns a picture of each orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DRAFT = 64


class Header(NamedTuple):
    """What a file says of itself before its pixels are decoded."""

    bytes: int
    format: str = ""
    """Pillow's name, such as "PNG"; empty where no known one."""
    mode: str = ""
    """Pillow's pixel mode, "16-bit RGB" for a colour PNG of 16 bits, which Pillow hides."""
    width: int = 0
    height: int = 0
    orientation: int = 1
    """The EXIF tag, 1 to 8; 1 is upright. Masks have none that counts."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as they are in the file."""
        return self.height, self.width

    @property
    def upright(self) -> tuple[int, int]:
        """(height, width) as ``read_image`` gives them."""
        return (self.width, self.height) if self.orientation in _TURNED else self.size

    @property
    def oversized(self) -> bool:
        """More pixels than ``read_image`` and ``read_mask`` take."""
        return self.width * self.height > MAX_PIXELS


class PictureFacts(NamedTuple):
    """A picture."""

    header: Header
    error: str = ""
    """Why it cannot be read; empty where it can."""
    digest: bytes = b""
    """Of the file's bytes."""
    fingerprint: Fingerprint | None = None
    flat: float = 0.0
    """The share of pixels whose surroundings are of one value: near 1 in masks and drawings."""
    shades: int = 256
    """How many different grey values it has."""
    brightest: int = 65535
    """The largest value of a 16-bit picture."""


class MaskFacts(NamedTuple):
    """A mask, as the dataset's own reader gives it."""

    header: Header
    error: str = ""
    """Why the dataset cannot read it; empty where it can."""
    decodes: bool = True
    """Whether the file is a sound picture, whatever the dataset makes of it."""
    size: tuple[int, int] = (0, 0)
    """(height, width) as stored."""
    colored: bool = False
    """Whether the stored values are RGB colours, packed into one number each."""
    pixels: PixelFacts = PixelFacts((), 0, 1.0, 0.0, frozenset())
    bitmask: bool = False
    """RGBA whose alpha varies and whose red channel is small: the shape of BDD100K's instance bitmasks."""
    palette: tuple[tuple[int, tuple[int, int, int]], ...] = ()
    """Of a palette file, the colours of the values that occur in it."""


class PairFacts(NamedTuple):
    """A picture with its mask."""

    pair: Pair
    picture: PictureFacts
    mask: MaskFacts | None


def facts_of(pair: Pair, read_stored: Reader) -> PairFacts:
    """All that is to be known of one pair; never raises for what a file holds."""
    return PairFacts(pair, picture_facts(pair.image), mask_facts(pair.mask, read_stored) if pair.mask else None)


def picture_facts(path: Path) -> PictureFacts:
    """A picture's facts. JPEGs are decoded small, which goes through the whole file all the same."""
    header, error = _header(path)
    if error or header.oversized:
        return PictureFacts(header, error)
    with _explaining(path) as problem, Image.open(path) as picture:
        picture.draft("L", (_DRAFT, _DRAFT))
        picture.load()
        if picture.mode == "F":
            return PictureFacts(header, "holds floating-point pixels")
        # Asked for after decoding: of a PNG it may stand at the end, so that asking decodes all of it.
        orientation = picture.getexif().get(_ORIENTATION, 1)
        header = header._replace(orientation=orientation if orientation in _UPRIGHT else 1)
        deep = np.asarray(picture) if picture.mode.startswith("I") else None
        grey = _grey(picture, header.orientation)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").digest()[:16]
        return PictureFacts(
            header,
            digest=digest,
            fingerprint=fingerprint(grey),
            flat=flatness(np.asarray(grey)),
            shades=sum(count > 0 for count in grey.histogram()),
            brightest=int(deep.max()) if deep is not None and deep.size else 65535,
        )
    return PictureFacts(header, problem[0])


def mask_facts(path: Path, read_stored: Reader) -> MaskFacts:
    """A mask's facts; where the dataset cannot read the file, those that any reader would see."""
    header, error = _header(path)
    if error or header.oversized:
        return MaskFacts(header, error, decodes=not error)
    with _explaining(path) as problem:
        stored = read_stored(path)
        facts = MaskFacts(header, size=stored.shape[:2], colored=stored.ndim == 3, pixels=pixel_facts(stored))
        return facts._replace(palette=_palette(path, [value.value for value in facts.pixels.values]))
    facts = MaskFacts(header, problem[0], decodes=False, size=header.size)
    with _explaining(path), Image.open(path) as picture:
        picture.load()
        facts = facts._replace(decodes=True)
        if picture.mode == "RGBA":
            facts = facts._replace(bitmask=_is_bitmask(np.asarray(picture)))
        if picture.mode != "F":
            facts = facts._replace(pixels=pixel_facts(np.asarray(picture.convert("RGB"))), colored=True)
    return facts


def _header(path: Path) -> tuple[Header, str]:
    """The header, and what was wrong with it. Pillow's own limit is lifted: it would not even say the size."""
    header = Header(path.stat().st_size if path.is_file() else 0)
    with _explaining(path) as problem:
        if path.is_dir():
            raise InputError("is a folder, not a picture")
        if path.is_file() and header.bytes == 0:
            raise InputError("has no bytes")
        with _no_pixel_limit(), Image.open(path) as picture:
            mode = "16-bit RGB" if _hides_sixteen_bits(picture) else picture.mode
            return Header(header.bytes, picture.format or "", mode, picture.width, picture.height), ""
    return header, problem[0]


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[list[str]]:
    """Turns whatever a file's decoder raises into one line; the block's own return is not touched."""
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
        problem[0] = "may not be read (permission denied)"
    except UnidentifiedImageError:
        problem[0] = "is not a picture in a known format"
    # Damaged files make decoders raise anything; one of them must not end the scan of the others.
    except Exception as error:
        problem[0] = f"cannot be read as a picture ({' '.join(str(error).split()) or type(error).__name__})"


@contextlib.contextmanager
def _no_pixel_limit() -> Iterator[None]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _hides_sixteen_bits(picture: Image.Image) -> bool:
    """Whether Pillow will drop the lower eight of sixteen bits per channel, as it does for colour PNGs."""
    tiles = picture.tile if isinstance(picture, ImageFile.ImageFile) else []
    return picture.mode in ("RGB", "RGBA") and any("16" in str(tile[3]) for tile in tiles)


def _grey(picture: Image.Image, orientation: int) -> Image.Image:
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.int64).clip(0, 65535)
        picture = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    grey = picture.convert("L")
    return grey.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else grey


def _palette(path: Path, values: Iterable[int]) -> tuple[tuple[int, tuple[int, int, int]], ...]:
    """The colours that a palette file gives to these values; none where it is another kind of file."""
    with Image.open(path) as picture:
        if picture.mode != "P" or picture.palette is None:
            return ()
        # As PNG has it, which needs no decoding; Pillow's getpalette would decode all pixels first.
        raw = picture.palette.rawmode == "RGB"
        flat = bytes(picture.palette.palette if raw else picture.getpalette() or ())
    colors = list(zip(flat[::3], flat[1::3], flat[2::3], strict=False))
    return tuple((value, colors[value]) for value in values if value < len(colors))


def _is_bitmask(channels: npt.NDArray[np.uint8]) -> bool:
    """BDD100K's bitmasks: red is a category of at most 40, blue and alpha an instance number."""
    alpha = channels[..., 3]
    return bool(
        channels[..., 0].max(initial=0) <= 40 and (alpha != 255).any() and len(np.unique(packed(channels))) <= 4096
    )
