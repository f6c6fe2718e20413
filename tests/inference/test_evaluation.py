"""evaluate: the scores of a checkpoint over a split, every image at its own size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from imageseg.errors import InputError
from imageseg.inference.evaluation import evaluate, split_to_score
from imageseg.labels import Label, LabelSpace
from imageseg.models.base import Network
from imageseg.recipe import Recipe
from imageseg.scoring.calibration import Calibration
from imageseg.scoring.confusion import ConfusionMatrix

LABELS = LabelSpace((Label("road", (9, 9, 9), (7,)), Label("car", (0, 0, 99), (26,)), Label("tree", (0, 99, 0), (21,))))
SIZES = {"train": [(33, 40)], "val": [(33, 40), (40, 33), (48, 64)], "test": [(35, 35), (33, 47)]}

WriteCheckpoint = Callable[..., Network]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Random images of different sizes; the masks store 7, 26 and 21, and 255 for what is ignored."""
    rng = np.random.default_rng(0)
    root = tmp_path / "mine"
    for split, sizes in SIZES.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index, size in enumerate(sizes):
            image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            stored = rng.choice(np.array([7, 26, 21, 255], np.uint8), size)
            Image.fromarray(image).save(root / "images" / split / f"{index}.png")
            Image.fromarray(stored).save(root / "masks" / split / f"{index}.png")
    (root / "labels.yaml").write_text(yaml.safe_dump(LABELS.to_dict()))
    return root


def _recipe(root: Path, **data: object) -> Recipe:
    return Recipe("Folder", "UNet", data={"root": str(root), "num_workers": 0, "crop_size": [32, 32], **data})


def _by_hand(network: Network, root: Path, split: str) -> ConfusionMatrix:
    confusion = ConfusionMatrix(3)
    index_of = {7: 0, 26: 1, 21: 2, 255: 255}
    for path in sorted((root / "images" / split).iterdir()):
        image = np.array(Image.open(path))
        stored = np.array(Image.open(root / "masks" / split / path.name))
        with torch.no_grad():
            logits = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
        confusion.update(logits.argmax(0).numpy(), np.vectorize(index_of.get)(stored))
    return confusion


@pytest.mark.parametrize("num_workers", [0, 1])
def test_scores_are_those_of_every_image_at_its_own_size(
    root: Path, tmp_path: Path, write_run: WriteCheckpoint, num_workers: int
) -> None:
    network = write_run(tmp_path / "best.ckpt", LABELS)
    steps: list[tuple[int, int]] = []
    scores = evaluate(
        _recipe(root, num_workers=num_workers),
        tmp_path / "best.ckpt",
        split="val",
        device="cpu",
        progress=lambda done, total: steps.append((done, total)),
    )
    expected = _by_hand(network, root, "val").scores()
    assert scores.images == 3
    assert scores.iou.tolist() == pytest.approx(expected.iou.tolist(), abs=0.003)  # a tie may turn
    assert scores.pixel_accuracy == pytest.approx(expected.pixel_accuracy, abs=0.003)
    assert 0.05 < scores.miou < 0.5, "a random network on random masks"
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("data", "split", "images"), [({}, None, 2), ({"test_split": "val"}, None, 3), ({"test_split": "val"}, "train", 1)]
)
def test_the_split_is_the_one_asked_for_or_the_recipes_or_the_datasets(
    root: Path, tmp_path: Path, write_run: WriteCheckpoint, data: dict[str, str], split: str | None, images: int
) -> None:
    write_run(tmp_path / "best.ckpt", LABELS)
    recipe = _recipe(root, **data)
    assert split_to_score(recipe) == data.get("test_split", "test")
    assert evaluate(recipe, tmp_path / "best.ckpt", split=split, device="cpu").images == images


def test_calibration_is_that_of_the_networks_probabilities(
    root: Path, tmp_path: Path, write_run: WriteCheckpoint
) -> None:
    network = write_run(tmp_path / "best.ckpt", LABELS)
    arguments = {"split": "val", "device": "cpu"}
    calibration = Calibration(3)
    scores = evaluate(_recipe(root), tmp_path / "best.ckpt", calibration=calibration, **arguments)
    assert scores.to_dict("abc") == evaluate(_recipe(root), tmp_path / "best.ckpt", **arguments).to_dict("abc")
    expected = Calibration(3)
    index_of = {7: 0, 26: 1, 21: 2, 255: 255}
    for path in sorted((root / "images" / "val").iterdir()):
        stored = np.array(Image.open(root / "masks" / "val" / path.name))
        with torch.no_grad():
            logits = network(torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None])[0]
        mask = np.vectorize(index_of.get)(stored).astype(np.uint8)
        expected.update_probabilities(logits.softmax(0).numpy(), mask)
    found, wanted = calibration.scores(), expected.scores()
    assert found.images == 3
    assert (found.ece, found.brier, found.nll) == pytest.approx((wanted.ece, wanted.brier, wanted.nll), abs=0.003)
    assert found.accuracy == pytest.approx(scores.pixel_accuracy, abs=0.003)
    assert wanted.ece > 0.05, "a random network is badly calibrated"


def test_a_checkpoint_of_other_labels_is_refused(root: Path, tmp_path: Path, write_run: WriteCheckpoint) -> None:
    others = LabelSpace((*LABELS.labels[:2], Label("sky", (0, 0, 1), (23,))))
    write_run(tmp_path / "best.ckpt", others)
    with pytest.raises(InputError, match=r"best.ckpt: has the classes road, car, sky; Folder has road, car, tree"):
        evaluate(_recipe(root), tmp_path / "best.ckpt", device="cpu")


def test_a_split_that_is_not_there_is_refused(root: Path, tmp_path: Path, write_run: WriteCheckpoint) -> None:
    write_run(tmp_path / "best.ckpt", LABELS)
    with pytest.raises(InputError, match="no split 'trian'"):
        evaluate(_recipe(root), tmp_path / "best.ckpt", split="trian", device="cpu")


def test_a_damaged_image_is_named_in_one_line(root: Path, tmp_path: Path, write_run: WriteCheckpoint) -> None:
    write_run(tmp_path / "best.ckpt", LABELS)
    damaged = root / "images" / "val" / "1.png"
    damaged.write_bytes(b"damaged")
    with pytest.raises(InputError) as refused:
        evaluate(_recipe(root), tmp_path / "best.ckpt", split="val", device="cpu")
    assert refused.value.line() == f"{damaged}: is not an image in a known format"


def test_the_rules_are_the_datasets_own_or_those_asked_for(
    root: Path, tmp_path: Path, write_run: WriteCheckpoint
) -> None:
    write_run(tmp_path / "best.ckpt", LABELS)
    assert evaluate(_recipe(root), tmp_path / "best.ckpt", split="val", device="cpu").dialect == "default"
    camvid = evaluate(_recipe(root), tmp_path / "best.ckpt", split="val", device="cpu", dialect="camvid")
    assert camvid.dialect == "camvid"
    with pytest.raises(InputError, match="no metric protocol is called 'camvit'"):
        evaluate(_recipe(root), "not even read.ckpt", dialect="camvit")
