"""The check on real images: clean datasets have no findings, and common encodings are recognized."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from imageseg.checking.faults.table import findings
from imageseg.checking.finding import Finding, Severity
from imageseg.checking.label_table import labels_text
from imageseg.checking.scan import Scan, scan
from imageseg.datasets import build_dataset
from imageseg.images import read_mask
from imageseg.labels import LabelSpace

pytestmark = pytest.mark.samples


def arranged(root: Path, images: Iterable[Path], masks: Iterable[Path]) -> Path:
    """Copy files into a Folder; the first image is val, the others are train."""
    for index, pair in enumerate(zip(sorted(images), sorted(masks), strict=True)):
        for kind, path in zip(("images", "masks"), pair, strict=True):
            folder = root / kind / ("train" if index else "val")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder)
    return root


def scanned(root: Path, name: str = "Folder") -> Scan:
    return scan(build_dataset(name, root), workers=1)


def serious(root: Path) -> list[Finding]:
    """Errors and warnings, without the class that a handful of images in train cannot show."""
    found = [finding for finding in findings(scanned(root)) if finding.severity is not Severity.NOTE]
    return [finding for finding in found if finding.code != "class_not_in_train"]


def proposed(root: Path) -> LabelSpace:
    """The proposed table, after it was written to the root and the check found nothing with it."""
    checked = scanned(root)
    text = labels_text(checked, findings(checked))
    assert text is not None
    (root / "labels.yaml").write_text(text)
    assert serious(root) == []
    return LabelSpace.from_dict(yaml.safe_load(text))


def test_camvid_is_clean(samples: Path) -> None:
    assert findings(scan(build_dataset("CamVid", samples / "camvid"))) == []


def test_pet_trimaps_start_at_one_and_their_border_is_ignored(samples: Path, tmp_path: Path) -> None:
    pets = samples / "oxford_pets_sample"
    root = arranged(tmp_path, pets.glob("images/*.jpg"), pets.glob("trimaps/*.png"))
    rows = [
        {"name": name, "color": [9, 9, index], "values": [index]} for index, name in enumerate(("pet", "other", "edge"))
    ]
    (root / "labels.yaml").write_text(yaml.safe_dump({"labels": rows}))
    (shifted,) = serious(root)
    assert (shifted.code, len(shifted.places)) == ("shifted_ids", 5)
    assert "3 separates the two others" in shifted.meaning
    assert [label.values for label in proposed(root).labels] == [(1,), (2,), (3,)]
    (root / "labels.yaml").unlink()
    labels = proposed(root)
    assert [(label.name, label.values) for label in labels.labels] == [("background", (2,)), ("foreground", (1,))]
    assert 3 in labels.ignored_values


def test_masks_of_colors_get_a_table_of_these_colors(samples: Path, tmp_path: Path) -> None:
    context = samples / "refinenet_examples/Context"
    root = arranged(tmp_path, context.glob("*.jpg"), context.glob("*.png"))
    (root / "labels.yaml").write_text("labels: [{name: road, color: [1, 2, 3], values: [0]}]")
    assert [(finding.code, len(finding.places)) for finding in serious(root)] == [("rgb_mask", 4)]
    labels = proposed(root)
    assert len(labels) == 20  # black stays ignored, as the table said
    assert labels.labels[6].color == (192, 128, 128)  # VOC's color of a person
    assert labels.names[6] == "value_15"
    (root / "labels.yaml").unlink()
    assert len(proposed(root)) == 21


@pytest.mark.parametrize("folder", ["labelme_voc/semantic_segmentation/data_dataset_voc", "refinenet_examples/VOC"])
def test_palette_masks_of_others_are_ids(folder: str, samples: Path, tmp_path: Path) -> None:
    images = [*(samples / folder).glob("*.jpg"), *(samples / folder / "JPEGImages").glob("*.jpg")]
    masks = [*(samples / folder).glob("*.png"), *(samples / folder / "SegmentationClass").glob("*.png")]
    root = arranged(tmp_path, images, masks)
    assert [finding.code for finding in serious(root)] == ["no_label_table"]
    labels = proposed(root)
    assert 255 in labels.ignored_values
    assert "value_15" in labels.names
    assert "palette_mask" in {finding.code for finding in findings(scanned(root))}


def test_frames_of_bdd_are_clean(samples: Path, tmp_path: Path) -> None:
    base = samples / "bdd100k_sample"
    for split in ("train", "val"):
        shutil.copytree(base / "images/10k" / split, tmp_path / "images" / split)
        shutil.copytree(base / "labels/sem_seg/colormaps" / split, tmp_path / "masks" / split)
    proposed(tmp_path)


def test_cityscapes_label_ids_under_train_ids_are_recognized(samples: Path, tmp_path: Path) -> None:
    city = samples / "cityscapes"
    images = sorted(city.glob("leftImg8bit/train/*/*.png"))[:2]
    if not images:
        pytest.skip("no Cityscapes images in the samples")
    for index, image in enumerate(images):
        stem = image.stem.removesuffix("_leftImg8bit")
        (mask,) = city.glob(f"gtFine/train/*/{stem}_gtFine_labelIds.png")
        for kind, path in (("images", image), ("masks", mask)):
            target = tmp_path / kind / ("train" if index else "val") / f"{stem}.png"
            target.parent.mkdir(parents=True)
            shutil.copy(path, target)
    rows = [{"name": f"class {index}", "color": [index, 0, 9], "values": [index]} for index in range(19)]
    (tmp_path / "labels.yaml").write_text(yaml.safe_dump({"labels": rows}))
    assert [finding.code for finding in serious(tmp_path)] == ["label_ids_as_train_ids"]
    proposed(tmp_path)


@pytest.mark.parametrize("scale", [0.5, 1.5])
def test_masks_that_were_resized_with_interpolation_are_found(scale: float, samples: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for path in sorted((samples / "camvid/masks" / split).glob("*.png"))[:2]:
            smooth = cv2.resize(read_mask(path), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR_EXACT)
            image = samples / "camvid/images" / split / f"{path.stem}.jpg"
            for folder in ("images", "masks"):
                (tmp_path / folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(smooth)).save(tmp_path / "masks" / split / path.name)
            with Image.open(image) as opened:
                opened.resize(smooth.shape[::-1]).save(tmp_path / "images" / split / image.name)
    found = [finding for finding in findings(scanned(tmp_path, "CamVid")) if finding.severity is not Severity.NOTE]
    assert [(finding.code, len(finding.places)) for finding in found] == [("smoothed_mask", 4)]


@pytest.mark.parametrize("back", [False, True], ids=["halved", "halved and doubled"])
def test_pets_that_were_resized_with_interpolation_are_found(back: bool, samples: Path, tmp_path: Path) -> None:
    pets = samples / "oxford_pets_sample"
    root = arranged(tmp_path, pets.glob("images/*.jpg"), pets.glob("trimaps/*.png"))
    rows = [{"name": str(value), "color": [9, 9, value], "values": [value]} for value in (1, 2, 3)]
    (root / "labels.yaml").write_text(yaml.safe_dump({"labels": rows}))
    assert serious(root) == []
    for path in root.glob("masks/*/*.png"):
        stored = read_mask(path)
        smooth = cv2.resize(stored, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR)
        if back:
            smooth = cv2.resize(smooth, stored.shape[::-1], interpolation=cv2.INTER_LINEAR)
        Image.fromarray(np.asarray(smooth)).save(path)
        image = root / "images" / path.parent.name / f"{path.stem}.jpg"
        with Image.open(image) as opened:
            resized = opened.convert("RGB").resize(smooth.shape[::-1])
        resized.save(image)
    (smoothed,) = serious(root)
    assert (smoothed.code, len(smoothed.places)) == ("smoothed_mask", 5)
