import gc
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from imageseg.errors import InputError
from imageseg.images import image_size, read_image, read_mask, write_image, write_mask

GREY = np.array([[0, 1, 2], [100, 200, 255]], np.uint8)
COLORS = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[10, 11, 12], [13, 14, 15], [255, 0, 128]]], np.uint8)
PALETTE = [channel for index in range(256) for channel in (255 - index, index, 7)]


def palette_picture():
    picture = Image.fromarray(GREY)
    picture.putpalette(PALETTE)
    return picture


def with_alpha(values):
    alpha = np.full((*values.shape[:2], 1), 9, np.uint8)
    return Image.fromarray(np.concatenate([values.reshape(*values.shape[:2], -1), alpha], axis=2))


def thrice(grey):
    return np.repeat(np.array(grey)[:, :, None], 3, axis=2).tolist()


CMYK = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
DEEP = np.array([[0, 128, 129], [257, 32896, 65535]], np.uint16)

IMAGE_MODES = {  # mode -> picture, its file's suffix, RGB values
    "1": (Image.fromarray(GREY >= 100), ".png", thrice([[0, 0, 0], [255, 255, 255]])),
    "L": (Image.fromarray(GREY), ".png", thrice(GREY)),
    "P": (palette_picture(), ".png", [[[255 - v, v, 7] for v in row] for row in GREY.tolist()]),
    "LA": (with_alpha(GREY), ".png", thrice(GREY)),
    "RGB": (Image.fromarray(COLORS), ".png", COLORS.tolist()),
    "RGBA": (with_alpha(COLORS), ".png", COLORS.tolist()),
    "CMYK": (Image.fromarray(CMYK, "CMYK"), ".tif", [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]),
    "I;16": (Image.fromarray(DEEP), ".png", thrice([[0, 0, 1], [1, 128, 255]])),
    "I;16B": (Image.fromarray(DEEP.astype(">u2")), ".tif", thrice([[0, 0, 1], [1, 128, 255]])),
    "I": (Image.fromarray(np.array([[-5, 257, 70000]], np.int32)), ".tif", thrice([[0, 1, 255]])),
}


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_an_image_of_any_mode_is_rgb(tmp_path, mode):
    picture, suffix, expected = IMAGE_MODES[mode]
    assert picture.mode == mode
    path = tmp_path / f"a{suffix}"
    picture.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    image = read_image(path)
    assert image.tolist() == expected
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image_size(path) == image.shape[:2]


MASK_MODES = {
    "1": (Image.fromarray(GREY >= 100), [[0, 0, 0], [1, 1, 1]]),
    "L": (Image.fromarray(GREY), GREY.tolist()),
    "P": (palette_picture(), GREY.tolist()),
    "RGB": (Image.fromarray(COLORS), COLORS.tolist()),
    "I;16": (Image.fromarray(DEEP), DEEP.tolist()),
}


@pytest.mark.parametrize("mode", MASK_MODES)
def test_a_mask_is_what_the_file_stores(tmp_path, mode):
    picture, expected = MASK_MODES[mode]
    picture.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == mode
    mask = read_mask(tmp_path / "a.png")
    assert mask.tolist() == expected
    assert np.issubdtype(mask.dtype, np.integer)
    assert mask.flags.writeable


def test_a_palette_of_few_colours_gives_indices_too(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 2, 1, 0]], np.uint8))
    picture.putpalette(PALETTE[:12])
    picture.save(tmp_path / "a.png", bits=2)
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 2, 1, 0]]


@pytest.mark.parametrize(
    ("picture", "suffix"),
    [
        (with_alpha(GREY), ".png"),
        (with_alpha(COLORS), ".png"),
        (Image.fromarray(CMYK, "CMYK"), ".tif"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), ".tif"),
    ],
    ids=["LA", "RGBA", "CMYK", "F"],
)
def test_masks_of_other_modes_are_refused(tmp_path, picture, suffix):
    picture.save(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match=rf"a\{suffix}: pixel mode {picture.mode} holds no labels"):
        read_mask(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_lossy_mask_is_refused_whatever_its_suffix(tmp_path, suffix):
    Image.fromarray(GREY).save(tmp_path / f"a{suffix}", format="JPEG")
    with pytest.raises(InputError, match="a JPEG cannot keep labels exactly; save masks as PNG"):
        read_mask(tmp_path / f"a{suffix}")


def test_floating_point_pictures_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: holds floating-point pixels"):
        read_image(tmp_path / "a.tif")


UPRIGHT = {  # EXIF orientation -> how to turn the stored pixels upright (EXIF 2.32, section 4.6.5.1.6)
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored[::-1].swapaxes(0, 1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_images_are_turned_upright_and_masks_are_not(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLORS).save(tmp_path / "a.png", exif=exif)
    expected = UPRIGHT[orientation](COLORS)
    assert read_image(tmp_path / "a.png").tolist() == expected.tolist()
    assert image_size(tmp_path / "a.png") == expected.shape[:2]
    assert read_mask(tmp_path / "a.png").tolist() == COLORS.tolist()


def test_the_size_of_a_png_is_known_without_decoding_it(tmp_path, monkeypatch):
    """Also where the tag follows the pixels, and also of a file whose pixels are cut off."""
    Image.fromarray(COLORS).save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLORS).save(tmp_path / "tagged.png", exif=exif)
    data = (tmp_path / "tagged.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    (tmp_path / "late.png").write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert read_image(tmp_path / "late.png").shape == COLORS.swapaxes(0, 1).shape
    assert image_size(tmp_path / "late.png") == COLORS.shape[1::-1]
    monkeypatch.setattr(Image.Image, "load", lambda picture: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda picture: pytest.fail("decoded"))
    assert image_size(tmp_path / "plain.png") == COLORS.shape[:2]
    assert image_size(tmp_path / "tagged.png") == COLORS.shape[1::-1]


def test_a_quarter_turn_by_hand(tmp_path):
    """Orientation 6: the stored top row is the right column."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[4, 1], [5, 2], [6, 3]]


READERS = pytest.mark.parametrize("read", [read_image, read_mask, image_size], ids=lambda read: read.__name__)


@READERS
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a picture in a known format"),
        (b"<html>404</html>", "is not a picture in a known format"),
        (b"\x89PNG\r\n\x1a\n", "picture"),
        (None, "no such file"),
    ],
)
def test_what_is_no_picture_is_one_error(tmp_path, read, content, message):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@READERS
def test_a_folder_is_no_picture(tmp_path, read):
    with pytest.raises(InputError, match="is a folder, not a picture"):
        read(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on the tags that are cut off
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "BMP"])
def test_a_truncated_file_is_never_half_a_picture(tmp_path, format_name):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    Image.fromarray(noise).save(whole, format_name)
    for length in range(0, len(whole.getvalue()) - 40, 7):
        (tmp_path / "a").write_bytes(whole.getvalue()[:length])
        for read in (read_image, read_mask):
            with pytest.raises(InputError):
                read(tmp_path / "a")


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_a_damaged_file_is_read_or_refused_but_nothing_else(tmp_path, format_name):
    whole, generator = io.BytesIO(), np.random.default_rng(1)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a street"
    arguments = {} if format_name in ("BMP", "GIF") else {"exif": exif}
    Image.fromarray(generator.integers(0, 256, (9, 11, 3), np.uint8)).save(whole, format_name, **arguments)
    refusals = []
    for _ in range(80):
        content = bytearray(whole.getvalue())
        for place in generator.integers(0, min(len(content), 120), 4):
            content[place] = generator.integers(0, 256)
        (tmp_path / "a").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata
            for read in (read_image, read_mask, image_size):
                try:
                    read(tmp_path / "a")
                except InputError as error:
                    refusals.append(str(error))
    assert len(refusals) > 20
    assert all(message.startswith(f"{tmp_path / 'a'}: ") for message in refusals)


def test_a_refused_file_is_closed(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) - 30])
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for read in (read_image, read_mask):
            with pytest.raises(InputError):
                read(tmp_path / "a.png")
        gc.collect()
    assert [warning for warning in caught if warning.category is ResourceWarning] == []


@READERS
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, read):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: .*(1600000000 pixels|40000 x 40000)"):
        read(tmp_path / "a.png")


def test_a_mask_round_trips_with_its_palette(tmp_path):
    palette = np.array(PALETTE, np.uint8).reshape(256, 3)
    for values in (np.array([[0, 1, 255], [20, 7, 1]], np.uint8), np.array([[3, 255]], np.int64)):
        write_mask(tmp_path / "a.png", values, palette)
        assert read_mask(tmp_path / "a.png").tolist() == values.tolist()
        with Image.open(tmp_path / "a.png") as picture:
            assert (picture.mode, picture.format) == ("P", "PNG")
            assert picture.getpalette() == PALETTE
        assert read_image(tmp_path / "a.png")[0, 1].tolist() == palette[values[0, 1]].tolist()


@pytest.mark.parametrize("values", [[[0, 300]], [[-1, 0]]])
def test_values_that_do_not_fit_are_no_mask(tmp_path, values):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(ValueError, match="0 to 255, found"):
        write_mask(tmp_path / "a.png", np.array(values), np.zeros((256, 3), np.uint8))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("values", [GREY, COLORS], ids=["grey", "rgb"])
def test_a_picture_round_trips(tmp_path, values):
    write_image(tmp_path / "new" / "a.png", values)
    expected = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), expected)


@pytest.mark.samples
def test_real_masks_with_palettes_and_in_colours(samples):
    """Official PNGs of VOC, PASCAL-Person-Part and PASCAL-Context; the last are colours, the others indices."""
    folder = samples / "refinenet_examples"
    masks = {kind: [read_mask(path) for path in sorted((folder / kind).glob("*.png"))] for kind in ("VOC", "Person")}
    assert [np.unique(mask).tolist() for mask in masks["VOC"]] == [
        [0, 12, 255],
        [0, 2, 255],
        [0, 12, 17, 255],
        [0, 5, 15, 255],
    ]
    assert [int(mask.max()) for mask in masks["Person"]] == [5, 5, 6, 6]
    assert read_mask(folder / "Context" / "2008_008376.png").shape == (333, 500, 3)
