import gc
import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps, PngImagePlugin

from imageseg.datasets.voc.dataset import LABELS
from imageseg.errors import InputError
from imageseg.images import OpenImage, encode_mask, image_size, read_image, read_mask, write_image, write_mask

GRAY = np.array([[0, 1, 2], [100, 200, 255]], np.uint8)
COLORS = np.array([[[1, 2, 3], [4, 5, 6], [7, 8, 9]], [[10, 11, 12], [13, 14, 15], [255, 0, 128]]], np.uint8)
PALETTE = [channel for index in range(256) for channel in (255 - index, index, 7)]


def palette_image():
    image = Image.fromarray(GRAY)
    image.putpalette(PALETTE)
    return image


def with_alpha(values):
    alpha = np.full((*values.shape[:2], 1), 9, np.uint8)
    return Image.fromarray(np.concatenate([values.reshape(*values.shape[:2], -1), alpha], axis=2))


def thrice(gray):
    return np.repeat(np.array(gray)[:, :, None], 3, axis=2).tolist()


CMYK = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
DEEP = np.array([[0, 128, 129], [257, 32896, 65535]], np.uint16)

IMAGE_MODES = {  # mode -> image, its file's suffix, RGB values
    "1": (Image.fromarray(GRAY >= 100), ".png", thrice([[0, 0, 0], [255, 255, 255]])),
    "L": (Image.fromarray(GRAY), ".png", thrice(GRAY)),
    "P": (palette_image(), ".png", [[[255 - v, v, 7] for v in row] for row in GRAY.tolist()]),
    "LA": (with_alpha(GRAY), ".png", thrice(GRAY)),
    "RGB": (Image.fromarray(COLORS), ".png", COLORS.tolist()),
    "RGBA": (with_alpha(COLORS), ".png", COLORS.tolist()),
    "CMYK": (Image.fromarray(CMYK, "CMYK"), ".tif", [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]),
    "I;16": (Image.fromarray(DEEP), ".png", thrice([[0, 0, 1], [1, 128, 255]])),
    "I;16B": (Image.fromarray(DEEP.astype(">u2")), ".tif", thrice([[0, 0, 1], [1, 128, 255]])),
    "I": (Image.fromarray(np.array([[-5, 257, 70000]], np.int32)), ".tif", thrice([[0, 1, 255]])),
}


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_an_image_of_any_mode_is_rgb(tmp_path, mode):
    image, suffix, expected = IMAGE_MODES[mode]
    assert image.mode == mode
    path = tmp_path / f"a{suffix}"
    image.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    image = read_image(path)
    assert image.tolist() == expected
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image_size(path) == image.shape[:2]


MASK_MODES = {
    "1": (Image.fromarray(GRAY >= 100), [[0, 0, 0], [1, 1, 1]]),
    "L": (Image.fromarray(GRAY), GRAY.tolist()),
    "P": (palette_image(), GRAY.tolist()),
    "RGB": (Image.fromarray(COLORS), COLORS.tolist()),
    "I;16": (Image.fromarray(DEEP), DEEP.tolist()),
}


@pytest.mark.parametrize("mode", MASK_MODES)
def test_a_mask_is_what_the_file_stores(tmp_path, mode):
    image, expected = MASK_MODES[mode]
    image.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == mode
    mask = read_mask(tmp_path / "a.png")
    assert mask.tolist() == expected
    assert np.issubdtype(mask.dtype, np.integer)
    assert mask.flags.writeable


def test_a_palette_of_few_colors_gives_indices_too(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2, 1, 0]], np.uint8))
    image.putpalette(PALETTE[:12])
    image.save(tmp_path / "a.png", bits=2)
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 2, 1, 0]]


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (with_alpha(GRAY), ".png"),
        (with_alpha(COLORS), ".png"),
        (Image.fromarray(CMYK, "CMYK"), ".tif"),
        (Image.fromarray(np.zeros((2, 2), np.float32)), ".tif"),
    ],
    ids=["LA", "RGBA", "CMYK", "F"],
)
def test_masks_of_other_modes_are_refused(tmp_path, image, suffix):
    image.save(tmp_path / f"a{suffix}")
    with pytest.raises(InputError, match=rf"a\{suffix}: pixel mode {image.mode} cannot store labels"):
        read_mask(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_lossy_mask_is_refused_whatever_its_suffix(tmp_path, suffix):
    Image.fromarray(GRAY).save(tmp_path / f"a{suffix}", format="JPEG")
    with pytest.raises(InputError, match="a JPEG cannot keep labels exactly; save masks as PNG"):
        read_mask(tmp_path / f"a{suffix}")


def test_floating_point_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: contains floating-point pixels"):
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
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda image: pytest.fail("decoded"))
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
        (b"", "is not an image in a known format"),
        (b"<html>404</html>", "is not an image in a known format"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (None, "no such file"),
    ],
)
def test_what_is_no_image_is_one_error(tmp_path, read, content, message):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@READERS
def test_a_folder_is_no_image(tmp_path, read):
    with pytest.raises(InputError, match="is a folder, not an image"):
        read(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's remarks on the tags that are cut off
@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "BMP"])
def test_a_truncated_file_is_never_half_a_image(tmp_path, format_name):
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
    Image.fromarray(GRAY).save(tmp_path / "a.png")
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
        with Image.open(tmp_path / "a.png") as image:
            assert (image.mode, image.format) == ("P", "PNG")
            assert image.getpalette() == PALETTE
        assert read_image(tmp_path / "a.png")[0, 1].tolist() == palette[values[0, 1]].tolist()


@pytest.mark.parametrize("values", [[[0, 300]], [[-1, 0]]])
def test_values_that_do_not_fit_are_no_mask(tmp_path, values):
    (tmp_path / "a.png").write_text("old")
    with pytest.raises(ValueError, match="0 to 255, found"):
        write_mask(tmp_path / "a.png", np.array(values), np.zeros((256, 3), np.uint8))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("values", [GRAY, COLORS], ids=["gray", "rgb"])
def test_a_image_round_trips(tmp_path, values):
    write_image(tmp_path / "new" / "a.png", values)
    expected = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), expected)


@pytest.mark.samples
def test_real_masks_with_palettes_and_in_colors(samples):
    """Official PNGs of VOC, PASCAL-Person-Part and PASCAL-Context; the last are colors, the others indices."""
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


def by_pillow(path):
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def soft(size, seed=0):
    """An image without sharp edges, of which JPEGs of all kinds look alike."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = [np.sin(rows / (5 + seed + channel)) + np.cos(columns / (7 + channel)) for channel in range(3)]
    return ((np.stack(waves, axis=2) + 2) * 63).astype(np.uint8)


def jpeg(path, *, mode="RGB", size=(37, 53), **arguments):
    Image.fromarray(soft(size)).convert(mode).save(path, format="JPEG", **arguments)
    return path


JPEGS = {
    "4:4:4": {"subsampling": 0, "quality": 95},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2, "quality": 60},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_rows": 1},
    "gray": {"mode": "L"},
    "optimized": {"optimize": True, "comment": b"a street"},
    "profile": {"icc_profile": b"colors"},
    "one pixel": {"size": (1, 1)},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_of_every_kind_are_the_same_by_pillow_and_opencv(tmp_path, kind):
    path = jpeg(tmp_path / "a.jpg", **JPEGS[kind])
    np.testing.assert_array_equal(read_image(path), by_pillow(path))
    np.testing.assert_array_equal(read_image(path), cv2.imread(str(path))[..., ::-1])
    assert OpenImage(path).size == image_size(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"exif": {0x0112: 1, 0x010E: "a street"}},
        {"exif": {0x0112: 6}},
        {"xmp": b"<x:xmpmeta tiff:Orientation='6'/>"},
        {"xmp": b"<x:xmpmeta/>"},
        {"mode": "CMYK"},
        {"keep_rgb": True},
    ],
)
def test_orientation_and_color_space_of_a_jpeg_are_respected(tmp_path, arguments):
    if "exif" in arguments:
        exif = Image.Exif()
        exif.update(arguments["exif"])
        arguments = {"exif": exif}
    path = jpeg(tmp_path / "a.jpg", **arguments)
    np.testing.assert_array_equal(read_image(path), by_pillow(path))
    assert OpenImage(path).size == read_image(path).shape[:2]


@pytest.mark.parametrize("carrier", ["eXIf", "raw profile", "xmp", "none"])
def test_size_and_box_of_a_png_follow_its_orientation_wherever_it_is_stored(tmp_path, carrier):
    info = PngImagePlugin.PngInfo()
    if carrier == "raw profile":
        data = turned().tobytes()
        info.add_text("Raw profile type exif", f"\nexif\n{len(data):8}\n{data.hex()}\n")
    elif carrier == "xmp":
        info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="8"/>')
    Image.fromarray(soft((20, 30))).save(tmp_path / "a.png", pnginfo=info, exif=turned() if carrier == "eXIf" else None)
    upright = read_image(tmp_path / "a.png")
    assert upright.shape[:2] == ((20, 30) if carrier == "none" else (30, 20))
    np.testing.assert_array_equal(upright, by_pillow(tmp_path / "a.png"))
    assert image_size(tmp_path / "a.png") == OpenImage(tmp_path / "a.png").size == upright.shape[:2]
    np.testing.assert_array_equal(OpenImage(tmp_path / "a.png").read((2, 3, 9, 17)), upright[2:9, 3:17])


def test_a_jpeg_without_its_end_is_refused(tmp_path):
    path = jpeg(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


def test_a_stray_marker_in_a_jpeg_is_refused(tmp_path):
    """OpenCV 5.0 makes an image of such a file."""
    path = jpeg(tmp_path / "a.jpg", size=(80, 80))
    content = bytearray(path.read_bytes())
    content[-100:-98] = b"\xff\x26"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image"):
        read_image(path)


WAYS = {
    "jpeg": lambda path: jpeg(path, size=(60, 80)),
    "jpeg of a turned camera": lambda path: jpeg(path, size=(60, 80), exif=turned()),
    "png": lambda path: Image.fromarray(soft((60, 80))).save(path, "PNG"),
    "gray png": lambda path: Image.fromarray(soft((60, 80))[..., 0]).save(path, "PNG"),
    "png with alpha": lambda path: with_alpha(soft((60, 80))).save(path, "PNG"),
    "tiff": lambda path: Image.fromarray(soft((60, 80))).save(path, "TIFF"),
}


def turned():
    exif = Image.Exif()
    exif[0x0112] = 8
    return exif


@pytest.mark.parametrize("way", WAYS)
def test_a_box_is_that_part_of_the_image(tmp_path, way):
    WAYS[way](tmp_path / "a")
    whole = by_pillow(tmp_path / "a")
    generator = np.random.default_rng(0)
    for _ in range(25):
        top, bottom = sorted(generator.choice(whole.shape[0] + 1, 2, replace=False))
        left, right = sorted(generator.choice(whole.shape[1] + 1, 2, replace=False))
        box = (int(top), int(left), int(bottom), int(right))
        np.testing.assert_array_equal(OpenImage(tmp_path / "a").read(box), whole[top:bottom, left:right])


def test_a_png_is_not_decoded_below_the_box(tmp_path):
    """Of a file whose pixels end in nonsense, the rows above can be read."""
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (400, 50, 3), np.uint8)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-1000:-900] = bytes(100)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError):
        read_image(tmp_path / "a.png")
    assert OpenImage(tmp_path / "a.png").read((100, 0, 200, 50)).shape == (100, 50, 3)


@pytest.mark.parametrize(("shrink", "factor"), [(1.0, 1), (2.0, 1), (2.1, 2), (4.0, 2), (4.5, 4), (20.0, 8)])
def test_a_jpeg_that_will_shrink_is_decoded_smaller(tmp_path, shrink, factor):
    path = jpeg(tmp_path / "a.jpg", size=(99, 160), quality=95)
    whole = read_image(path).astype(int)
    smaller = OpenImage(path).read(shrink=shrink)
    assert smaller.shape == (-(-99 // factor), 160 // factor, 3)
    assert smaller.strides[2] == 1
    by_area = whole[: 99 // factor * factor].reshape(99 // factor, factor, 160 // factor, factor, 3).mean((1, 3))
    assert np.abs(smaller[: 99 // factor] - by_area).mean() < 3
    part = OpenImage(path).read((16, 8, 99, 80), shrink=shrink)
    np.testing.assert_array_equal(part, smaller[16 // factor :, 8 // factor : 80 // factor])


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduced_jpegs_are_the_same_by_opencv(tmp_path, mode, factor):
    for size in ((97, 160), (33, 17), (factor, factor + 1)):
        path = jpeg(tmp_path / "a.jpg", mode=mode, size=size, quality=90)
        reduced = cv2.imread(str(path), getattr(cv2, f"IMREAD_REDUCED_COLOR_{factor}"))[..., ::-1]
        np.testing.assert_array_equal(OpenImage(path).read(shrink=factor + 0.5), reduced)


def test_a_box_that_does_not_fit_the_smaller_image_is_read_at_full_size(tmp_path):
    path = jpeg(tmp_path / "a.jpg", size=(60, 80))
    assert OpenImage(path).read((1, 0, 60, 80), shrink=3).shape == (59, 80, 3)
    assert OpenImage(path).read((0, 0, 30, 41), shrink=3).shape == (30, 41, 3)
    assert OpenImage(path).read((0, 4, 32, 80), shrink=9).shape == (8, 19, 3)  # a quarter fits, an eighth does not
    Image.fromarray(soft((60, 80))).save(tmp_path / "a.png")
    assert OpenImage(tmp_path / "a.png").read(shrink=3).shape == (60, 80, 3)


@pytest.mark.samples
def test_real_images_are_the_same_by_pillow(samples):
    for folder in ("camvid/images/val", "bdd100k_sample/images/10k/val", "coco_tiny/images/val2017"):
        for path in sorted((samples / folder).glob("*.jpg"))[:6]:
            np.testing.assert_array_equal(read_image(path), by_pillow(path))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB", "I;16"])
def test_the_upper_rows_of_a_mask_are_those_of_the_whole(tmp_path, mode):
    values = np.random.default_rng(0).integers(0, 2, (40, 30), np.uint8)
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    whole = read_mask(tmp_path / "a.png")
    for rows in (1, 7, 33, 40):
        upper = read_mask(tmp_path / "a.png", rows=rows)
        assert len(upper) in (rows, 40)
        np.testing.assert_array_equal(upper[:rows], whole[:rows])


def test_a_mask_is_not_decoded_below_the_rows_that_are_wanted(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-2000:-100] = bytes(1900)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError):
        read_mask(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", rows=50), noise[:50])
    with pytest.raises(InputError, match=r"missing\.png: no such file"):
        read_mask(tmp_path / "missing.png", rows=50)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 30), st.integers(1, 30))), st.booleans())
def test_pillow_reads_an_encoded_mask(values, colored):
    data = encode_mask(values, LABELS.palette if colored else None)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.mode == ("P" if colored else "L")
        np.testing.assert_array_equal(np.asarray(image), values)
        if colored:
            assert image.getpalette() == LABELS.palette.ravel().tolist()


def test_opencv_reads_an_encoded_grayscale_mask():
    values = np.repeat(np.arange(256, dtype=np.uint8), 300).reshape(256, 300)  # runs beyond deflate's 258
    data = np.frombuffer(encode_mask(values), np.uint8)
    np.testing.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), values)


def test_a_non_contiguous_mask_is_encoded():
    values = np.arange(60, dtype=np.uint8).reshape(6, 10)[::2, 1:8:3]
    with Image.open(io.BytesIO(encode_mask(values))) as image:
        np.testing.assert_array_equal(np.asarray(image), values)


def test_damage_of_an_encoded_mask_is_detected():
    data = bytearray(encode_mask(np.zeros((50, 50), np.uint8)))
    data[-20] ^= 1  # in the pixels or their checksum
    with pytest.raises((OSError, SyntaxError)), Image.open(io.BytesIO(bytes(data))) as image:
        image.load()
