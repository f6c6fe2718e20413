"""Scoring files: every encoding of both sides counts as the class maps would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imageseg.datasets import build_dataset
from imageseg.errors import InputError
from imageseg.labels import Label, LabelSpace
from imageseg.scoring.boundary.iou import Boundary
from imageseg.scoring.calibration import Calibration
from imageseg.scoring.confusion import ConfusionMatrix
from imageseg.scoring.folders.benchmarks import benchmark_of
from imageseg.scoring.folders.pairing import ScoredPair
from imageseg.scoring.folders.score_files import (
    ScoredFiles,
    ScoringOptions,
    confidence_beside,
    score_files,
    wrong_encoding_advice,
)

LABELS = LabelSpace(
    (Label("road", (128, 64, 128), (7,)), Label("car", (0, 0, 142), (26, 27)), Label("sky", (70, 130, 180), (23,))),
    ignored_values=(0, 255),
)
RNG = np.random.default_rng(0)
TRUTHS = [RNG.choice([0, 1, 2, 255], size).astype(np.uint8) for size in ((9, 13), (8, 8), (1, 5))]
CLASSES = [RNG.choice([0, 1, 2, 255], truth.shape).astype(np.uint8) for truth in TRUTHS]


def saved(path: Path, values: npt.NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def pairs_of(
    folder: Path, truths: list[npt.NDArray[np.generic]], classes: list[npt.NDArray[np.generic]]
) -> list[ScoredPair]:
    return [
        ScoredPair(saved(folder / f"truth/{i}.png", true), saved(folder / f"out/{i}.png", predicted), str(i))
        for i, (true, predicted) in enumerate(zip(truths, classes, strict=True))
    ]


def expected() -> ConfusionMatrix:
    confusion = ConfusionMatrix(3)
    for classes, mask in zip(CLASSES, TRUTHS, strict=True):
        confusion.update(classes, mask)
    return confusion


def assert_as_expected(scored: ScoredFiles) -> None:
    assert np.array_equal(scored.confusion.matrix, expected().matrix)
    assert np.array_equal(scored.confusion.missed, expected().missed)
    assert scored.confusion.images == 3
    assert scored.confusion.counts().per_image_miou == expected().counts().per_image_miou
    counts = expected().counts()
    for parts, whole in (
        (scored.per_image.intersection, counts.correct),
        (scored.per_image.true, counts.true),
        (scored.per_image.predicted, counts.predicted),
    ):
        assert np.array_equal(parts.sum(axis=0), whole)


def stored(maps: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.generic]]:
    return [LABELS.decode(classes) for classes in maps]


@pytest.mark.parametrize("workers", [1, 2])
def test_stored_values_on_both_sides(tmp_path: Path, workers: int) -> None:
    assert_as_expected(
        score_files(pairs_of(tmp_path, stored(TRUTHS), stored(CLASSES)), ScoringOptions(LABELS), workers=workers)
    )


def test_predictions_of_class_indices(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, stored(TRUTHS), list(CLASSES))
    assert_as_expected(score_files(pairs, ScoringOptions(LABELS, class_indices=True), workers=1))


def test_sixteen_bits_and_colours(tmp_path: Path) -> None:
    wide = LabelSpace(
        tuple(Label(label.name, label.color, tuple(300 + v for v in label.values)) for label in LABELS.labels),
        ignored_values=(0, 300),
    )
    sixteen = [wide.decode(np.where(mask == 255, 255, mask)) for mask in TRUTHS]
    predicted = [wide.decode(classes) for classes in CLASSES]
    assert sixteen[0].dtype == np.uint16
    assert_as_expected(score_files(pairs_of(tmp_path / "16", sixteen, predicted), ScoringOptions(wide), workers=1))
    colors = [LABELS.colored(classes) for classes in CLASSES]
    assert_as_expected(
        score_files(pairs_of(tmp_path / "rgb", stored(TRUTHS), colors), ScoringOptions(LABELS), workers=1)
    )
    both = pairs_of(tmp_path / "both", [LABELS.colored(mask) for mask in TRUTHS], colors)
    assert_as_expected(score_files(both, ScoringOptions(LABELS), workers=1))


def test_a_missing_prediction_is_all_misses(tmp_path: Path) -> None:
    pairs = [pair._replace(prediction=None) for pair in pairs_of(tmp_path, stored(TRUTHS), stored(CLASSES))[:1]]
    confusion = score_files(pairs, ScoringOptions(LABELS), workers=1).confusion
    assert not confusion.matrix.any()
    assert confusion.missed.tolist() == [(TRUTHS[0] == index).sum() for index in range(3)]


def test_a_value_that_nobody_declared_is_a_miss_in_predictions_and_an_error_in_the_truth(tmp_path: Path) -> None:
    wrong = [np.full((2, 3), 99, np.uint8)]
    good = [np.full((2, 3), 7, np.uint8)]
    assert (
        score_files(pairs_of(tmp_path / "a", good, wrong), ScoringOptions(LABELS), workers=1).confusion.missed[0] == 6
    )
    with pytest.raises(InputError, match=r"truth/0\.png: value 99 \(6 pixels\) is not in the label table"):
        score_files(pairs_of(tmp_path / "b", wrong, good), ScoringOptions(LABELS), workers=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_sizes_that_differ_are_named(tmp_path: Path, workers: int) -> None:
    pairs = pairs_of(tmp_path, [np.full((2, 3), 7, np.uint8)] * 5, [np.full((3, 2), 7, np.uint8)] * 5)
    with pytest.raises(InputError, match=r"out/0\.png: is 2 x 3 pixels, its ground truth .*truth/0\.png is 3 x 2"):
        score_files(pairs, ScoringOptions(LABELS), workers=workers)


def test_the_wrong_kind_of_prediction_is_suspected(tmp_path: Path) -> None:
    indices = score_files(
        pairs_of(tmp_path / "a", stored(TRUTHS), [c % 3 for c in CLASSES]), ScoringOptions(LABELS), workers=1
    )
    assert "correct instead of 0%): pass --stored classes" in str(
        wrong_encoding_advice(indices, ScoringOptions(LABELS))
    )
    reading = ScoringOptions(LABELS, class_indices=True)
    values = score_files(pairs_of(tmp_path / "b", stored(TRUTHS), stored([c % 3 for c in CLASSES])), reading, workers=1)
    assert "omit --stored" in str(wrong_encoding_advice(values, reading))
    good = score_files(pairs_of(tmp_path / "c", stored(TRUTHS), stored(CLASSES)), ScoringOptions(LABELS), workers=1)
    assert wrong_encoding_advice(good, ScoringOptions(LABELS)) is None


def test_boundaries_and_confidence_are_those_of_the_class_maps(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path, stored(TRUTHS), stored(CLASSES))
    boundary, calibration = Boundary(3), Calibration(3)
    for pair, classes, mask in zip(pairs, CLASSES, TRUTHS, strict=True):
        confidence = RNG.integers(0, 256, mask.shape, dtype=np.uint8)
        assert pair.prediction is not None
        saved(confidence_beside(pair.prediction), confidence)
        boundary.update(classes, mask)
        calibration.update(confidence, classes, mask)
    scored = score_files(pairs, ScoringOptions(LABELS, boundary=True, calibration=True), workers=1)
    assert scored.boundary is not None
    assert scored.boundary.to_dict(LABELS.names) == boundary.to_dict(LABELS.names)
    assert scored.calibration is not None
    assert scored.calibration.scores().to_dict(LABELS.names) == calibration.scores().to_dict(LABELS.names)


def test_confidence_that_does_not_fit_is_named(tmp_path: Path) -> None:
    (pair, *_) = pairs_of(tmp_path, stored(TRUTHS), stored(CLASSES))
    assert pair.prediction is not None
    with pytest.raises(InputError, match=r"0_confidence\.png: no such file"):
        score_files([pair], ScoringOptions(LABELS, calibration=True), workers=1)
    saved(confidence_beside(pair.prediction), np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"0_confidence\.png: confidence must be one gray channel of 8 bits"):
        score_files([pair], ScoringOptions(LABELS, calibration=True), workers=1)


def test_ids_shifted_by_one_are_suspected_too(tmp_path: Path) -> None:
    """As in ADE20K, where nearly every class index is a stored value as well: of the class before."""
    ade = LabelSpace(tuple(Label(f"c{i}", (i, i, i), (i + 1,)) for i in range(20)), ignored_values=(0,))
    classes = RNG.integers(0, 20, (30, 30)).astype(np.uint8)
    pairs = pairs_of(tmp_path, [ade.decode(classes)], [classes])
    scored = score_files(pairs, ScoringOptions(ade), workers=1)
    assert "as class indices (100% correct instead of 0%)" in str(wrong_encoding_advice(scored, ScoringOptions(ade)))


def test_values_outside_sixteen_bits_are_misses(tmp_path: Path) -> None:
    """A -1 is not the class 0."""
    (pair,) = pairs_of(tmp_path, [np.full((2, 3), 7, np.uint8)], [np.zeros((2, 3), np.uint8)])
    for value in (-1, 70_000):
        path = tmp_path / "out" / f"{value}.tif"
        Image.fromarray(np.full((2, 3), value, np.int32)).save(path)
        for class_indices in (False, True):
            reading = ScoringOptions(LABELS, class_indices=class_indices)
            assert score_files([pair._replace(prediction=path)], reading, workers=1).confusion.missed[0] == 6


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "colours"])
def test_instances_are_scored_alike_whatever_the_prediction_is_saved_as(tmp_path: Path, kind: str) -> None:
    benchmark, labels = benchmark_of("Cityscapes"), build_dataset("Cityscapes", masks="labelIds").labels
    true = np.array([[26, 26, 26, 26, 24, 24, 7, 7]], np.uint8)
    truth = saved(tmp_path / "truth/a_0_1_gtFine_labelIds.png", true)
    instances = np.where(true >= 24, 1000 * true.astype(np.uint16), true).astype(np.uint16)
    saved(tmp_path / "truth/a_0_1_gtFine_instanceIds.png", instances)
    ids = np.array([[26, 26, 7, 27, 24, 25, 7, 26]], np.uint8)
    as_saved = {"8 bits": ids, "16 bits": ids.astype(np.uint16), "colours": labels.colored(labels.encode(ids))}[kind]
    pair = ScoredPair(truth, saved(tmp_path / "out/a_0_1.png", as_saved), "a_0_1")
    scores = score_files(
        [pair], ScoringOptions(labels, read_instances=benchmark.read_instances), workers=1
    ).confusion.scores("cityscapes")
    by_class = scores.extra["instance_iou"]
    assert isinstance(by_class, dict)
    size = 12794.0202738185 / 4
    assert by_class["car"] == pytest.approx(2 * size / (4 * size + 1))


def test_instances_of_another_size_are_named(tmp_path: Path) -> None:
    benchmark, labels = benchmark_of("Cityscapes"), build_dataset("Cityscapes", masks="labelIds").labels
    truth = saved(tmp_path / "truth/a_0_1_gtFine_labelIds.png", np.full((4, 4), 7, np.uint8))
    pair = ScoredPair(truth, saved(tmp_path / "out/a_0_1.png", np.full((4, 4), 7, np.uint8)), "a_0_1")
    for wrong in (np.full((2, 4), 7, np.uint16), np.full((8, 8), 7, np.uint16), np.zeros((4, 4, 3), np.uint8)):
        saved(tmp_path / "truth/a_0_1_gtFine_instanceIds.png", wrong)
        with pytest.raises(InputError, match=r"a_0_1_gtFine_instanceIds\.png: is not an instance map of the same size"):
            score_files([pair], ScoringOptions(labels, read_instances=benchmark.read_instances), workers=1)
