"""A clean Folder of small images, and functions that each inject one fault and return where a check must find it."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from PIL import Image, ImageEnhance

COUNTS = {"train": 12, "val": 6}
HEIGHT, WIDTH = 48, 64
NAMES = ("road", "car", "person")
COLORS = ((128, 64, 128), (0, 0, 142), (220, 20, 60))

Expected = dict[str, set[str]]
"""Code -> files below the root; an empty set where the finding concerns no single file."""


class Tree(NamedTuple):
    """A Folder under test."""

    root: Path

    def image(self, name: str) -> Path:
        return self.root / "images" / name.split("_")[0] / f"{name}.jpg"

    def mask(self, name: str) -> Path:
        return self.root / "masks" / name.split("_")[0] / f"{name}.png"

    def names(self) -> list[str]:
        return [f"{split}_{index}" for split, count in COUNTS.items() for index in range(count)]

    def shown(self, *paths: Path) -> set[str]:
        return {str(path.relative_to(self.root)) for path in paths}

    def masks(self, *names: str) -> set[str]:
        return self.shown(*(self.mask(name) for name in names or self.names()))

    def images(self, *names: str) -> set[str]:
        return self.shown(*(self.image(name) for name in names or self.names()))

    def stored(self, name: str) -> np.ndarray:
        return np.asarray(Image.open(self.mask(name)))

    def store(self, name: str, values: np.ndarray) -> None:
        Image.fromarray(values).save(self.mask(name))

    def map_values(self, table: Mapping[int, int], *names: str, dtype: Any = np.uint8) -> None:
        """Other values in the masks, all of them or those named."""
        for name in names or self.names():
            stored = self.stored(name)
            mapped = stored.astype(dtype)
            for old, new in table.items():
                mapped[stored == old] = new
            self.store(name, mapped)

    def write_table(self, values: list[list[int]], **rest: Any) -> None:
        rows = [
            {"name": name, "color": list(color), "values": stored}
            for name, color, stored in zip(NAMES, COLORS, values, strict=False)
        ]
        rows += [
            {"name": f"more_{index}", "color": [index, 9, 9], "values": stored}
            for index, stored in enumerate(values[3:], 3)
        ]
        (self.root / "labels.yaml").write_text(yaml.safe_dump({"labels": rows, **rest}))


def clean_tree(root: Path) -> Tree:
    """Write a Folder without faults: smooth images with noise, masks with a road, a car, a person and an ignored border."""
    tree = Tree(root)
    for folder in ("images", "masks"):
        for split in COUNTS:
            (root / folder / split).mkdir(parents=True)
    for index, name in enumerate(tree.names()):
        Image.fromarray(photo(index)).save(tree.image(name), quality=95)
        tree.store(name, drawing(index))
    tree.write_table([[0], [1], [2]])
    return tree


def photo(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W, 3) uint8: a few soft patches of light, and noise."""
    generator = np.random.default_rng(seed)
    soft = cv2.resize(generator.uniform(20, 235, (5, 6, 3)), size[::-1], interpolation=cv2.INTER_CUBIC)
    return (soft + generator.normal(0, 6, soft.shape)).clip(0, 255).astype(np.uint8)


def drawing(seed: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """(H, W) uint8: road 0, a car 1 with an ignored border 255, a person 2."""
    generator = np.random.default_rng(1000 + seed)
    mask = np.zeros(size, np.uint8)
    x, y = map(int, generator.integers((20, 18), (40, 30)))
    cv2.circle(mask, (x, y), 13, 255, -1)
    cv2.circle(mask, (x, y), 11, 1, -1)
    cv2.ellipse(mask, (x, y), (4, 8), float(generator.integers(90)), 0, 360, 2, -1)
    return mask


def huge_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG whose header promises billions of pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000)))]
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def _missing_mask(tree: Tree) -> Expected:
    tree.mask("train_3").unlink()
    return {"missing_mask": tree.images("train_3")}


def _missing_image(tree: Tree) -> Expected:
    tree.image("val_2").unlink()
    return {"missing_image": tree.masks("val_2")}


def _truncated_image(tree: Tree) -> Expected:
    content = tree.image("train_1").read_bytes()
    tree.image("train_1").write_bytes(content[: len(content) * 2 // 3])
    return {"damaged_file": tree.images("train_1")}


def _truncated_mask(tree: Tree) -> Expected:
    content = tree.mask("train_1").read_bytes()
    tree.mask("train_1").write_bytes(content[: len(content) * 2 // 3])
    return {"damaged_file": tree.masks("train_1")}


def _not_an_image_at_all(tree: Tree) -> Expected:
    tree.image("train_1").write_text("<html>404</html>")
    tree.mask("val_1").write_bytes(b"\x89PNG\r\n\x1a\n")
    return {"damaged_file": tree.images("train_1") | tree.masks("val_1")}


def _empty_files(tree: Tree) -> Expected:
    tree.image("train_1").write_bytes(b"")
    tree.mask("train_2").write_bytes(b"")
    return {"empty_file": tree.images("train_1") | tree.masks("train_2")}


def _other_size(tree: Tree) -> Expected:
    tree.store("train_4", tree.stored("train_4")[:-1])
    return {"size_mismatch": tree.masks("train_4")}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _unrotated_mask(tree: Tree) -> Expected:
    Image.fromarray(photo(50)).save(tree.image("train_5"), exif=_exif(6))
    return {"rotated_mask": tree.masks("train_5")}


def _rotated_without_tag(tree: Tree) -> Expected:
    tree.store("train_5", np.rot90(tree.stored("train_5")))
    return {"rotated_mask": tree.masks("train_5")}


def _square_with_tag(tree: Tree) -> Expected:
    Image.fromarray(photo(51, (64, 64))).save(tree.image("train_6"), exif=_exif(8))
    tree.store("train_6", drawing(51, (64, 64)))
    return {"unclear_orientation": tree.masks("train_6")}


def _upside_down_tag(tree: Tree) -> Expected:
    Image.fromarray(photo(52)).save(tree.image("train_6"), exif=_exif(3))
    return {"unclear_orientation": tree.masks("train_6")}


def _jpeg_mask(tree: Tree) -> Expected:
    renamed = tree.mask("train_7").with_suffix(".jpg")
    Image.fromarray(tree.stored("train_7") * 60).save(renamed, quality=80)
    tree.mask("train_7").unlink()
    Image.fromarray(tree.stored("val_0") * 60).save(tree.mask("val_0"), format="JPEG")  # a suffix proves nothing
    return {"jpeg_mask": tree.shown(renamed, tree.mask("val_0"))}


def _smooth(mask: np.ndarray) -> np.ndarray:
    wide = cv2.resize(mask, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(wide, mask.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _antialiased(tree: Tree) -> Expected:
    tree.map_values({0: 10, 1: 90, 2: 170})
    tree.write_table([[10], [90], [170]])
    for name in ("train_2", "val_3"):
        tree.store(name, _smooth(tree.stored(name)))
    return {"antialiased_mask": tree.masks("train_2", "val_3")}


def _antialiased_colors(tree: Tree) -> Expected:
    _as_colors(tree)
    smooth = cv2.GaussianBlur(tree.stored("train_2"), (3, 3), 0)
    tree.store("train_2", np.asarray(smooth))
    return {"antialiased_mask": tree.masks("train_2")}


def _smoothed_but_declared(tree: Tree) -> Expected:
    tree.map_values({1: 8, 2: 15, 255: 0})
    tree.write_table([[value] for value in range(16)])
    tree.store("val_0", np.repeat(np.arange(16, dtype=np.uint8), 3)[:, None].repeat(WIDTH, 1))  # each class once
    tree.store("train_2", _smooth(tree.stored("train_2")))
    return {"smoothed_mask": tree.masks("train_2"), "class_not_in_train": set()}


def trimap(seed: int, border: int = 4) -> np.ndarray:
    """(H, W) uint8: an animal 1, its border 3 of so many pixels, a background 2, as Oxford's pets have them."""
    generator = np.random.default_rng(2000 + seed)
    mask = np.full((HEIGHT, WIDTH), 2, np.uint8)
    center = tuple(map(int, generator.integers((24, 20), (40, 28))))
    angle = float(generator.integers(180))
    cv2.ellipse(mask, center, (13 + border, 10 + border), angle, 0, 360, 3, -1)
    cv2.ellipse(mask, center, (13, 10), angle, 0, 360, 1, -1)
    return mask


def _smoothed_trimaps(tree: Tree) -> Expected:
    tree.write_table([[1], [2], [3]])
    for seed, name in enumerate(tree.names()):
        half = cv2.resize(trimap(seed), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
        tree.store(name, np.asarray(cv2.resize(half, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8))
    return {"smoothed_mask": tree.masks()}


def _binary(tree: Tree) -> Expected:
    tree.map_values({255: 0, 2: 255, 1: 255})
    tree.write_table([[0], [1]])
    return {"binary_255": tree.masks()}


def _binary_with_foreground_only(tree: Tree) -> Expected:
    tree.map_values({255: 0, 2: 255, 1: 255})
    tree.write_table([[1]])
    return {"binary_255": tree.masks()}


def _some_binary(tree: Tree) -> Expected:
    tree.map_values({255: 0, 2: 1})
    tree.map_values({1: 255}, "train_0", "val_0")
    tree.write_table([[0], [1]])
    return {"binary_255": tree.masks("train_0", "val_0")}


def _shifted(tree: Tree) -> Expected:
    tree.map_values({0: 1, 1: 2, 2: 3})
    return {"shifted_ids": tree.masks()}


def _ade_style(tree: Tree) -> Expected:
    tree.map_values({0: 1, 1: 2, 2: 3, 255: 0})
    return {"shifted_ids": tree.masks()}


def _one_id_too_many(tree: Tree) -> Expected:
    tree.map_values({0: 3}, "train_1")
    return {"unknown_ids": tree.masks("train_1")}


def _unknown_ids(tree: Tree) -> Expected:
    tree.map_values({2: 77}, "train_1", "val_1")
    tree.map_values({1: 9}, "train_2")
    return {"unknown_ids": tree.masks("train_1", "val_1", "train_2")}


def _ignore_not_declared(tree: Tree) -> Expected:
    tree.write_table([[0], [1], [2]], ignored_values=[])
    return {"unknown_ids": tree.masks()}


def _as_colors(tree: Tree, colors: tuple[tuple[int, int, int], ...] = COLORS) -> None:
    for name in tree.names():
        painted = np.zeros((*tree.stored(name).shape, 3), np.uint8)
        for value, color in enumerate(colors):
            painted[tree.stored(name) == value] = color
        tree.store(name, painted)


def _rgb(tree: Tree) -> Expected:
    _as_colors(tree, ((10, 200, 10), (200, 10, 10), (10, 10, 200)))
    return {"rgb_mask": tree.masks()}


def _ids_in_three_channels(tree: Tree) -> Expected:
    tree.store("train_3", np.repeat((tree.stored("train_3") % 255 + 1)[..., None], 3, axis=2))
    return {"rgb_mask": tree.masks("train_3")}


def _one_color_too_many(tree: Tree) -> Expected:
    _as_colors(tree)
    painted = tree.stored("train_4").copy()
    painted[:5, :5] = 255, 255, 0
    tree.store("train_4", painted)
    return {"unknown_colors": tree.masks("train_4")}


def _rgba_bitmask(tree: Tree) -> Expected:
    stored = tree.stored("train_8")
    instances = np.where(stored == 255, 0, stored)
    tree.store("train_8", np.stack([instances, 0 * stored, 0 * stored, instances], -1))
    return {"rgba_bitmask": tree.masks("train_8")}


def _rgba_colors(tree: Tree) -> Expected:
    _as_colors(tree)
    tree.store("train_8", np.dstack([tree.stored("train_8"), np.full((HEIGHT, WIDTH), 255, np.uint8)]))
    return {"mask_mode": tree.masks("train_8")}


def _label_ids(tree: Tree) -> Expected:
    tree.map_values({0: 7, 1: 26, 2: 24})
    tree.map_values({255: 4}, "train_0")
    tree.write_table([[value] for value in range(19)])
    return {"label_ids_as_train_ids": tree.masks()}


def _sixteen_bit_ids(tree: Tree) -> Expected:
    tree.map_values({2: 300}, "train_1", dtype=np.uint16)
    return {"sixteen_bit_ids": tree.masks("train_1"), "sixteen_bit_mask": tree.masks("train_1")}


def _instance_ids(tree: Tree) -> Expected:
    tree.map_values({1: 26001, 2: 24007}, "train_1", dtype=np.uint16)
    return {"sixteen_bit_ids": tree.masks("train_1"), "sixteen_bit_mask": tree.masks("train_1")}


def _sixteen_bits(tree: Tree) -> Expected:
    tree.map_values({}, "train_1", dtype=np.uint16)
    return {"sixteen_bit_mask": tree.masks("train_1")}


def _palette(tree: Tree) -> Expected:
    image = Image.fromarray(tree.stored("val_5"))
    image.putpalette([7 * index % 256 for index in range(768)])
    image.save(tree.mask("val_5"))
    return {"palette_mask": tree.masks("val_5")}


def _never_seen(tree: Tree) -> Expected:
    tree.write_table([[0], [1], [2], [3]])
    return {"class_never_seen": set()}


def _never_seen_in_train(tree: Tree) -> Expected:
    tree.map_values({2: 0}, *(name for name in tree.names() if name.startswith("train")))
    return {"class_not_in_train": set()}


def _nearly_empty(tree: Tree) -> Expected:
    unlabeled = np.full((HEIGHT, WIDTH), 255, np.uint8)
    unlabeled[3, :9] = 1
    unlabeled[4, :9] = 2
    tree.store("train_9", unlabeled)
    one_class = np.zeros((HEIGHT, WIDTH), np.uint8)
    one_class[2, :2] = 1
    tree.store("train_10", one_class)
    return {"nearly_empty_mask": tree.masks("train_9", "train_10")}


def _all_ignored(tree: Tree) -> Expected:
    tree.store("train_9", np.full((HEIGHT, WIDTH), 255, np.uint8))
    return {"all_ignored": tree.masks("train_9")}


def _duplicate_image(tree: Tree) -> Expected:
    tree.image("val_1").write_bytes(tree.image("train_2").read_bytes())
    return {"duplicate_image": tree.images("val_1")}


def _re_encoded(tree: Tree) -> Expected:
    Image.open(tree.image("train_2")).save(tree.image("val_1"), quality=50)
    return {"near_duplicate_image": tree.images("val_1")}


def _resized(tree: Tree) -> Expected:
    with Image.open(tree.image("train_2")) as image:
        image.resize((WIDTH * 2, HEIGHT * 2)).save(tree.image("val_1"))
    tree.store("val_1", drawing(61, (HEIGHT * 2, WIDTH * 2)))
    return {"near_duplicate_image": tree.images("val_1")}


def _brightened(tree: Tree) -> Expected:
    with Image.open(tree.image("train_2")) as image:
        ImageEnhance.Brightness(image).enhance(1.12).save(tree.image("val_1"))
    return {"near_duplicate_image": tree.images("val_1")}


def _unusual_images(tree: Tree) -> Expected:
    gray = photo(70)[..., 0]
    Image.fromarray(gray).save(tree.image("train_0"))
    Image.fromarray(photo(71)).convert("CMYK").save(tree.image("train_1"))
    paths = [tree.image("train_0"), tree.image("train_1")]
    opaque = np.dstack([photo(72), np.full((HEIGHT, WIDTH), 200, np.uint8)])
    for name, pixels in (("train_2", photo(73)[..., 0].astype(np.uint16) * 257), ("train_3", opaque)):
        tree.image(name).unlink()
        paths.append(tree.image(name).with_suffix(".png"))
        Image.fromarray(pixels).save(paths[-1])
    tree.image("train_4").unlink()
    paths.append(tree.image("train_4").with_suffix(".png"))
    cv2.imwrite(str(paths[-1]), photo(74).astype(np.uint16) * 257)
    return {"unusual_image": tree.shown(*paths)}


def _twelve_bits(tree: Tree) -> Expected:
    tree.image("train_2").unlink()
    path = tree.image("train_2").with_suffix(".png")
    Image.fromarray(photo(75)[..., 0].astype(np.uint16) * 15).save(path)
    return {"dark_image": tree.shown(path), "unusual_image": tree.shown(path)}


def _huge(tree: Tree) -> Expected:
    image = tree.image("train_2").with_suffix(".png")
    tree.image("train_2").unlink()
    image.write_bytes(huge_png())
    tree.mask("val_0").write_bytes(huge_png())
    return {"oversized_file": tree.shown(image, tree.mask("val_0"))}


def _same_names(tree: Tree) -> Expected:
    image = tree.image("train_2")
    image.with_suffix(".JPG").write_bytes(image.read_bytes())
    mask = tree.mask("val_1").with_suffix(".tif")
    Image.open(tree.mask("val_1")).save(mask)
    return {"duplicate_name": tree.shown(image, mask)}


def _other_case(tree: Tree) -> Expected:
    renamed = tree.mask("train_2").with_name("TRAIN_2.png")
    tree.mask("train_2").rename(renamed)
    return {"mismatched_names": tree.shown(renamed)}


def _added_to_names(tree: Tree) -> Expected:
    renamed = [
        tree.mask(name).rename(tree.mask(name).with_stem(f"{name}_mask")) for name in ("val_0", "val_1", "val_2")
    ]
    return {"mismatched_names": tree.shown(*renamed)}


def _float_mask(tree: Tree) -> Expected:
    path = tree.mask("train_2").with_suffix(".tif")
    Image.fromarray(tree.stored("train_2").astype(np.float32) / 255).save(path)
    tree.mask("train_2").unlink()
    return {"float_mask": tree.shown(path)}


def _float_image(tree: Tree) -> Expected:
    path = tree.image("train_2").with_suffix(".tif")
    Image.fromarray(photo(76)[..., 0].astype(np.float32)).save(path)
    tree.image("train_2").unlink()
    return {"float_image": tree.shown(path)}


def _swapped(tree: Tree) -> Expected:
    image = tree.image("train_2").with_suffix(".png")
    Image.fromarray(tree.stored("train_2")).convert("RGB").save(image)
    tree.store("train_2", np.asarray(Image.open(tree.image("train_2"))))
    tree.image("train_2").unlink()
    return {"image_looks_like_mask": tree.shown(image), "mask_looks_like_photo": tree.masks("train_2")}


def _blank(tree: Tree) -> Expected:
    Image.new("RGB", (WIDTH, HEIGHT), (90, 90, 90)).save(tree.image("train_2"))
    return {"blank_image": tree.images("train_2")}


def _no_table(tree: Tree) -> Expected:
    (tree.root / "labels.yaml").unlink()
    return {"no_label_table": set()}


def _broken_table(tree: Tree) -> Expected:
    (tree.root / "labels.yaml").write_text("labels: [road, car]")
    return {"wrong_label_table": set()}


def _misnamed_table(tree: Tree) -> Expected:
    (tree.root / "labels.yaml").rename(tree.root / "labels.yml")
    return {"wrong_label_table": set()}


def _no_table_and_no_readable_mask(tree: Tree) -> Expected:
    (tree.root / "labels.yaml").unlink()
    for name in tree.names():
        Image.fromarray(tree.stored(name) * 60).save(tree.mask(name), format="JPEG")
    return {"no_label_table": set(), "jpeg_mask": tree.masks()}


def _no_val(tree: Tree) -> Expected:
    for folder in ("images", "masks"):
        (tree.root / folder / "val").rename(tree.root / folder / "test")
    return {"missing_split": set()}


def _valid(tree: Tree) -> Expected:
    for folder in ("images", "masks"):
        (tree.root / folder / "val").rename(tree.root / folder / "valid")
    return {"missing_split": set()}


def _lists_of_images_alone(tree: Tree) -> Expected:
    for split in COUNTS:
        names = [name for name in tree.names() if name.startswith(split)]
        (tree.root / f"{split}.txt").write_text("".join(f"images/{split}/{name}.jpg\n" for name in names))
    return {"split_without_masks": {f"{split}.txt" for split in COUNTS}}


def _no_split(tree: Tree) -> Expected:
    for split in COUNTS:
        (tree.root / "images" / split).rename(tree.root / f"images of {split}")
    return {"no_split": set()}


def _folder_without_images(tree: Tree) -> Expected:
    (tree.root / "images/test").mkdir()
    (tree.root / "masks/test").mkdir()
    return {"unlistable_split": set()}


_INJECTORS = (
    *(_missing_mask, _missing_image, _truncated_image, _truncated_mask, _not_an_image_at_all, _empty_files),
    *(_other_size, _unrotated_mask, _rotated_without_tag, _square_with_tag, _upside_down_tag, _jpeg_mask),
    *(
        _antialiased,
        _antialiased_colors,
        _smoothed_but_declared,
        _smoothed_trimaps,
        _binary,
        _binary_with_foreground_only,
        _some_binary,
    ),
    *(_shifted, _ade_style, _one_id_too_many, _unknown_ids, _ignore_not_declared, _rgb, _ids_in_three_channels),
    *(_one_color_too_many, _rgba_bitmask, _rgba_colors, _label_ids, _sixteen_bit_ids, _instance_ids, _sixteen_bits),
    *(
        _palette,
        _never_seen,
        _never_seen_in_train,
        _nearly_empty,
        _all_ignored,
        _duplicate_image,
        _re_encoded,
        _resized,
    ),
    *(_brightened, _unusual_images, _twelve_bits, _huge, _same_names, _other_case, _added_to_names, _float_mask),
    *(
        _float_image,
        _swapped,
        _blank,
        _no_table,
        _broken_table,
        _misnamed_table,
        _no_val,
        _valid,
        _no_split,
        _folder_without_images,
        _lists_of_images_alone,
    ),
    _no_table_and_no_readable_mask,
)
INJECTORS: dict[str, Callable[[Tree], Expected]] = {inject.__name__.removeprefix("_"): inject for inject in _INJECTORS}


def jpeg_bytes(image: np.ndarray, quality: int = 90) -> bytes:
    """Encode an image as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
