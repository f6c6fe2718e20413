"""Facts about files: from headers and pixels; whatever a file contains, nothing is raised."""

import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from injected_faults import drawing, huge_png, jpeg_bytes, photo
from PIL import Image

from imageseg.checking.file_facts import Header, facts_of, image_facts, mask_facts
from imageseg.datasets.pairs import Pair
from imageseg.errors import InputError
from imageseg.images import read_image, read_mask


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_sizes_are_those_that_read_image_gives(orientation: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(photo(1)).save(path, exif=exif(orientation))
    facts = image_facts(path)
    assert facts.header.size == (48, 64)
    assert facts.header.upright == read_image(path).shape[:2]
    assert facts.header.orientation == orientation


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_the_thumbnail_is_upright(suffix: str, tmp_path: Path) -> None:
    hashes = []
    upright = Image.fromarray(photo(2, (64, 64)))
    turns = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
    for orientation, turn in turns.items():
        path = tmp_path / f"{orientation}{suffix}"
        upright.transpose(turn).save(path, exif=exif(orientation), quality=100)
        hashes.append(image_facts(path).perceptual_hash)
    upright.save(tmp_path / f"upright{suffix}", quality=100)
    expected = image_facts(tmp_path / f"upright{suffix}").perceptual_hash
    assert expected is not None
    for found in hashes:
        assert found is not None
        difference = np.frombuffer(found.thumbnail, np.uint8).astype(int) - np.frombuffer(expected.thumbnail, np.uint8)
        assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "has no bytes"),
        (b"<html>", "is not an image in a known format"),
        (jpeg_bytes(photo(1))[:900], "cannot be read as an image (image file is truncated"),
        (None, "no such file"),
    ],
)
def test_an_unreadable_file_has_an_error_of_one_line(content: bytes | None, error: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    for facts in (image_facts(path), mask_facts(path, read_mask)):
        assert facts.error.startswith(error)
        assert str(path) not in facts.error
        assert "\n" not in facts.error


def test_a_folder_is_not_an_image(tmp_path: Path) -> None:
    assert image_facts(tmp_path).error == "is a folder, not an image"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_no_damage_raises(suffix: str, tmp_path: Path) -> None:
    """Cut and overwritten files: an error exactly if ``read_image`` raises one."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(photo(4)).save(path)
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(content[: draw.randrange(len(content)) + 1])
        for _ in range(draw.randrange(6)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(bytes(damaged))
        facts = facts_of(Pair(path, path, "a"), read_mask)
        assert facts.mask is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's of damaged TIFFs
            if facts.image.error:
                with pytest.raises(InputError):
                    read_image(path)
            else:
                read_image(path)


def test_only_the_header_of_a_huge_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(huge_png())
    facts = image_facts(path)
    assert facts.header == Header(
        path.stat().st_size, "PNG", "RGB" if facts.header.mode == "RGB" else "L", 60_000, 60_000
    )
    assert facts.header.oversized
    assert not facts.error
    assert not mask_facts(path, read_mask).error
    assert Image.MAX_IMAGE_PIXELS is not None  # lifted for the header only


def test_a_mask_is_read_by_its_dataset(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(drawing(1)).save(path)
    facts = mask_facts(path, lambda mask: read_mask(mask) + 1)
    assert {value.value for value in facts.pixels.values} == {0, 1, 2, 3}  # 255 + 1 wraps around
    assert facts.size == (48, 64)


def test_an_image_without_a_mask_has_facts_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_bytes(photo(1)))
    assert facts_of(Pair(path, None, "a"), read_mask).mask is None


def test_sixteen_bit_color_is_recognized(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photo(1).astype(np.uint16) * 257)
    assert image_facts(path).header.mode == "16-bit RGB"


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_the_palette_contains_the_values_that_occur(suffix: str, tmp_path: Path) -> None:
    stored = np.zeros((8, 9), np.uint8)
    stored[2:5] = 7
    image = Image.fromarray(stored)
    image.putpalette([value % 256 for value in range(3, 771)])  # value v has (3v + 3, 3v + 4, 3v + 5)
    path = tmp_path / f"mask{suffix}"
    image.save(path)
    facts = mask_facts(path, read_mask)
    assert facts.palette == ((0, (3, 4, 5)), (7, (24, 25, 26)))
    Image.fromarray(stored).save(path)
    assert mask_facts(path, read_mask).palette == ()


def test_a_palette_too_short_for_a_value_leaves_it_out(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes([0] * 6 + [7] * 2) for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", bytes([9, 9, 9, 8, 8, 8])), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path = tmp_path / "mask.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    facts = mask_facts(path, read_mask)
    assert (facts.error, [value.value for value in facts.pixels.values]) == ("", [0, 7])
    assert facts.palette == ((0, (9, 9, 9)),)
