"""Predictor: the network of a checkpoint, its classes at the image's size, and one line for what does not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imageseg.errors import InputError
from imageseg.inference import predictor as predictor_module
from imageseg.inference.predictor import Predictor
from imageseg.labels import Label, LabelSpace
from imageseg.models.base import Network

LABELS = LabelSpace(tuple(Label(name, (index, 9, 9), (index,)) for index, name in enumerate("abcde")))
IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)

WriteCheckpoint = Callable[..., Network]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.ckpt"


def _logits(network: Network, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])[0].numpy()


def test_classes_are_the_networks_argmax_at_the_images_size(path: Path, write_run: WriteCheckpoint) -> None:
    network = write_run(path, LABELS)
    predictor = Predictor.from_checkpoint(path, device="cpu")
    prediction = predictor(IMAGE)
    assert prediction.classes.dtype == np.uint8
    assert prediction.classes.shape == (37, 53)
    assert len(np.unique(prediction.classes)) > 2, "the comparison is worth something"
    # Another memory order rounds in another way, which may turn a tie.
    assert (prediction.classes == _logits(network, IMAGE).argmax(axis=0)).mean() > 0.999
    assert prediction.confidence is None
    assert prediction.labels == predictor.labels == LABELS
    assert predictor.recipe is not None
    assert predictor.recipe.model == "UNet"
    assert not predictor.network.training


@pytest.mark.parametrize("hardware", [True, False])
def test_fast_folds_and_takes_bfloat16_where_it_is_hardware(
    *, hardware: bool, path: Path, write_run: WriteCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(path, LABELS)
    monkeypatch.setattr(predictor_module, "has_fast_bfloat16", lambda device: hardware)
    plain, fast = (Predictor.from_checkpoint(path, device="cpu", fast=fast) for fast in (False, True))
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fast.network.modules())
    seen: list[torch.dtype] = []
    fast.network.classifier.register_forward_hook(lambda _, __, logits: seen.append(logits.dtype))  # type: ignore[operator, union-attr]
    sure, quick = plain(IMAGE, confidence=True), fast(IMAGE, confidence=True)
    assert seen == [torch.bfloat16 if hardware else torch.float32]
    assert quick.confidence is not None
    assert quick.confidence.dtype == np.float32
    assert (sure.classes == quick.classes).mean() > (0.9 if hardware else 0.999)


def test_weights_are_taken_over_bit_by_bit(path: Path, write_run: WriteCheckpoint) -> None:
    network = write_run(path, LABELS)
    loaded = Predictor.from_checkpoint(path).network.state_dict()
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name].cpu(), value) for name, value in network.state_dict().items())


def test_confidence_is_the_probability_of_the_class(path: Path, write_run: WriteCheckpoint) -> None:
    network = write_run(path, LABELS)
    predictor = Predictor.from_checkpoint(path, device="cpu")
    sure = predictor(IMAGE, confidence=True)
    logits = _logits(network, IMAGE).astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=0))
    expected = (exponents / exponents.sum(axis=0)).max(axis=0)
    assert sure.confidence is not None
    assert sure.confidence.dtype == np.float32
    assert np.abs(sure.confidence - expected).max() < 1e-3
    assert np.array_equal(sure.classes, predictor(IMAGE).classes)


def test_probabilities_of_all_classes_sum_to_one(path: Path, write_run: WriteCheckpoint) -> None:
    write_run(path, LABELS)
    predictor = Predictor.from_checkpoint(path, device="cpu")
    probabilities, prediction = predictor.probabilities(IMAGE), predictor(IMAGE, confidence=True)
    assert (probabilities.shape, probabilities.dtype) == ((5, 37, 53), np.float32)
    assert probabilities.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(probabilities.max(axis=0), prediction.confidence)
    assert np.array_equal(probabilities.argmax(axis=0), prediction.classes)


def test_a_path_a_read_only_image_and_a_mirrored_one(path: Path, tmp_path: Path, write_run: WriteCheckpoint) -> None:
    write_run(path, LABELS)
    predictor = Predictor.from_checkpoint(path)
    expected = predictor(IMAGE).classes
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    assert np.array_equal(predictor(tmp_path / "image.png").classes, expected)
    assert np.array_equal(predictor(str(tmp_path / "image.png")).classes, expected)
    read_only = np.asarray(Image.fromarray(IMAGE))
    assert not read_only.flags.writeable
    assert np.array_equal(predictor(read_only).classes, expected)
    bgr = np.ascontiguousarray(IMAGE[..., ::-1])
    assert np.array_equal(predictor(bgr[..., ::-1]).classes, expected)
    assert not np.array_equal(predictor(bgr).classes, expected)


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (IMAGE[..., 0], r"\(37, 53\) uint8"),
        (IMAGE.astype(np.float32), r"\(37, 53, 3\) float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) uint8"),
    ],
)
def test_what_is_no_rgb_image_is_refused(path: Path, write_run: WriteCheckpoint, image: np.ndarray, found: str) -> None:
    write_run(path, LABELS)
    with pytest.raises(ValueError, match=rf"must be \(H, W, 3\) uint8 RGB, found {found}"):
        Predictor.from_checkpoint(path)(image)


def test_weights_of_another_network_are_refused_in_one_line(path: Path, write_run: WriteCheckpoint) -> None:
    write_run(path, LABELS, claimed="DeepLabv3_plus")
    with pytest.raises(
        InputError, match=r"last.ckpt: its weights do not fit DeepLabv3_plus \(.*Missing key"
    ) as refused:
        Predictor.from_checkpoint(path)
    assert "\n" not in refused.value.line()
    assert len(refused.value.line()) < 500


def test_weights_of_other_labels_are_refused(path: Path, write_run: WriteCheckpoint) -> None:
    fewer = LabelSpace(LABELS.labels[:3])
    write_run(path, LABELS, claimed_labels=fewer)
    with pytest.raises(InputError, match=r"its weights do not fit UNet .*size mismatch for classifier"):
        Predictor.from_checkpoint(path)


def test_a_missing_checkpoint_is_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"last.ckpt: no such checkpoint"):
        Predictor.from_checkpoint(path)


@pytest.mark.parametrize(
    ("device", "message"), [("banana", "no device is called 'banana'"), ("cuda:99", "device 'cuda:99' cannot be used")]
)
def test_a_device_that_is_not_there_is_refused_in_one_line(
    path: Path, write_run: WriteCheckpoint, device: str, message: str
) -> None:
    write_run(path, LABELS)
    with pytest.raises(InputError, match=message) as refused:
        Predictor.from_checkpoint(path, device=device)
    assert "\n" not in refused.value.line()


def test_predicting_imports_nothing_of_training() -> None:
    code = (
        "import sys, imageseg.inference.predictor\n"
        "print(*({'pytorch_lightning', 'lightning', 'albumentations', 'tensorboard', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
