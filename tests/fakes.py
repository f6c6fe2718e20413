"""Tiny data sets in the real layouts, with masks drawn by hand: one writer per dataset, and what reading it must give."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

from imageseg.datasets import DATASETS, build_dataset


class Expected(NamedTuple):
    """One sample of a fake."""

    name: str
    size: tuple[int, int]
    """Height and width."""
    pixels: Mapping[int, int] | None
    """Class index -> pixels, counted by hand; None where there is no mask, or where our own code paints it."""


def write_fake(name: str, root: Path) -> dict[str, Any]:
    """Writes the fake of a dataset below ``root`` and returns the arguments of ``build_dataset`` that read it."""
    if name not in FAKES:
        raise LookupError(f"tests/fakes.py has no fake of {name}: add its writer to FAKES and its samples to EXPECTED")
    return FAKES[name](root)


# One letter is one pixel. A drawing of 4 x 6: road with a car, a border around it, and a person.
SCENE = (
    "rrrrrr",
    "rvvvrp",
    "rvcvrp",
    "rrrrrr",
)
SCENE_PIXELS = {"r": 16, "v": 5, "c": 1, "p": 2}
PLAIN = (  # 3 x 5: odd in both, and one class only besides the border
    "rrrrr",
    "rrrvv",
    "rrrrr",
)
PLAIN_PIXELS = {"r": 13, "v": 2}


def write_voc(
    root: Path, *, year: str = "2012", devkit: str = "VOCdevkit", test_masks: bool | None = None
) -> dict[str, Any]:
    """The devkit: road is background, car is 7, person is 15, the border 255; the mask of val is gray, not a palette."""
    base = root / devkit / f"VOC{year}"
    scene, plain = (_values(drawing, {"r": 0, "c": 7, "p": 15, "v": 255}) for drawing in (SCENE, PLAIN))
    names = {"train": "2007_000001", "val": "2007_000002", "test": "2008_000003"}
    _save(base / "SegmentationClass" / f"{names['train']}.png", _with_palette(scene))
    _save(base / "SegmentationClass" / f"{names['val']}.png", Image.fromarray(plain))
    if test_masks if test_masks is not None else year == "2007":
        _save(base / "SegmentationClass" / f"{names['test']}.png", _with_palette(scene))
    for name, size in ((names["train"], (4, 6)), (names["val"], (3, 5)), (names["test"], (4, 6)), ("unlisted", (9, 9))):
        _save(base / "JPEGImages" / f"{name}.jpg", _photo(size))
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, name in names.items():
        (lists / f"{split}.txt").write_text(f"{name}\n")
    (lists / "trainval.txt").write_text(f"{names['val']}\n{names['train']}")  # the list's order; no newline at its end
    return {"root": str(root), "year": year}


COCO_NAMES = {1: "person", 3: "car", 6: "bus", 44: "bottle", 62: "chair", 90: "toothbrush"}


def coco_box(left: int, top: int, right: int, bottom: int) -> list[int]:
    """A polygon that covers the pixels of columns left to right - 1 and rows top to bottom - 1."""
    return [left, top, right, top, right, bottom, left, bottom]


def coco_annotation(image: int, category: int, segmentation: Any, **others: Any) -> dict[str, Any]:
    """One entry of a COCO instances file."""
    entry = {"image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, "area": 1}
    return {"id": 100 * image + category, **entry, **others}


def write_instances(path: Path, images: Sequence[tuple[int, str, tuple[int, int]]], annotations: Sequence[Any]) -> None:
    """A COCO instances file of (id, file name, (height, width)) and entries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": i, "file_name": name, "height": h, "width": w} for i, name, (h, w) in images],
        "annotations": list(annotations),
        "categories": [{"id": id_, "name": name} for id_, name in COCO_NAMES.items()],
    }
    path.write_text(json.dumps(content))


def write_coco(root: Path, *, year: str = "2017", images: str = "images", prepared: bool = True) -> dict[str, Any]:
    """SCENE without its border, which polygons do not have; an image without annotation; a person over a chair in val."""
    prefix = "" if year == "2017" else "COCO_train2014_"
    train = [(1, f"{prefix}000000000001.jpg", (4, 6)), (2, f"{prefix}000000000002.jpg", (3, 5))]
    val = [(3, f"{prefix.replace('train', 'val')}000000000003.jpg", (3, 5))]
    for split, entries in (("train", train), ("val", val)):
        for _, name, size in entries:
            _save(root / images / f"{split}{year}" / name, _photo(size))
    toothbrush = coco_annotation(1, 90, [coco_box(0, 0, 6, 4)])
    scene = [toothbrush, coco_annotation(1, 3, [coco_box(2, 2, 3, 3)]), coco_annotation(1, 1, [coco_box(5, 1, 6, 3)])]
    write_instances(root / "annotations" / f"instances_train{year}.json", train, scene)
    over = [coco_annotation(3, 1, [coco_box(0, 0, 2, 3)]), coco_annotation(3, 62, [coco_box(0, 1, 4, 3)], area=8)]
    write_instances(root / "annotations" / f"instances_val{year}.json", val, over)
    arguments = {"root": str(root), "year": year, "min_pixels": -1}
    if prepared:
        build_dataset("COCO", **arguments).prepare()
    return arguments


CITYSCAPES_IDS = {"r": 7, "c": 26, "p": 24, "v": 0}
CITYSCAPES_TRAIN_IDS = {"r": 0, "c": 13, "p": 11, "v": 255}
CITYSCAPES_FRAMES = {"train": "aachen_000000_000019", "val": "frankfurt_000001_083852", "test": "berlin_000007_000019"}


def write_cityscapes(root: Path, *, tree: str = "", kind: str = "labelIds") -> dict[str, Any]:
    """``tree`` "" or "_trainvaltest", the archive's own folder; ``kind`` labelIds, labelTrainIds or polygons, boxes of SCENE.

    The person and the car are objects of their own in instanceIds; the test split has a dummy, all void.
    """
    for split, drawing in (("train", SCENE), ("val", PLAIN), ("test", SCENE)):
        frame = CITYSCAPES_FRAMES[split]
        below = Path(split) / frame.split("_")[0]
        images = root / (f"leftImg8bit{tree}/leftImg8bit" if tree else "leftImg8bit") / below
        masks = root / (f"gtFine{tree}/gtFine" if tree else "gtFine") / below
        ids = _values(drawing, CITYSCAPES_IDS if split != "test" else dict.fromkeys("rcpv", 0))
        _save(images / f"{frame}_leftImg8bit.png", _photo(ids.shape))
        instances = np.where(ids >= 24, ids.astype(np.uint16) * 1000, ids)
        _save(masks / f"{frame}_gtFine_instanceIds.png", Image.fromarray(instances))
        if kind == "labelIds":
            _save(masks / f"{frame}_gtFine_labelIds.png", Image.fromarray(ids))
        elif kind == "labelTrainIds":
            _save(masks / f"{frame}_gtFine_labelTrainIds.png", Image.fromarray(_values(drawing, CITYSCAPES_TRAIN_IDS)))
        write_cityscapes_polygons(masks / f"{frame}_gtFine_polygons.json", drawing)
    return {"root": str(root)}


def write_cityscapes_polygons(path: Path, drawing: tuple[str, ...]) -> None:
    """Road everywhere, then one box for each other pixel: Pillow fills a box with its right and lower edge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = len(drawing), len(drawing[0])
    names = {"c": "car", "p": "person", "v": "out of roi"}
    objects = [{"label": "road", "polygon": _corners(0, 0, width, height)}]
    objects += [
        {"label": names[letter], "polygon": _corners(column, row, column, row), "deleted": 0}
        for row, letters in enumerate(drawing)
        for column, letter in enumerate(letters)
        if letter != "r"
    ]
    path.write_text(json.dumps({"imgHeight": height, "imgWidth": width, "objects": objects}))


def _corners(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


BDD_TRAIN_IDS = CITYSCAPES_TRAIN_IDS
BDD_FRAMES = {"train": "0004a4c0-d4dff0ad", "val": "7d06fefd-f7be05a6", "test": "cabc30fc-e7726578"}


def write_bdd100k(root: Path, *, tree: str = "", kind: str = "sem_seg/masks") -> dict[str, Any]:
    """``tree``: what stands above images and labels ("bdd100k/bdd100k"), or "seg", the release before 2021.

    ``kind``: the folder of the masks; ins_seg and pan_seg bitmasks have four channels, whose alpha is data. "polygons" and
    "rles" are files of Scalabel.
    """
    base = root / tree
    frames: dict[str, list[Any]] = {"train": [], "val": []}
    for split, drawing in (("train", SCENE), ("val", PLAIN), ("test", SCENE)):
        name = BDD_FRAMES[split]
        images = base / "images" / split if tree.endswith("seg") else base / "images" / "10k" / split
        _save(images / f"{name}.jpg", _photo((len(drawing), len(drawing[0]))))
        if split == "test":
            continue
        if tree.endswith("seg"):
            mask = base / "labels" / split / f"{name}_train_id.png"
            _save(base / "color_labels" / split / f"{name}_train_color.png", _photo((4, 6)))
        else:
            mask = base / "labels" / kind / split / f"{name}.png"
        if kind in ("polygons", "rles"):
            frames[split].append(scalabel_frame(f"{name}.jpg", drawing, runs=kind == "rles"))
        else:
            _save(mask, _bdd_mask(drawing, kind))
    for split, entries in frames.items():
        if entries:
            path = base / "labels" / "sem_seg" / kind / f"sem_seg_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(entries))
    return {"root": str(root)}


def _bdd_mask(drawing: tuple[str, ...], kind: str) -> Image.Image:
    if kind == "sem_seg/colormaps":
        return _with_palette(_values(drawing, BDD_TRAIN_IDS))
    if kind not in ("ins_seg/bitmasks", "pan_seg/bitmasks"):
        return Image.fromarray(_values(drawing, BDD_TRAIN_IDS))
    # The car is ignored, which only instances care for; ids in blue and alpha, so that alpha is nowhere 255.
    red = {"r": 0, "c": 3, "p": 1, "v": 0} if kind.startswith("ins") else {"r": 7, "c": 35, "p": 31, "v": 1}
    channels = {letter: (value, int(letter == "c"), 0, 2 * (letter in "cp")) for letter, value in red.items()}
    return Image.fromarray(_drawn(drawing, channels).astype(np.uint8), mode="RGBA")


def scalabel_frame(name: str, drawing: tuple[str, ...], *, runs: bool) -> dict[str, Any]:
    """Road everywhere, then one label per pixel that is none; the border is "ego vehicle", which is void."""
    height, width = len(drawing), len(drawing[0])
    names = {"c": "car", "p": "person", "v": "ego vehicle"}
    boxes = [("road", (0, 0, width, height))] + [
        (names[letter], (column, row, column + 1, row + 1))
        for row, letters in enumerate(drawing)
        for column, letter in enumerate(letters)
        if letter != "r"
    ]
    labels = []
    for index, (category, box) in enumerate(boxes):
        left, top, right, bottom = box
        vertices = [[left, top], [right, top], [right, bottom], [left, bottom]]
        label: dict[str, Any] = {"id": str(index), "category": category}
        if runs:
            covered = np.zeros((height, width), np.uint8)
            covered[top:bottom, left:right] = 1
            label["rle"] = {"counts": coco_counts(covered), "size": [height, width]}
        else:
            label["poly2d"] = [{"vertices": vertices, "types": "LLLL", "closed": index % 2 == 0}]
        labels.append(label)
    return {"name": name, "size": {"height": height, "width": width}, "labels": labels}


def coco_counts(mask: np.ndarray) -> str:
    """COCO's compressed run lengths of a (H, W) mask of 0 and 1."""
    from pycocotools import mask as coco_mask

    counts: str = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    return counts


def write_sbd(root: Path, *, names: tuple[str, ...], split: str = "train") -> None:
    """SBD's tree: 1 x 1 structs in MATLAB files; every mask is the SCENE with its border as background: SBD has none."""
    from scipy.io import savemat

    mask = _values(SCENE, {"r": 0, "c": 7, "p": 15, "v": 0})
    (root / "cls").mkdir(parents=True, exist_ok=True)
    for name in names:
        savemat(root / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask, "Boundaries": np.zeros(20)}})
        _save(root / "img" / f"{name}.jpg", _photo((4, 6)))
    lists = {"train": (), "val": ()} | {split: names}
    for each, listed in lists.items():
        with (root / f"{each}.txt").open("a") as file:
            file.writelines(f"{name}\n" for name in listed)


def write_camvid(root: Path, *, tree: str = "images") -> dict[str, Any]:
    """``tree="images"``: images/<split> and masks/<split>. "segnet": CamVid/<split> and CamVid/<split>annot. Void is 11.

    "ids": images and labels with the 32 ids, as fastai has them. "colors": the owner's two folders, masks in RGB.
    """
    if tree in ("ids", "colors"):
        return _write_original_camvid(root, tree)
    values = {"r": 3, "c": 8, "p": 9, "v": 11}
    for split, drawing in (("train", SCENE), ("val", PLAIN), ("test", SCENE)):
        if tree == "images":
            image, mask = root / "images" / split / f"{split}_1.jpg", root / "masks" / split / f"{split}_1.png"
        else:
            image = root / "CamVid" / split / f"{split}_1.png"
            mask = root / "CamVid" / f"{split}annot" / f"{split}_1.png"
        stored = _values(drawing, values)
        _save(image, _photo(stored.shape))
        _save(mask, Image.fromarray(stored))
    return {"root": str(root)}


CAMVID_FRAMES = {"train": "0016E5_00390", "val": "0016E5_07959", "test": "Seq05VD_f00000"}


def _write_original_camvid(root: Path, tree: str) -> dict[str, Any]:
    # Ids and colors as the owner's list has them: LaneMkgsDriv, SUVPickupTruck, Child, Void.
    ids = {"r": 10, "c": 22, "p": 7, "v": 30}
    colors = {"r": (128, 0, 192), "c": (64, 128, 192), "p": (192, 128, 64), "v": (0, 0, 0)}
    images, masks = ("images", "labels") if tree == "ids" else ("701_StillsRaw_full", "LabeledApproved_full")
    for split, drawing in (("train", SCENE), ("val", PLAIN), ("test", SCENE)):
        frame = CAMVID_FRAMES[split]
        _save(root / images / f"{frame}.png", _photo((len(drawing), len(drawing[0]))))
        if tree == "ids":
            _save(root / masks / f"{frame}_P.png", Image.fromarray(_values(drawing, ids)))
        else:
            _save(root / masks / f"{frame}_L.png", Image.fromarray(_drawn(drawing, colors).astype(np.uint8)))
    return {"root": str(root)}


def write_ade20k(root: Path, *, base: str = "ADEChallengeData2016") -> dict[str, Any]:
    """The benchmark's tree: wall is 1 and class 0, sky is 3, flag is 150, 0 is ignored; a test image without mask."""
    values = {"r": 1, "c": 3, "p": 150, "v": 0}
    for split, folder, drawing in (("train", "training", SCENE), ("val", "validation", PLAIN)):
        name = f"ADE_{split}_00000001"
        _save(root / base / "images" / folder / f"{name}.jpg", _photo((len(drawing), len(drawing[0]))))
        _save(root / base / "annotations" / folder / f"{name}.png", Image.fromarray(_values(drawing, values)))
    _save(root / "release_test" / "testing" / "ADE_test_00000001.jpg", _photo((4, 6)))
    return {"root": str(root)}


FOLDER_COLORS = {"r": (128, 64, 128), "c": (0, 0, 142), "p": (220, 20, 60), "v": (0, 0, 0)}


def write_folder(root: Path, *, kind: str = "L") -> dict[str, Any]:
    """A user's own images: road is 7, car 26, person 24 or 25, void 0; ``kind`` L, P, I;16 (a hundredfold) or RGB."""
    scale = 100 if kind == "I;16" else 1
    values = {letter: scale * value for letter, value in {"r": 7, "c": 26, "p": 25, "v": 0}.items()}
    for split, drawing in (("train", SCENE), ("val", PLAIN)):
        _save(root / "images" / split / f"{split}_1.jpg", _photo((len(drawing), len(drawing[0]))))
        if kind == "RGB":
            mask = Image.fromarray(_drawn(drawing, FOLDER_COLORS).astype(np.uint8))
        elif kind == "I;16":
            mask = Image.fromarray(_drawn(drawing, values).astype(np.uint16))
        else:
            mask = _with_palette(_values(drawing, values)) if kind == "P" else Image.fromarray(_values(drawing, values))
        _save(root / "masks" / split / f"{split}_1.png", mask)
    labels = [("road", "r", [7]), ("person", "p", [24, 25]), ("car", "c", [26])]
    table = {
        "labels": [
            {"name": name, "color": list(FOLDER_COLORS[letter]), "values": [scale * value for value in stored]}
            for name, letter, stored in labels
        ],
        "ignored_values": [0],
    }
    (root / "labels.yaml").write_text(yaml.safe_dump(table))
    return {"root": str(root)}


def write_toyscenes(root: Path) -> dict[str, Any]:
    """Painted by the dataset itself, as small as it goes."""
    arguments = {"root": str(root / "ToyScenes"), "size": (64, 64), "counts": (2, 1, 1)}
    build_dataset("ToyScenes", **arguments).prepare()
    return arguments


FAKES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "VOC": write_voc,
    "COCO": write_coco,
    "Cityscapes": write_cityscapes,
    "BDD100K": write_bdd100k,
    "CamVid": write_camvid,
    "ADE20K": write_ade20k,
    "Folder": write_folder,
    "ToyScenes": write_toyscenes,
}


def _expected(name: str, size: tuple[int, int], pixels: Mapping[str, int], classes: Mapping[str, int]) -> Expected:
    return Expected(name, size, {classes[letter]: count for letter, count in pixels.items()})


_VOC = {"r": 0, "c": 7, "p": 15, "v": 255}
_COCO = {"r": 0, "c": 7, "p": 15, "chair": 9}
_CAMVID = {"r": 3, "c": 8, "p": 9, "v": 255}
_ADE20K = {"r": 0, "c": 2, "p": 149, "v": 255}
_FOLDER = {"r": 0, "p": 1, "c": 2, "v": 255}
EXPECTED: dict[str, dict[str, list[Expected]]] = {
    "VOC": {
        "train": [_expected("2007_000001", (4, 6), SCENE_PIXELS, _VOC)],
        "val": [_expected("2007_000002", (3, 5), PLAIN_PIXELS, _VOC)],
        "trainval": [
            _expected("2007_000002", (3, 5), PLAIN_PIXELS, _VOC),
            _expected("2007_000001", (4, 6), SCENE_PIXELS, _VOC),
        ],
        "test": [Expected("2008_000003", (4, 6), None)],
    },
    "COCO": {
        "train": [
            _expected("000000000001", (4, 6), {"r": 21, "c": 1, "p": 2}, _COCO),
            _expected("000000000002", (3, 5), {"r": 15}, _COCO),
        ],
        "val": [_expected("000000000003", (3, 5), {"r": 5, "p": 6, "chair": 4}, _COCO)],
    },
    "Cityscapes": {
        "train": [_expected("aachen_000000_000019", (4, 6), SCENE_PIXELS, CITYSCAPES_TRAIN_IDS)],
        "val": [_expected("frankfurt_000001_083852", (3, 5), PLAIN_PIXELS, CITYSCAPES_TRAIN_IDS)],
        "test": [Expected("berlin_000007_000019", (4, 6), None)],
    },
    "BDD100K": {
        "train": [_expected("0004a4c0-d4dff0ad", (4, 6), SCENE_PIXELS, BDD_TRAIN_IDS)],
        "val": [_expected("7d06fefd-f7be05a6", (3, 5), PLAIN_PIXELS, BDD_TRAIN_IDS)],
        "test": [Expected("cabc30fc-e7726578", (4, 6), None)],
    },
    "CamVid": {
        "train": [_expected("train_1", (4, 6), SCENE_PIXELS, _CAMVID)],
        "val": [_expected("val_1", (3, 5), PLAIN_PIXELS, _CAMVID)],
        "test": [_expected("test_1", (4, 6), SCENE_PIXELS, _CAMVID)],
    },
    "ADE20K": {
        "train": [_expected("ADE_train_00000001", (4, 6), SCENE_PIXELS, _ADE20K)],
        "val": [_expected("ADE_val_00000001", (3, 5), PLAIN_PIXELS, _ADE20K)],
        "test": [Expected("ADE_test_00000001", (4, 6), None)],
    },
    "Folder": {
        "train": [_expected("train_1", (4, 6), SCENE_PIXELS, _FOLDER)],
        "val": [_expected("val_1", (3, 5), PLAIN_PIXELS, _FOLDER)],
    },
    "ToyScenes": {
        "train": [Expected("train_0000", (64, 64), None), Expected("train_0001", (64, 64), None)],
        "val": [Expected("val_0000", (64, 64), None)],
        "test": [Expected("test_0000", (64, 64), None)],
    },
}


def _drawn(drawing: tuple[str, ...], values: Mapping[str, Any]) -> np.ndarray:
    return np.array([[values[letter] for letter in row] for row in drawing])


def _values(drawing: tuple[str, ...], values: Mapping[str, int]) -> np.ndarray:
    return _drawn(drawing, values).astype(np.uint8)


def _photo(size: tuple[int, ...]) -> Image.Image:
    """Any image: a slope of light from the left to the right, red at its top."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    light = 40 + 170 * columns // max(size[1] - 1, 1)
    return Image.fromarray(np.stack([light + 5 * (rows == 0), light, light], -1).astype(np.uint8))


def _with_palette(stored: np.ndarray) -> Image.Image:
    """A palette image in any colors: whoever reads the colors instead of the indices gets nonsense."""
    image = Image.fromarray(stored)
    image.putpalette([channel for index in range(256) for channel in (255 - index, index, 7)])
    return image


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


assert set(DATASETS) >= set(FAKES), "a fake without its dataset"
