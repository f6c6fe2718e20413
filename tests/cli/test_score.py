"""imageseg score: folders in, scores out, by any dialect, as text and as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fakes import FAKES, write_fake
from PIL import Image

from imageseg import build_dataset
from imageseg.cli import main
from imageseg.scoring.dialects import DIALECTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The fake of one's own images; its train mask is 16 road, 1 car, 2 persons and 5 void."""
    write_fake("Folder", tmp_path / "mine")
    return tmp_path / "mine"


def predict(folder: Path, values: Any, name: str = "train_1") -> Path:
    out = folder.parent / "out"
    out.mkdir(exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(out / f"{name}.png")
    return out


ALL_ROAD = np.full((4, 6), 7)


def score(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["score", *map(str, arguments), "--workers", "1", "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_a_folder_of_truth_and_one_of_predictions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = predict(folder, ALL_ROAD)
    truth = folder / "masks" / "train"
    scores = score(capsys, "--dataset", "Folder", "--root", folder, "--split", "train", "--predictions", out)
    assert scores["dialect"] == "default"
    assert scores["version"] == 1
    assert scores["images"] == 1
    assert scores["iou"] == {"road": pytest.approx(16 / 19), "person": 0.0, "car": 0.0}
    assert scores["miou"] == pytest.approx(16 / 19 / 3)
    assert scores["pixel_accuracy"] == pytest.approx(16 / 19)
    labels = ("--labels", folder / "labels.yaml")
    assert score(capsys, "--dataset", "Folder", "--truth", truth, "--predictions", out, *labels) == scores


def test_class_indices_score_as_stored_values_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--dataset", "Folder", "--root", folder, "--split", "train", "--predictions")
    stored = score(capsys, *base, predict(folder, ALL_ROAD))
    assert score(capsys, *base, predict(folder, np.zeros((4, 6))), "--stored", "classes") == stored
    assert main([*map(str, ("score", *base, folder.parent / "out")), "--json"]) == 0
    captured = capsys.readouterr()
    assert "pass --stored classes" in captured.err
    assert json.loads(captured.out)["miou"] == 0


def test_any_dialect_and_all_of_them_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = predict(folder, ALL_ROAD)
    base = ("--dataset", "Folder", "--root", folder, "--split", "train", "--predictions", out)
    explained = score(capsys, *base, "--dialect", "paddleseg", "--explain")
    assert explained["dialect"] == "paddleseg"
    assert set(explained["dialects"]) == set(DIALECTS)
    assert all(entry["rule"] and entry["source"] for entry in explained["dialects"].values())
    assert explained["dialects"]["default"]["miou"] == pytest.approx(16 / 19 / 3)
    assert any("mean precision" in reason for reason in explained["reasons"])


def test_the_text_reads_as_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = predict(folder, ALL_ROAD)
    arguments = ["--dataset", "Folder", "--root", str(folder), "--split", "train", "--predictions", str(out)]
    assert main(["score", *arguments, "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("road") and "0.842" in line for line in lines)
    assert any(line.startswith("mIoU") and line.endswith("0.281") for line in lines)
    assert any(line.startswith("per_image") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --dataset/--use, --predictions"),
        (["--dataset", "Folder", "--predictions", "out"], "needs --truth, a folder of masks, or --root"),
        (["--dataset", "Foldre", "--truth", "t", "--predictions", "o"], "no dataset is called 'Foldre'"),
        (
            ["--dataset", "Folder", "--truth", "t", "--predictions", "o", "--dialect", "coco"],
            "no metric protocol is called 'coco'",
        ),
        (["--dataset", "Folder", "--truth", "t", "--predictions", "o"], "t: no such folder"),
        (
            ["--dataset", "Folder", "--truth", "t", "--predictions", "o", "--tolerance", "3"],
            "--tolerance requires --boundary",
        ),
        (
            ["--dataset", "Folder", "--truth", "t", "--predictions", "o", "--boundary", "--tolerance", "-1"],
            "--tolerance must be a number",
        ),
        (["--dataset", "Folder", "--root", "mine", "--predictions", "o"], "o: no such folder"),
        (
            ["--dataset", "Folder", "--root", "mine", "--predictions", "mine/images/train"],
            "1 of 1 masks have no prediction",
        ),
        (["--dataset", "Folder", "--truth", "t", "--predictions", "o", "--yaer", "7"], "has a flag --yaer"),
        (["--dataset", "Folder", "--root", "mine", "--split", "tset", "--predictions", "o"], "no split 'tset'"),
    ],
)
def test_wrong_use_is_one_line(
    folder: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(["score", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


def test_the_users_own_table_may_be_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {
        "labels": [{"name": "all", "color": [1, 2, 3], "values": [7, 24, 25, 26]}],
        "ignored_values": [0],
    }
    (folder / "one.yaml").write_text(yaml.safe_dump(table))
    out = predict(folder, ALL_ROAD)
    base = ("--dataset", "Folder", "--root", folder, "--split", "train", "--predictions", out)
    assert score(capsys, *base, "--labels", folder / "one.yaml")["miou"] == 1


@pytest.fixture
def camera(tmp_path: Path) -> dict[str, Path]:
    """Twelve images of two classes: one set of predictions is right but for a tenth, the other but for a third."""
    rng = np.random.default_rng(0)
    root = tmp_path / "camera"
    for folder in ("images/val", "masks/val", "good", "bad"):
        (root / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.repeat(rng.integers(0, 2, (8, 6), dtype=np.uint8), 4, axis=1)
        Image.fromarray(np.zeros((*mask.shape, 3), np.uint8)).save(root / f"images/val/{number}.png")
        Image.fromarray(mask).save(root / f"masks/val/{number}.png")
        for folder, share in (("good", 0.1), ("bad", 0.33)):
            wrong = rng.random(mask.shape) < share
            Image.fromarray(np.where(wrong, 1 - mask, mask)).save(root / folder / f"{number}.png")
            confidence = np.full(mask.shape, 230, np.uint8)
            Image.fromarray(confidence).save(root / folder / f"{number}_confidence.png")
    labels = [{"name": name, "color": [v, v, v], "values": [v]} for v, name in enumerate(("sky", "ground"))]
    (root / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    return {name: root / name for name in ("", "good", "bad")}


def test_how_sure_and_whether_better(camera: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--dataset", "Folder", "--root", camera[""], "--predictions")
    scores = score(capsys, *base, camera["good"], "--against", camera["bad"])
    assert scores["interval"]["low"] < scores["miou"] < scores["interval"]["high"]
    assert scores["interval"]["estimate"] == pytest.approx(scores["miou"])
    against = scores["against"]
    assert against["miou_b"] == pytest.approx(scores["miou"])
    assert against["miou_a"] == pytest.approx(score(capsys, *base, camera["bad"])["miou"])
    assert against["difference"]["estimate"] == pytest.approx(against["miou_b"] - against["miou_a"])
    assert against["difference"]["low"] > 0.2
    assert against["p_value"] < 0.01
    same = score(capsys, *base, camera["good"], "--against", camera["good"])["against"]
    assert (same["difference"]["estimate"], same["p_value"]) == (0, 1)


def test_boundaries_and_calibration(camera: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--dataset", "Folder", "--root", camera[""], "--predictions", camera["good"])
    scores = score(capsys, *base, "--boundary", "--calibration")
    assert set(scores["boundary_iou"]["iou"]) == {"sky", "ground"}
    assert [entry["radius"] for entry in scores["trimap"]["curve"]] == [1, 2, 4, 8, 16, 32]
    assert 0 < scores["boundary_f"]["mean_f"] < 1
    strict = score(capsys, *base, "--boundary", "--tolerance", 0)["boundary_f"]["mean_f"]
    loose = score(capsys, *base, "--boundary", "--tolerance", 5)["boundary_f"]["mean_f"]
    assert strict < loose
    assert scores["calibration"]["confidence"] == pytest.approx(230 / 255)
    assert scores["calibration"]["ece"] == pytest.approx(abs(230 / 255 - scores["pixel_accuracy"]))
    arguments = [*map(str, base), "--boundary", "--calibration", "--against", str(camera["bad"])]
    assert main(["score", *arguments]) == 0
    text = capsys.readouterr().out
    for line in ("95% interval of mIoU", "boundary mIoU", "mIoU within 32 px", "ECE", "difference", "p  "):
        assert f"\n{line}" in text


def test_the_mean_over_images_has_no_interval(camera: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base = ("--dataset", "Folder", "--root", camera[""], "--predictions", camera["good"])
    assert "interval" not in score(capsys, *base, "--dialect", "per_image")
    assert main(["score", *map(str, base), "--dialect", "per_image", "--against", str(camera["bad"])]) == 2
    assert "--against compares mIoU over complete sets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("VOC", {}),
        ("COCO", {}),
        ("Cityscapes", {}),
        ("Cityscapes", {"kind": "labelTrainIds"}),
        ("BDD100K", {}),
        ("BDD100K", {"tree": "seg"}),
        ("CamVid", {}),
        ("CamVid", {"tree": "ids"}),
        ("CamVid", {"tree": "colors"}),
        ("ADE20K", {}),
    ],
)
def test_every_dataset_scores_predictions_that_bear_the_names_of_its_images(
    name: str, arguments: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The truth itself, in class indices, is a perfect prediction, whatever the masks' own names and values are."""
    dataset = build_dataset(name, **FAKES[name](tmp_path / "data", **arguments))
    samples, out = dataset.samples("val"), tmp_path / "out"
    out.mkdir()
    for index, pair in enumerate(samples.pairs):
        classes = samples.read(index)[1]
        Image.fromarray(np.where(classes == 255, 0, classes)).save(out / f"{pair.image.stem}.png")
    flags = ["--year", "2012"] if name == "VOC" else []
    base = ["--dataset", name, "--root", dataset.root, *flags, "--predictions", out, "--stored", "classes"]
    assert score(capsys, *base)["pixel_accuracy"] == 1


def test_a_list_pairs_images_and_masks_of_different_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "masks/train/train_1.png").rename(folder / "masks/train/other.png")
    (folder / "train.txt").write_text("images/train/train_1.jpg masks/train/other.png\n")
    base = ("--dataset", "Folder", "--root", folder, "--split", "train", "--predictions")
    assert score(capsys, *base, predict(folder, ALL_ROAD))["pixel_accuracy"] == pytest.approx(16 / 19)


def test_a_table_of_black_and_white_masks_is_read_as_the_dataset_reads_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = [{"name": name, "color": [v, v, v], "values": [v]} for name, v in (("ground", 0), ("thing", 255))]
    (folder / "labels.yaml").write_text(yaml.safe_dump({"labels": labels}))
    mask = np.repeat([0, 255], 12).reshape(4, 6).astype(np.uint8)
    Image.fromarray(mask).save(folder / "masks/train/train_1.png")
    base = ("--dataset", "Folder", "--root", folder, "--split", "train", "--predictions", predict(folder, mask))
    assert score(capsys, *base)["miou"] == 1
    assert score(capsys, *base, "--labels", folder / "labels.yaml")["miou"] == 1
