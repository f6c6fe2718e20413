"""Tiny data sets in the real layouts, with masks drawn by hand: one writer per dataset, and what reading it must give."""

from collections.abc import Callable, Mapping
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
    """The devkit: road is background, car is 7, person is 15, the border 255; the mask of val is grey, not a palette."""
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
    # Ids and colours as the owner's list has them: LaneMkgsDriv, SUVPickupTruck, Child, Void.
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
    """The benchmark's tree: wall is 1 and class 0, sky is 3, flag is 150, 0 is ignored; a test picture without mask."""
    values = {"r": 1, "c": 3, "p": 150, "v": 0}
    for split, folder, drawing in (("train", "training", SCENE), ("val", "validation", PLAIN)):
        name = f"ADE_{split}_00000001"
        _save(root / base / "images" / folder / f"{name}.jpg", _photo((len(drawing), len(drawing[0]))))
        _save(root / base / "annotations" / folder / f"{name}.png", Image.fromarray(_values(drawing, values)))
    _save(root / "release_test" / "testing" / "ADE_test_00000001.jpg", _photo((4, 6)))
    return {"root": str(root)}


FOLDER_COLORS = {"r": (128, 64, 128), "c": (0, 0, 142), "p": (220, 20, 60), "v": (0, 0, 0)}


def write_folder(root: Path, *, kind: str = "L") -> dict[str, Any]:
    """A user's own pictures: road is 7, car 26, person 24 or 25, void 0; ``kind`` L, P, I;16 (a hundredfold) or RGB."""
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
    "CamVid": write_camvid,
    "ADE20K": write_ade20k,
    "Folder": write_folder,
    "ToyScenes": write_toyscenes,
}


def _expected(name: str, size: tuple[int, int], pixels: Mapping[str, int], classes: Mapping[str, int]) -> Expected:
    return Expected(name, size, {classes[letter]: count for letter, count in pixels.items()})


_VOC = {"r": 0, "c": 7, "p": 15, "v": 255}
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
    """Any picture: a slope of light from the left to the right, red at its top."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    light = 40 + 170 * columns // max(size[1] - 1, 1)
    return Image.fromarray(np.stack([light + 5 * (rows == 0), light, light], -1).astype(np.uint8))


def _with_palette(stored: np.ndarray) -> Image.Image:
    """A palette picture in any colours: whoever reads the colours instead of the indices gets nonsense."""
    picture = Image.fromarray(stored)
    picture.putpalette([channel for index in range(256) for channel in (255 - index, index, 7)])
    return picture


def _save(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


assert set(DATASETS) >= set(FAKES), "a fake without its dataset"
