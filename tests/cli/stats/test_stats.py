"""imageseg stats: tables, JSON, chart, and printed weights that training accepts."""

import json
import math
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import write_ade20k, write_camvid, write_folder, write_voc
from PIL import Image

from imageseg.cli import main
from imageseg.cli.arguments import recipe_from


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imageseg"


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """The fake VOC: two objects in train, none in val, no masks in test."""
    root = Path(write_voc(tmp_path / "voc")["root"])
    folder = root / "VOCdevkit/VOC2012/SegmentationObject"
    folder.mkdir()
    Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).save(folder / "2007_000001.png")
    return root


def json_of(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict:
    assert main(["stats", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_json_equals_the_counts_made_by_hand(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(["VOC", "--root", str(voc)], capsys)
    assert (found["version"], found["dataset"], found["root"], found["split"]) == (1, "VOC", str(voc), "train")
    assert {split: (row["images"], row["objects"]) for split, row in found["splits"].items()} == {
        "train": (1, 2),
        "val": (1, None),
        "test": (1, None),
        "trainval": (2, 2),
    }
    assert found["splits"]["trainval"]["images_with_known_objects"] == 1
    assert (found["masks"], found["valid_pixels"], found["ignored_pixels"]) == (1, 19, 5)
    assert list(found["classes"])[:2] == ["background", "aeroplane"]
    assert found["classes"]["background"] == {"pixels": 16, "pixel_share": 16 / 19, "images": 1, "image_share": 1.0}
    assert found["classes"]["aeroplane"] == {"pixels": 0, "pixel_share": 0.0, "images": 0, "image_share": 0.0}
    assert set(found["weights"]) == {"median_frequency", "enet", "effective_number"}
    # 16, 1 and 2 of 19 pixels: the median is person's.
    expected = [None] * 21
    expected[0], expected[7], expected[15] = 2 / 16, 2.0, 1.0
    assert found["weights"]["median_frequency"] == pytest.approx(expected)


def test_a_single_split(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(["VOC", "--root", str(voc), "--split", "val"], capsys)
    assert list(found["splits"]) == ["val"]
    assert found["split"] == "val"
    assert found["classes"]["background"]["pixels"] == 13


def test_the_tables_list_splits_and_classes(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "VOC", "--root", str(voc)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == f"VOC in {voc}"
    tables = [" ".join(line.split()) for line in lines]
    for row in ("train 1 2", "val 1 -", "test 1 - no masks", "trainval 2 2 objects of 1 images"):
        assert row in tables
    assert "train: 1 mask, 19 valid pixels, 20.8 % of all pixels ignored" in tables
    assert next(row for row in tables if row.startswith("car ")).startswith("car 5.3 % █ 100.0 % 2.000")
    assert next(row for row in tables if row.startswith("bus ")) == "bus 0 % 0 % - - -"
    assert "No pixel is aeroplane, bicycle, bird, boat, bottle or 13 more: its weight below is 1." in tables
    assert all(len(line) <= 100 for line in lines if not line.startswith(("--task", "VOC in")))


@pytest.mark.parametrize(
    ("rule", "first"), [("median_frequency", 2 / 16), ("enet", 1 / math.log(1.02 + 16 / 19)), ("effective_number", 1.0)]
)
def test_training_accepts_the_printed_weights(
    voc: Path, capsys: pytest.CaptureFixture[str], rule: str, first: float
) -> None:
    assert main(["stats", "VOC", "--root", str(voc), "--weights", rule]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("--task.class_weights '[")
    recipe = recipe_from(["--use", "VOC", "--model", "UNet", *shlex.split(line)], program="imageseg train")
    weights = recipe.task["class_weights"]
    assert len(weights) == 21
    assert weights[0] == pytest.approx(first, abs=0.001)
    assert weights[1] == 1.0  # it does not occur


def test_weights_of_150_classes_stay_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "ADE20K", *shlex.split(f"--root {write_ade20k(tmp_path / 'ade')['root']}")]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.count(",") == 149


def test_files_without_partner_are_left_out_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    (root / "masks/val/val_1.png").rename(root / "masks/val/other.png")
    assert main(["stats", "Folder", "--root", str(root)]) == 3
    printed = capsys.readouterr()
    assert printed.err == (
        f"imageseg: left out of val: 1 image without mask, 1 mask without image; 'imageseg check Folder --root {root}' "
        "lists them\n"
    )
    assert "2 left out" in printed.out
    found = json_of(["Folder", "--root", str(root)], capsys, code=3)
    assert (found["splits"]["val"]["without_mask"], found["splits"]["val"]["without_image"]) == (1, 1)


def test_images_without_masks_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    (root / "test.txt").write_text("images/train/train_1.jpg\nimages/val/val_1.jpg\n")
    found = json_of(["Folder", "--root", str(root)], capsys)
    assert found["splits"] == {
        "test": {
            "images": 2,
            "objects": None,
            "images_with_known_objects": None,
            "without_mask": 0,
            "without_image": 0,
        }
    }
    assert "classes" not in found
    assert main(["stats", "Folder", "--root", str(root)]) == 0
    assert "no masks" in capsys.readouterr().out


def test_the_chart_is_an_image_of_all_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / "charts" / "camvid.png"
    arguments = ["stats", "CamVid", "--root", write_camvid(tmp_path / "camvid")["root"], "--chart", str(chart)]
    assert main(arguments) == 0
    assert capsys.readouterr().err == f"chart written to {chart}\n"
    with Image.open(chart) as image:
        assert (image.format, image.mode) == ("PNG", "RGBA")
        colors = {color[:3] for _, color in image.getcolors(1 << 20) or []}
    assert {(128, 64, 128), (64, 0, 128), (64, 64, 0)} <= colors  # road, car, pedestrian
    assert (128, 0, 0) not in colors  # no building in it


def test_a_class_can_have_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(write_folder(tmp_path / "data")["root"])
    table = (root / "labels.yaml").read_text()
    (root / "labels.yaml").write_text(table.replace("name: car", 'name: "a$b[/]_\\u8eca"'))
    assert main(["stats", "Folder", "--root", str(root), "--chart", str(tmp_path / "chart.png")]) == 0
    assert "a$b[/]_車" in capsys.readouterr().out


def test_the_cache_is_used_unless_disabled(voc: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = json_of(["VOC", "--root", str(voc), "--no-cache"], capsys)
    assert not cache.exists()
    assert json_of(["VOC", "--root", str(voc)], capsys) == first
    kept = {path: path.read_text() for path in cache.rglob("*.json")}
    assert len(kept) == 5  # the objects of four splits, the classes of one
    for path, text in kept.items():
        path.write_text(text.replace("[16, 1, 2]", "[17, 1, 2]"))
    assert json_of(["VOC", "--root", str(voc)], capsys)["classes"]["background"]["pixels"] == 17
    assert json_of(["VOC", "--root", str(voc), "--no-cache"], capsys) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "valid"], "no split 'valid'; it has"),
        (["--split", "test"], "VOC test: no image has a mask, so that no classes can be counted; pass another --split"),
        (["--chart", "chart.pdf"], "chart.pdf: charts are written as PNG only; pass a name such as chart.png"),
        (["--beta", "1"], "--beta must be at least 0 and below 1, found 1.0"),
        (["--weights", "focal"], "invalid choice: 'focal'"),
        (["--root", "nowhere"], "VOC2012: nowhere does not exist"),
    ],
)
def test_invalid_usage_is_a_one_line_error(
    voc: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["stats", "VOC", "--root", str(voc), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_without_matplotlib_the_error_shows_how_to_install_it(
    voc: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["stats", "VOC", "--root", str(voc), "--chart", "chart.png"]) == 2
    assert "--chart requires matplotlib; run: pip install 'matplotlib>=3.9'" in capsys.readouterr().err


@pytest.mark.samples
def test_vocs_lists_give_the_published_counts(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The official lists with images of one pixel: 209 and 213 images; two objects in the first, none in the others."""
    base = tmp_path / "VOCdevkit/VOC2007"
    shutil.copytree(samples / "voc2007_lists", base / "ImageSets/Segmentation")
    names = sorted((base / "ImageSets/Segmentation/trainval.txt").read_text().split())
    names += (base / "ImageSets/Segmentation/test.txt").read_text().split()
    one, two = Image.new("L", (1, 1)), Image.fromarray(np.array([[3, 9]], np.uint8))
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (base / folder).mkdir()
    for name in names:
        (base / "JPEGImages" / f"{name}.jpg").touch()
        one.save(base / "SegmentationClass" / f"{name}.png")
        (two if name == names[0] else one).save(base / "SegmentationObject" / f"{name}.png")
    found = json_of(["VOC", "--root", str(tmp_path), "--year", "2007", "--workers", "1"], capsys)
    counts = {split: (row["images"], row["objects"]) for split, row in found["splits"].items()}
    in_train = names[0] in (base / "ImageSets/Segmentation/train.txt").read_text().split()
    assert counts == {
        "train": (209, 2 * in_train),
        "val": (213, 2 * (not in_train)),
        "test": (210, 0),
        "trainval": (422, 2),
    }
