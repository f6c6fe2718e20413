"""`imageseg score` equals the official evaluators on synthetic label maps, to 1e-9, in every checkout.

The maps are generated (label_maps.py), the evaluators' outputs are recorded (scores.json, which names the command and the
versions). VOC's development kit is a MATLAB program; voc_rule.py is a second implementation of its formula.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from label_maps import WRITERS, digest
from PIL import Image
from voc_rule import voc_scores

from imageseg.cli import main

RECORD = json.loads((Path(__file__).parent / "scores.json").read_text())
DATASETS = {"cityscapes": "Cityscapes", "bdd100k": "BDD100K", "scalabel": "BDD100K", "voc": "VOC"}
CASES = [(name, number) for name in WRITERS for number in range(len(RECORD["sets"][name]))]
TOLERANCE = 1e-9


def score(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    arguments = ["--dataset", DATASETS[name], "--truth", folder / "truth", "--predictions", folder / "predictions"]
    assert main(["score", *map(str, arguments), "--workers", "1", "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def check(ours: float | None, official: float | None, what: str) -> None:
    """None stands for NaN on both sides."""
    if official is None or ours is None:
        assert ours is None, what
        assert official is None, what
    else:
        assert math.isclose(ours, official, rel_tol=0, abs_tol=TOLERANCE), f"{what}: {ours} instead of {official}"


@pytest.mark.parametrize(("name", "number"), CASES)
def test_scores_equal_the_official_ones(
    name: str, number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = RECORD["sets"][name][number]
    WRITERS[name](tmp_path, RECORD["seed"], number)
    assert digest(tmp_path) == recorded["sha256"], "these are not the maps that the evaluator scored"
    ours, official = score(tmp_path, name, capsys), recorded["scores"]
    if name == "cityscapes":
        check_cityscapes(ours, official)
    elif name == "voc":
        check_voc(ours, official)
        again = voc_scores(tmp_path)
        assert again["avacc"] == pytest.approx(official["avacc"], abs=1e-9)
        assert again["accuracies"] == pytest.approx(official["accuracies"], abs=1e-9)
    else:
        check_bdd100k(ours, official)


def check_cityscapes(ours: dict[str, Any], official: dict[str, Any]) -> None:
    for theirs, mine in (
        ("averageScoreClasses", "miou"),
        ("averageScoreInstClasses", "iiou"),
        ("averageScoreCategories", "category_miou"),
        ("averageScoreInstCategories", "category_iiou"),
    ):
        check(ours[mine], official[theirs], mine)
    for theirs, mine in (
        ("classScores", "iou"),
        ("classInstScores", "instance_iou"),
        ("categoryScores", "category_iou"),
        ("categoryInstScores", "category_instance_iou"),
    ):
        assert ours[mine], mine
        for key, value in ours[mine].items():
            check(value, official[theirs][key], f"{mine} of {key}")


def check_bdd100k(ours: dict[str, Any], official: dict[str, Any]) -> None:
    """The toolkits report percentages."""
    for theirs, mine in (("mIoU", "miou"), ("mAcc", "class_accuracy"), ("fIoU", "fw_iou"), ("pAcc", "pixel_accuracy")):
        check(ours[mine], official[theirs] / 100, mine)
    for theirs, mine in (("IoU", "iou"), ("Acc", "precision")):
        for (key, value), theirs_of_class in zip(ours[mine].items(), official[theirs], strict=True):
            check(value, theirs_of_class / 100, f"{mine} of {key}")


def check_voc(ours: dict[str, Any], official: dict[str, Any]) -> None:
    check(ours["miou"], official["avacc"] / 100, "miou")
    for (key, value), accuracy in zip(ours["iou"].items(), official["accuracies"], strict=True):
        check(value, accuracy / 100, f"IoU of {key}")


def test_the_record_covers_what_evaluators_treat_differently() -> None:
    sets = RECORD["sets"]
    assert {name: len(found) for name, found in sets.items()} == dict.fromkeys(WRITERS, 6)
    classes = [value for entry in sets["cityscapes"] for value in entry["scores"]["classScores"].values()]
    assert any(value is None for value in classes), "absent classes"
    assert any(value == 0 for value in classes), "classes that are only predicted or never found"
    assert any(0 < value < 1 for value in classes if value is not None)
    classes = [value for entry in sets["bdd100k"] for value in entry["scores"]["IoU"]]
    assert 0 in classes
    assert RECORD["versions"].keys() == {"cityscapesscripts", "bdd100k", "scalabel", "numpy", "pycocotools", "python"}


def test_one_set_lacks_a_prediction(tmp_path: Path) -> None:
    """BDD100K counts all pixels of an image without prediction as misses."""
    WRITERS["bdd100k"](tmp_path, RECORD["seed"], 2)
    truth, predictions = (len(list((tmp_path / side).iterdir())) for side in ("truth", "predictions"))
    assert predictions == truth - 1


def test_a_changed_label_map_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The comparison fails if a single pixel of a prediction changes."""
    WRITERS["cityscapes"](tmp_path, RECORD["seed"], 0)
    path = next((tmp_path / "truth").glob("*_labelIds.png"))
    true = Image.open(path)
    prediction = next((tmp_path / "predictions").glob(f"{path.name[:18]}*.png"))
    changed = Image.open(prediction).copy()
    place = next(
        (x, y)
        for y in range(true.height)
        for x in range(true.width)
        if true.getpixel((x, y)) in (7, 8, 11, 21, 23, 24, 26) and changed.getpixel((x, y)) == true.getpixel((x, y))
    )
    changed.putpixel(place, 0)
    changed.save(prediction)
    ours = score(tmp_path, "cityscapes", capsys)
    with pytest.raises(AssertionError, match="miou"):
        check_cityscapes(ours, RECORD["sets"]["cityscapes"][0]["scores"])
