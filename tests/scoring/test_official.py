"""Figures that the official evaluators printed for recipes anyone can repeat on the real samples.

cityscapesScripts 2.3.0, bdd100k 1.0.1 and scalabel 0.3.1, in an environment of their own: benchmarks/official_scores.py
runs them beside ours. Here their figures are kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imageseg.cli import main
from imageseg.datasets.bdd100k.scalabel import paint, read_frames

pytestmark = pytest.mark.samples

EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def score(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["score", *map(str, arguments), "--workers", "1", "--json"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def cityscapes_prediction(stored: np.ndarray) -> np.ndarray:
    """Seven pixels to the right; whatever is not evaluated is road, and riders are persons."""
    moved = np.roll(stored, 7, axis=1)
    moved = np.where(np.isin(moved, EVALUATED), moved, 7)
    return np.where(moved == 25, 24, moved).astype(np.uint8)


@pytest.fixture
def cityscapes(samples: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The first four frames of Frankfurt, and predictions in label ids."""
    truth, predictions = tmp_path / "gtFine" / "val" / "frankfurt", tmp_path / "results"
    truth.mkdir(parents=True)
    predictions.mkdir()
    for path in sorted((samples / "cityscapes/gtFine/val").rglob("*_gtFine_labelIds.png"))[:4]:
        for kind in ("labelIds", "instanceIds"):
            (truth / path.name.replace("labelIds", kind)).symlink_to(
                path.with_name(path.name.replace("labelIds", kind))
            )
        moved = cityscapes_prediction(np.array(Image.open(path)))
        Image.fromarray(moved).save(predictions / path.name.replace("_gtFine_labelIds", "_leftImg8bit"))
    return tmp_path / "gtFine" / "val", predictions


def test_cityscapes(cityscapes: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    truth, predictions = cityscapes
    scores = score(capsys, "--dataset", "CityscapeModule", "--truth", truth, "--predictions", predictions)
    assert scores["dialect"] == "cityscapes"
    assert scores["images"] == 4
    assert scores["miou"] == pytest.approx(0.7080932498874082, abs=1e-9)
    assert scores["iiou"] == pytest.approx(0.544200053238777, abs=1e-9)
    assert scores["category_miou"] == pytest.approx(0.7893629668536131, abs=1e-9)
    assert scores["category_iiou"] == pytest.approx(0.6910233281869866, abs=1e-9)
    assert [name for name, iou in scores["iou"].items() if iou is None] == ["truck", "bus"]


def test_cityscapes_predictions_in_train_ids_score_the_same(
    cityscapes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, predictions = cityscapes
    train_ids = np.full(256, 255, np.uint8)
    train_ids[EVALUATED] = range(19)
    for path in predictions.iterdir():
        Image.fromarray(train_ids[np.array(Image.open(path))]).save(path)
    arguments = ("--dataset", "Cityscapes", "--truth", truth, "--predictions", predictions)
    scores = score(capsys, *arguments, "--stored", "trainIds")
    assert scores["miou"] == pytest.approx(0.7080932498874082, abs=1e-9)
    assert scores["iiou"] == pytest.approx(0.544200053238777, abs=1e-9)
    assert main(["score", *map(str, arguments), "--workers", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["miou"] < 0.01, "the usual mistake"
    assert "pass --stored classes" in captured.err


def test_cityscapes_truth_in_train_ids_scores_the_same(
    cityscapes: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without instances, which only label ids have."""
    truth, predictions = cityscapes
    train_ids = np.full(256, 255, np.uint8)
    train_ids[EVALUATED] = range(19)
    for path in sorted(truth.rglob("*_labelIds.png")):
        values = train_ids[np.array(Image.open(path))]
        path.unlink()
        Image.fromarray(values).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    for path in predictions.iterdir():
        Image.fromarray(train_ids[np.array(Image.open(path))]).save(path)
    arguments = ("--dataset", "Cityscapes", "--truth", truth, "--predictions", predictions, "--stored", "trainIds")
    scores = score(capsys, *arguments)
    assert scores["miou"] == pytest.approx(0.7080932498874082, abs=1e-9)
    assert scores["iiou"] is None


@pytest.fixture
def bdd100k(samples: Path, tmp_path: Path) -> tuple[Path, Path]:
    truth = samples / "bdd100k_sample/labels/sem_seg/colormaps/val"
    for path in truth.glob("*.png"):
        moved = np.roll(np.array(Image.open(path)), 5, axis=1)
        Image.fromarray(np.where(np.isin(moved, (255, 1)), 0, moved).astype(np.uint8)).save(tmp_path / path.name)
    return truth, tmp_path


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (None, (0.7037450876412603, 0.7889307455796806, 0.9220001001565699, 0.9581594120002657)),
        ("7d89b471-5b76bdb4", (0.6161494425173437, 0.7804206694507421, 0.8179499219789636, 0.8362165637379098)),
    ],
)
def test_bdd100k(
    bdd100k: tuple[Path, Path],
    missing: str | None,
    expected: tuple[float, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    truth, predictions = bdd100k
    if missing:
        (predictions / f"{missing}.png").unlink()
    scores = score(capsys, "--dataset", "BDD100K", "--truth", truth, "--predictions", predictions)
    assert scores["dialect"] == "bdd100k"
    figures = [scores[name] for name in ("miou", "class_accuracy", "fw_iou", "pixel_accuracy")]
    assert figures == pytest.approx(list(expected), abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        ("gt", (0.6173469387755102, 0.8127147766323024, 0.9091836734693878, 0.95)),
        ("gt+", (0.31911057692307693,)),
    ],
)
def test_the_bdd100k_toolkits_own_test(
    samples: Path, truth: str, expected: tuple[float, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Masks of 10 x 10; in "gt+" the second has no prediction."""
    base = samples / "bdd100k_toolkit_testcases/tests/eval/testcases/seg"
    scores = score(capsys, "--dataset", "BDD100K", "--truth", base / truth, "--predictions", base / "pred")
    figures = [scores[name] for name in ("miou", "class_accuracy", "fw_iou", "pixel_accuracy")]
    assert figures[: len(expected)] == pytest.approx(list(expected), abs=1e-9)


@pytest.mark.parametrize("side", ["rle", "poly2d"])
def test_scalabels_own_test(samples: Path, tmp_path: Path, side: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run lengths, or polygons drawn as the masks of that frame were released, against its shipped predictions."""
    base = samples / "scalabel_testcases/sem_seg"
    (truth,) = read_frames(base / "sem_seg_sample.json")
    (predicted,) = read_frames(base / "sem_seg_preds.json")
    if side == "poly2d":
        pytest.importorskip("matplotlib")
        truth = truth._replace(labels=tuple({**label, "rle": None} for label in truth.labels))
    for folder, frame in (("truth", truth), ("out", predicted)):
        (tmp_path / folder).mkdir()
        Image.fromarray(paint(frame, source=base).mask).save(tmp_path / folder / f"{Path(frame.name).stem}.png")
    scores = score(capsys, "--dataset", "BDD100K", "--truth", tmp_path / "truth", "--predictions", tmp_path / "out")
    figures = [scores[name] for name in ("miou", "class_accuracy", "fw_iou", "pixel_accuracy")]
    expected = [0.7769367702513847, 0.8508073850792114, 0.9596580841723501, 0.9759265266143856]
    assert figures == pytest.approx(expected, abs=1e-9)


def test_camvid(samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = samples / "camvid/masks/val"
    for path in truth.glob("*.png"):
        moved = np.roll(np.array(Image.open(path)), 3, axis=1)
        Image.fromarray(np.where(moved == 11, 3, moved).astype(np.uint8)).save(tmp_path / path.name)
    scores = score(capsys, "--dataset", "CamVid", "--truth", truth, "--predictions", tmp_path, "--explain")
    assert scores["miou"] == pytest.approx(0.763532, abs=5e-7)
    assert scores["pixel_accuracy"] == pytest.approx(0.953149, abs=5e-7)
    assert scores["class_accuracy"] == pytest.approx(0.833062, abs=5e-7)
    assert scores["dialects"]["per_image"]["miou"] == pytest.approx(0.743873, abs=5e-7)
